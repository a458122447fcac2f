use serde_json::{Value, json};

use super::*;

fn meta(value: Value) -> ObjectMeta {
    serde_json::from_value(value).expect("metadata")
}

fn identity(kind: &str, namespace: &str, name: &str) -> Identity {
    Identity {
        kind: ObjectKind {
            api_version: "v1".into(),
            kind: kind.into(),
        },
        namespace: namespace.into(),
        name: name.into(),
        uid: format!("u-{name}").into(),
    }
}

fn owned_by(owner: &str, blocks: bool) -> Value {
    json!([{"apiVersion": "v1", "kind": "Set", "name": owner, "uid": format!("u-{owner}"), "blockOwnerDeletion": blocks}])
}

fn reference(name: &str, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: "v1".into(),
        kind: "Set".into(),
        name: name.into(),
        uid: format!("u-{uid}"),
        ..OwnerReference::default()
    }
}

fn apply(graph: &mut Graph, name: &str, fields: Value) -> Vec<String> {
    let kind = if name.starts_with('s') { "Set" } else { "Pod" };
    sorted(graph.apply(identity(kind, "d", name), &meta(fields)))
}

fn sorted(look: Vec<Uid>) -> Vec<String> {
    let mut look: Vec<String> = look.iter().map(|uid| uid.to_string()).collect();
    look.sort();
    look.dedup();
    look
}

const NOTHING: [&str; 0] = [];

#[test]
fn dependents_of_a_removed_owner_are_looked_at() {
    let mut graph = Graph::default();
    assert_eq!(apply(&mut graph, "s1", json!({})), NOTHING);
    for pod in ["p1", "p2"] {
        let fields = json!({"ownerReferences": owned_by("s1", true)});
        assert_eq!(apply(&mut graph, pod, fields), NOTHING);
    }
    assert_eq!(sorted(graph.remove("u-s1")), ["u-p1", "u-p2"]);
    assert!(graph.is_absent(&reference("s1", "s1"), "d"));
    assert!(
        !graph.is_absent(&reference("s2", "s1"), "d"),
        "another name"
    );
    // One that comes late.
    let late = json!({"ownerReferences": owned_by("s1", true)});
    assert_eq!(apply(&mut graph, "p3", late), ["u-p3"]);
    assert_eq!(sorted(graph.remove("u-p1")), NOTHING);
}

#[test]
fn an_unknown_owner_is_looked_for() {
    let mut graph = Graph::default();
    let fields = json!({"ownerReferences": owned_by("s1", true)});
    assert_eq!(apply(&mut graph, "p1", fields.clone()), ["u-s1"]);
    let view = graph.view("u-s1").expect("a node");
    assert!(view.by_reference);
    assert_eq!(view.identity, identity("Set", "d", "s1"));
    // It is not there:
    assert_eq!(
        sorted(graph.remove_absent(&identity("Set", "d", "s1"))),
        ["u-p1"]
    );
    assert_eq!(graph.view("u-s1"), None);
    // It comes after all:
    assert_eq!(
        apply(&mut graph, "p2", fields),
        ["u-p2"],
        "known to be gone"
    );
    let mut graph = Graph::default();
    apply(
        &mut graph,
        "p1",
        json!({"ownerReferences": owned_by("s1", true)}),
    );
    assert_eq!(apply(&mut graph, "s1", json!({})), NOTHING);
    assert_eq!(
        sorted(graph.remove_absent(&identity("Set", "d", "s1"))),
        NOTHING
    );
    assert!(graph.view("u-s1").is_some_and(|view| view.has_dependents));
}

#[test]
fn a_reference_to_the_wrong_place_makes_the_dependent_suspect() {
    // Owner first, owner last.
    for owner_first in [true, false] {
        let mut graph = Graph::default();
        let owner = identity("Set", "elsewhere", "s1");
        let pod = json!({"ownerReferences": owned_by("s1", true)});
        let look = if owner_first {
            graph.apply(owner, &ObjectMeta::default());
            apply(&mut graph, "p1", pod)
        } else {
            apply(&mut graph, "p1", pod);
            sorted(graph.apply(owner, &ObjectMeta::default()))
        };
        assert_eq!(look, ["u-p1"], "{owner_first}");
    }
    let mut graph = Graph::default();
    graph.apply(identity("Set", "", "s1"), &ObjectMeta::default());
    let pod = json!({"ownerReferences": owned_by("s1", true)});
    assert_eq!(
        apply(&mut graph, "p1", pod),
        NOTHING,
        "a cluster-scoped owner"
    );
}

#[test]
fn a_wrong_reference_does_not_make_an_owner_absent_for_others() {
    let mut graph = Graph::default();
    apply(&mut graph, "p1", json!({"ownerReferences": misnaming()}));
    let right = json!({"ownerReferences": owned_by("s1", true)});
    assert_eq!(
        apply(&mut graph, "p2", right),
        NOTHING,
        "looked for already"
    );
    // Nothing is called "other": p1 is lost, and the owner is looked for where p2 says.
    let place = graph.view("u-s1").expect("a node").identity;
    assert_eq!(place.name, "other");
    assert_eq!(sorted(graph.remove_absent(&place)), ["u-p1", "u-s1"]);
    assert_eq!(graph.view("u-s1").expect("a node").identity.name, "s1");
    assert!(!graph.is_absent(&reference("s1", "s1"), "d"));
    apply(&mut graph, "s1", json!({}));
    assert_eq!(sorted(graph.remove("u-s1")), ["u-p2"], "still linked");

    // The owner comes before the first place was looked at.
    let mut graph = Graph::default();
    apply(
        &mut graph,
        "p2",
        json!({"ownerReferences": owned_by("s1", true)}),
    );
    apply(&mut graph, "p1", json!({"ownerReferences": misnaming()}));
    assert_eq!(apply(&mut graph, "s1", json!({})), ["u-p1"]);
}

fn misnaming() -> Value {
    let mut wrong = owned_by("s1", true);
    wrong[0]["name"] = "other".into();
    wrong
}

#[test]
fn foreground_deletion_asks_for_dependents_and_waits_for_blocking_ones() {
    let mut graph = Graph::default();
    apply(&mut graph, "s1", json!({}));
    for (pod, blocks) in [("p1", true), ("p2", false)] {
        apply(
            &mut graph,
            pod,
            json!({"ownerReferences": owned_by("s1", blocks)}),
        );
    }
    let marked =
        json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["foregroundDeletion"]});
    assert_eq!(
        apply(&mut graph, "s1", marked.clone()),
        ["u-p1", "u-p2", "u-s1"]
    );
    assert_eq!(apply(&mut graph, "s1", marked), NOTHING, "once");
    let blocking = graph.blocking("u-s1");
    assert_eq!(blocking, [("u-p1".into(), false)]);
    // A dependent that comes while its owner waits.
    let late = json!({"ownerReferences": owned_by("s1", true)});
    assert_eq!(apply(&mut graph, "p3", late.clone()), ["u-p3"]);
    // One that stops blocking, one that lets go, one that is gone.
    let unblocked = json!({"ownerReferences": owned_by("s1", false)});
    assert_eq!(apply(&mut graph, "p3", unblocked), ["u-s1"]);
    apply(&mut graph, "p4", late);
    assert_eq!(apply(&mut graph, "p4", json!({})), ["u-s1"]);
    assert_eq!(sorted(graph.remove("u-p1")), ["u-s1"]);
    assert_eq!(graph.blocking("u-s1"), []);
}

#[test]
fn orphaning_is_looked_at_once() {
    let mut graph = Graph::default();
    apply(&mut graph, "s1", json!({}));
    let marked = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["orphan"]});
    assert_eq!(apply(&mut graph, "s1", marked.clone()), ["u-s1"]);
    assert_eq!(apply(&mut graph, "s1", marked.clone()), NOTHING);
    assert!(graph.view("u-s1").is_some_and(|view| view.orphans));
    // Found so after a restart.
    let mut graph = Graph::default();
    assert_eq!(apply(&mut graph, "s1", marked), ["u-s1"]);
    let finalizer = json!({"finalizers": ["orphan"]});
    assert_eq!(
        apply(&mut graph, "s2", finalizer),
        NOTHING,
        "not being deleted"
    );
}

#[test]
fn a_circle_shows_in_a_dependent_that_waits() {
    let mut graph = Graph::default();
    let waiting = |owner: &str| {
        json!({"ownerReferences": owned_by(owner, true), "deletionTimestamp": "2026-01-01T00:00:00Z",
            "finalizers": ["foregroundDeletion"]})
    };
    apply(&mut graph, "s1", waiting("s2"));
    apply(
        &mut graph,
        "s2",
        json!({"ownerReferences": owned_by("s1", true)}),
    );
    let view = graph.view("u-s2").expect("a node");
    assert!(view.has_dependents && view.dependent_waits);
    assert!(!graph.view("u-s1").expect("a node").dependent_waits);
}

#[test]
fn owners_known_by_reference_go_with_their_last_dependent() {
    let mut graph = Graph::default();
    apply(
        &mut graph,
        "p1",
        json!({"ownerReferences": owned_by("s1", true)}),
    );
    graph.remove("u-p1");
    assert_eq!(graph.view("u-s1"), None);
}
