use serde_json::{Value, json};

use super::*;
use crate::testing::{World, node, pod, requests, with};

/// Why the node at this place does not do, and whether fewer pods could help.
fn check(pod: &Arc<PodInfo>, nodes: &[NodeInfo], on: usize) -> Option<(String, bool)> {
    let world = World::of(nodes);
    let view = world.view();
    let candidate = Candidate::new(pod, &view.nodes, view.namespaces, view.volumes);
    let refusal = candidate.check(&nodes[on]).err()?;
    Some((refusal.reasons.join(", "), refusal.resolvable))
}

fn refused(reason: &str, resolvable: bool) -> Option<(String, bool)> {
    Some((reason.to_owned(), resolvable))
}

fn required(kind: &str, terms: Value) -> Value {
    json!({"spec": {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}})
}

#[test]
fn one_node_one_pod() {
    let taint = json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}});
    let soft = json!({"spec": {"taints": [{"key": "a", "effect": "PreferNoSchedule"}]}});
    let not_ready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    let tolerate = json!({"spec": {"tolerations": [{"operator": "Exists"}]}});
    let cordoned = json!({"spec": {"unschedulable": true}});
    let selector = |zone: &str| json!({"spec": {"nodeSelector": {"zone": zone}}});
    let terms = |terms: Value| required("nodeAffinity", json!({"nodeSelectorTerms": terms}));
    let in_zone = |operator: &str| {
        terms(
            json!([{"matchExpressions": [{"key": "zone", "operator": operator, "values": ["z1"]}]}]),
        )
    };
    let named = |name: &str| {
        terms(
            json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}]),
        )
    };
    let gpu = json!({"spec": {"containers": [{"name": "a", "resources": {"requests": {"a.b/gpu": "1"}}}]}});
    let storage = |amount: &str| json!({"spec": {"containers": [{"name": "a", "resources": {"requests": {"ephemeral-storage": amount}}}]}});
    let rule =
        json!({"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [1]}});
    let restarts_all =
        json!({"spec": {"containers": [{"name": "a", "restartPolicyRules": [rule]}]}});
    let none = json!({});
    let tainted = "node(s) had untolerated taint(s)";
    let affinity = "node(s) didn't match Pod's node affinity/selector";
    let table = [
        ("fits", none.clone(), requests("4", "4Gi"), None),
        (
            "too big",
            none.clone(),
            requests("4001m", "1"),
            refused("Insufficient cpu", false),
        ),
        (
            "a feature of the node's",
            json!({"status": {"declaredFeatures": ["RestartAllContainersOnContainerExits"]}}),
            restarts_all.clone(),
            None,
        ),
        (
            "a feature that it has not",
            none.clone(),
            restarts_all,
            refused(
                "node declared features check failed - unsatisfied requirements: RestartAllContainersOnContainerExits",
                false,
            ),
        ),
        (
            "on disk",
            json!({"status": {"allocatable": {"ephemeral-storage": "1Gi"}}}),
            storage("1Gi"),
            None,
        ),
        (
            "too much on disk",
            json!({"status": {"allocatable": {"ephemeral-storage": "1Gi"}}}),
            storage("1025Mi"),
            refused("Insufficient ephemeral-storage", false),
        ),
        (
            "both",
            none.clone(),
            requests("5", "5Gi"),
            refused("Insufficient cpu, Insufficient memory", false),
        ),
        (
            "extended",
            none.clone(),
            gpu,
            refused("Insufficient a.b/gpu", false),
        ),
        (
            "no pods",
            json!({"status": {"allocatable": {"pods": "0"}}}),
            none.clone(),
            refused("Too many pods", true),
        ),
        (
            "taint",
            taint.clone(),
            none.clone(),
            refused(tainted, false),
        ),
        ("tolerated", taint, tolerate.clone(), None),
        ("soft taint", soft, none.clone(), None),
        (
            "not ready",
            not_ready,
            none.clone(),
            refused(tainted, false),
        ),
        (
            "cordoned",
            cordoned.clone(),
            none.clone(),
            refused("node(s) were unschedulable", false),
        ),
        ("cordoned, tolerated", cordoned, tolerate, None),
        (
            "selector",
            none.clone(),
            selector("z2"),
            refused(affinity, false),
        ),
        ("selected", none.clone(), selector("z1"), None),
        (
            "affinity",
            none.clone(),
            in_zone("NotIn"),
            refused(affinity, false),
        ),
        ("in affinity", none.clone(), in_zone("In"), None),
        ("named", none.clone(), named("n"), None),
        (
            "another is named",
            none,
            named("m"),
            refused("node(s) didn't satisfy plugin(s) [NodeAffinity]", false),
        ),
    ];
    for (what, on, asked, wanted) in table {
        assert_eq!(
            check(&pod("p", asked), &[node("n", on)], 0),
            wanted,
            "{what}"
        );
    }
}

#[test]
fn pods_on_the_node_take_room_and_ports() {
    let port = |address: &str| json!({"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 80, "hostPort": 80, "hostIP": address}]}]}});
    let mut busy = node(
        "n",
        json!({"status": {"allocatable": {"cpu": "2", "pods": "3"}}}),
    );
    busy.add(pod("a", requests("1500m", "0")));
    busy.add(pod("b", port("10.0.0.1")));
    let nodes = [busy.clone()];
    let check = |asked: Value, nodes: &[NodeInfo]| check(&pod("p", asked), nodes, 0);
    assert_eq!(
        check(requests("600m", "0"), &nodes),
        refused("Insufficient cpu", true)
    );
    assert_eq!(check(requests("500m", "0"), &nodes), None);
    let taken = "node(s) didn't have free ports for the requested pod ports";
    assert_eq!(check(port(""), &nodes), refused(taken, true));
    assert_eq!(check(port("10.0.0.2"), &nodes), None);
    let mut udp = port("10.0.0.1");
    udp["spec"]["containers"][0]["ports"][0]["protocol"] = "UDP".into();
    assert_eq!(check(udp, &nodes), None);
    busy.add(pod("c", json!({})));
    assert_eq!(
        check(json!({}), &[busy.clone()]),
        refused("Too many pods", true)
    );
    busy.remove("c");
    assert_eq!(check(json!({}), &[busy]), None);
}

#[test]
fn pods_attract_and_repel() {
    let of = |app: &str| json!({"metadata": {"labels": {"app": app}}});
    let term = |app: &str| json!([{"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": "kubernetes.io/hostname"}]);
    let near = |app| with(of("web"), required("podAffinity", term(app)));
    let far = |app| with(of("web"), required("podAntiAffinity", term(app)));
    let mut one = node("one", json!({}));
    one.add(pod("db", of("db")));
    let nodes = [one, node("two", json!({}))];
    let check = |asked: Value, on: usize| check(&pod("p", asked), &nodes, on);
    assert_eq!(check(near("db"), 0), None);
    assert_eq!(
        check(near("db"), 1),
        refused("node(s) didn't match pod affinity rules", false)
    );
    assert_eq!(
        check(far("db"), 0),
        refused("node(s) didn't match pod anti-affinity rules", true)
    );
    assert_eq!(check(far("db"), 1), None);
    assert_eq!(check(near("web"), 1), None, "the first of a group");
    assert_eq!(
        check(near("x"), 1),
        refused("node(s) didn't match pod affinity rules", false)
    );
}

#[test]
fn pods_keep_others_away() {
    let terms = json!([{"labelSelector": {"matchLabels": {"app": "web"}}, "topologyKey": "zone"}]);
    let mut guarded = node("one", json!({}));
    guarded.add(pod("db", required("podAntiAffinity", terms)));
    let nodes = [
        guarded,
        node("two", json!({})),
        node("three", json!({"metadata": {"labels": {"zone": "z2"}}})),
    ];
    let web = pod("p", json!({"metadata": {"labels": {"app": "web"}}}));
    let reason = "node(s) didn't satisfy existing pods anti-affinity rules";
    assert_eq!(check(&web, &nodes, 0), refused(reason, true));
    assert_eq!(
        check(&web, &nodes, 1),
        refused(reason, true),
        "the same zone"
    );
    assert_eq!(check(&web, &nodes, 2), None);
    assert_eq!(check(&pod("q", json!({})), &nodes, 0), None);
}

#[test]
fn spread_constraints() {
    let web = |extra: Value| {
        let mut constraint = json!({
            "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "web"}},
        });
        constraint
            .as_object_mut()
            .expect("an object")
            .extend(extra.as_object().expect("an object").clone());
        let spread = json!({"spec": {"topologySpreadConstraints": [constraint]}});
        pod(
            "p",
            with(json!({"metadata": {"labels": {"app": "web"}}}), spread),
        )
    };
    let mut one = node("one", json!({}));
    one.add(pod("a", json!({"metadata": {"labels": {"app": "web"}}})));
    let tainted = json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}});
    let bare = json!({"metadata": {"labels": null}});
    let nodes = [one, node("two", json!({})), node("three", bare)];
    let reason = "node(s) didn't match pod topology spread constraints";
    assert_eq!(check(&web(json!({})), &nodes, 0), refused(reason, true));
    assert_eq!(check(&web(json!({})), &nodes, 1), None);
    assert_eq!(check(&web(json!({"maxSkew": 2})), &nodes, 0), None);
    assert_eq!(
        check(&web(json!({})), &nodes, 2),
        refused(&format!("{reason} (missing required label)"), false)
    );

    let mut last = nodes[1].clone();
    last.add(pod("b", json!({"metadata": {"labels": {"app": "web"}}})));
    let nodes = [nodes[0].clone(), last];
    assert_eq!(check(&web(json!({})), &nodes, 0), None, "one on each");
    let more = json!({"minDomains": 3});
    assert_eq!(
        check(&web(more), &nodes, 0),
        refused(reason, true),
        "a third domain is to come"
    );
    let nodes = [nodes[0].clone(), node("two", tainted)];
    assert_eq!(check(&web(json!({})), &nodes, 0), refused(reason, true));
    let honor = json!({"nodeTaintsPolicy": "Honor"});
    assert_eq!(
        check(&web(honor), &nodes, 0),
        None,
        "where it cannot go does not count"
    );
}

#[test]
fn a_claim_for_one_pod_is_used_by_one() {
    let uses = json!({"spec": {"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}});
    let used = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";
    for (mode, wanted) in [
        ("ReadWriteOncePod", refused(used, true)),
        ("ReadWriteOnce", None),
    ] {
        let mut nodes = [node("a", json!({})), node("b", json!({}))];
        nodes[1].add(pod("first", uses.clone()));
        let mut world = World::of(nodes.clone());
        let claim = json!({
            "metadata": {
                "name": "data", "namespace": "default",
                "annotations": {"pv.kubernetes.io/bind-completed": "yes"},
            },
            "spec": {"volumeName": "v", "accessModes": [mode]},
            "status": {"phase": "Bound"},
        });
        let claim = serde_json::from_value(claim).expect("a claim");
        world
            .volumes
            .set_claim("default", "data", Some(Arc::new(claim)));
        let volume = serde_json::from_value(json!({"metadata": {"name": "v"}})).expect("a volume");
        world.volumes.set_volume("v", Some(Arc::new(volume)));
        let view = world.view();
        let check = |name: &str| {
            let own = pod(name, uses.clone());
            let candidate = Candidate::new(&own, &view.nodes, view.namespaces, view.volumes);
            let refusal = candidate.check(&nodes[0]).err()?;
            Some((refusal.reasons.join(", "), refusal.resolvable))
        };
        assert_eq!(check("second"), wanted, "{mode}, wherever the first is");
        assert_eq!(check("first"), None, "{mode}, its own");
    }
}
