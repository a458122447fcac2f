use serde_json::json;

use super::*;

/// One write by node `a`: what is refused, and why.
struct Case {
    resource: (&'static str, &'static str),
    subresource: &'static str,
    operation: Operation,
    place: (Option<&'static str>, &'static str),
    old: Option<Value>,
    new: Value,
    refused: Option<&'static str>,
}

fn nodes(operation: Operation, name: &'static str, old: Option<Value>, new: Value) -> Case {
    Case {
        resource: ("", "nodes"),
        subresource: "",
        operation,
        place: (None, name),
        old,
        new,
        refused: None,
    }
}

fn pods(subresource: &'static str, operation: Operation, old: Option<Value>, new: Value) -> Case {
    Case {
        resource: ("", "pods"),
        subresource,
        operation,
        place: (Some("default"), "p"),
        old,
        new,
        refused: None,
    }
}

fn leases(namespace: &'static str, name: &'static str) -> Case {
    Case {
        resource: ("coordination.k8s.io", "leases"),
        place: (Some(namespace), name),
        ..nodes(Operation::Update, "", None, json!({}))
    }
}

fn csi_nodes(operation: Operation, name: &'static str) -> Case {
    Case {
        resource: ("storage.k8s.io", "csinodes"),
        ..nodes(operation, name, None, json!({}))
    }
}

impl Case {
    fn refused(self, why: &'static str) -> Case {
        Case {
            refused: Some(why),
            ..self
        }
    }
}

#[test]
fn a_node_writes_its_own() {
    use Operation::{Create, Delete, Update};
    let bound = |node: &str| Some(json!({"spec": {"nodeName": node}}));
    let labelled = |label: &str| json!({"metadata": {"labels": {label: "x"}}});
    let tainted = json!({"spec": {"taints": [{"key": "t", "effect": "NoSchedule"}]}});
    let mirror = json!({
        "metadata": {
            "annotations": {"kubernetes.io/config.mirror": "m"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "a", "uid": "u", "controller": true}],
        },
        "spec": {"nodeName": "a", "containers": [{"name": "c"}]},
    });
    let mut secretive = mirror.clone();
    secretive["spec"]["containers"][0]["envFrom"] = json!([{"secretRef": {"name": "s"}}]);
    let mut ownerless = mirror.clone();
    ownerless["metadata"]["ownerReferences"] = json!([]);
    let table = [
        nodes(Create, "a", None, tainted.clone()),
        nodes(Create, "b", None, json!({})).refused("node \"a\" is not allowed to modify node \"b\""),
        nodes(Create, "a", None, labelled("node-restriction.kubernetes.io/x"))
            .refused("node \"a\" is not allowed to set the following labels: node-restriction.kubernetes.io/x"),
        nodes(Update, "a", Some(tainted.clone()), tainted.clone()),
        nodes(Update, "a", Some(tainted), json!({"spec": {}}))
            .refused("node \"a\" is not allowed to modify taints"),
        nodes(Update, "a", Some(json!({})), labelled("disk")),
        nodes(Update, "a", Some(labelled("node-role.kubernetes.io/x")), json!({}))
            .refused("is not allowed to modify labels: node-role.kubernetes.io/x"),
        nodes(Delete, "b", Some(json!({})), json!({}))
            .refused("node \"a\" is not allowed to modify node \"b\""),
        pods("", Delete, bound("a"), json!({})),
        pods("", Delete, bound("b"), json!({}))
            .refused("node \"a\" can only delete pods with spec.nodeName set to itself"),
        pods("", Update, bound("a"), json!({})).refused("unexpected operation \"UPDATE\""),
        pods("status", Update, bound("a"), json!({"status": {}})),
        pods("status", Update, bound("b"), json!({})).refused(
            "node \"a\" can only update pod status for pods with spec.nodeName set to itself",
        ),
        pods("status", Update, bound("a"), labelled("x"))
            .refused("node \"a\" cannot update labels through pod status"),
        pods("binding", Update, bound(""), json!({})).refused(
            "unexpected pod subresource \"binding\", only 'status' and 'eviction' are allowed",
        ),
        pods("", Create, None, json!({})).refused(
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"a\" can only create mirror pods",
        ),
        pods("", Create, None, mirror),
        pods("", Create, None, secretive)
            .refused("node \"a\" can not create pods that reference secrets"),
        pods("", Create, None, ownerless)
            .refused("node \"a\" can only create pods with an owner reference set to itself"),
        leases("kube-node-lease", "a"),
        leases("kube-node-lease", "b")
            .refused("can only access node lease with the same name as the requesting node"),
        leases("default", "a")
            .refused("can only access leases in the \"kube-node-lease\" system namespace"),
        csi_nodes(Create, "a"),
        csi_nodes(Update, "a"),
        csi_nodes(Delete, "a"),
        csi_nodes(Create, "b")
            .refused("can only access CSINode with the same name as the requesting node"),
        csi_nodes(Update, "b")
            .refused("can only access CSINode with the same name as the requesting node"),
    ];
    let user = User::new("system:node:a", &["system:nodes"]);
    for case in table {
        let (group, plural) = case.resource;
        let resource = vetch_api::registry()
            .iter()
            .find(|row| row.group == group && row.plural == plural)
            .unwrap();
        let attributes = Attributes {
            operation: case.operation,
            user: &user,
            resource,
            subresource: case.subresource,
            namespace: case.place.0,
            name: case.place.1,
            old: case.old.as_ref(),
            dry_run: false,
        };
        let outcome = decide(&attributes, "a", &case.new);
        let what = format!("{:?} {:?} {}", case.operation, case.place, case.new);
        assert_eq!(outcome.err().as_deref(), case.refused, "{what}");
    }
}

#[test]
fn only_a_member_of_the_group_is_a_node() {
    for (name, groups, node) in [
        ("system:node:a", &["system:nodes"][..], Some("a")),
        ("system:node:a", &[][..], None),
        ("admin", &["system:nodes"][..], None),
        ("system:node:", &["system:nodes"][..], Some("")),
    ] {
        assert_eq!(node_name(&User::new(name, groups)), node, "{name}");
    }
}

#[test]
fn a_mirrors_owner_is_the_registered_node() {
    let pod = json!({"metadata": {"ownerReferences": [{"uid": "u"}]}});
    let node = |uid: &str| json!({"metadata": {"uid": uid}});
    assert!(pod::owner_lives(&pod, "a", Some(&node("u"))).is_ok());
    assert_eq!(
        pod::owner_lives(&pod, "a", Some(&node("v"))),
        Err("node \"a\" UID mismatch: expected v got u".into())
    );
    assert!(pod::owner_lives(&pod, "a", None).is_err());
}
