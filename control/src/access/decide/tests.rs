use std::sync::Arc;

use serde_json::{Value, json};
use vetch_server::guard::FieldSelector;
use vetch_store::Object;

use super::*;

struct Pods(Vec<Arc<Object>>, bool);

/// `pv-NAME` is bound to the claim NAME; `made-on-NODE` is a directory of the node's, whoever uses it.
fn volume(name: &str) -> Option<Arc<Object>> {
    let (spec, node) = match name.split_once('-')? {
        ("pv", claim) => {
            let spec = json!({"hostPath": {}, "claimRef": {"namespace": "ns", "name": claim}});
            (spec, None)
        }
        ("made", on) => (json!({"hostPath": {}}), on.strip_prefix("on-")),
        _ => return None,
    };
    let annotations = json!({
        "pv.kubernetes.io/provisioned-by": "kubernetes.io/host-path",
        "vetch.dev/node": node,
    });
    let value = json!({"metadata": {"name": name, "annotations": annotations}, "spec": spec});
    Some(Object::new(
        format!("/registry/persistentvolumes/{name}"),
        value,
        1,
    ))
}

impl Facts for Pods {
    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Object>> {
        let key = format!("/registry/pods/{namespace}/{name}");
        self.0.iter().find(|pod| pod.key == key).cloned()
    }

    fn pods(&self, namespace: &str) -> Vec<Arc<Object>> {
        let prefix = format!("/registry/pods/{namespace}/");
        let mut pods = self.0.clone();
        pods.retain(|pod| pod.key.starts_with(&prefix));
        pods
    }

    fn volume(&self, name: &str) -> Option<Arc<Object>> {
        volume(name)
    }

    fn has_policies(&self) -> bool {
        self.1
    }
}

fn pod(name: &str, spec: Value) -> Arc<Object> {
    Object::new(
        format!("/registry/pods/ns/{name}"),
        json!({"metadata": {"name": name, "namespace": "ns"}, "spec": spec}),
        1,
    )
}

/// `mine` on node a, `theirs` on node b, `nowhere` unbound; each with objects named after it.
fn pods() -> Pods {
    let spec = |name: &str, node: Option<&str>| {
        json!({
            "nodeName": node,
            "serviceAccountName": name,
            "volumes": [
                {"name": "s", "secret": {"secretName": name}},
                {"name": "d", "persistentVolumeClaim": {"claimName": name}},
                {"name": "e", "ephemeral": {}},
                {"name": "t", "projected": {"sources": [{"configMap": {"name": "kube-root-ca.crt"}}]}},
            ],
            "containers": [{"name": "c", "envFrom": [{"configMapRef": {"name": name}}]}],
        })
    };
    let pods = vec![
        pod("mine", spec("mine", Some("a"))),
        pod("theirs", spec("theirs", Some("b"))),
        pod("nowhere", spec("nowhere", None)),
    ];
    Pods(pods, false)
}

/// `VERB GROUP/RESOURCE[/SUB] NAMESPACE NAME [SELECTOR]`, or `VERB PATH`; `-` is empty.
fn asked(user: &User, request: &str) -> Result<(), String> {
    let words: Vec<&str> = request.split(' ').collect();
    let word = |at: usize| {
        words
            .get(at)
            .copied()
            .filter(|word| *word != "-")
            .unwrap_or("")
    };
    if words.len() == 2 {
        let action = Action {
            verb: word(0),
            group: "",
            resource: "",
            subresource: "",
            namespace: "",
            name: "",
            fields: None,
            path: word(1),
        };
        return decide(user, &action, &pods());
    }
    let mut parts = word(1).split('/');
    let mut part = || parts.next().unwrap_or_default();
    let fields = FieldSelector::parse(word(4)).ok();
    let action = Action {
        verb: word(0),
        group: part(),
        resource: part(),
        subresource: part(),
        namespace: word(2),
        name: word(3),
        fields: fields.as_ref(),
        path: "",
    };
    decide(user, &action, &pods())
}

fn user(name: &str, groups: &[&str]) -> User {
    let mut user = User::new(name, groups);
    user.groups.push(AUTHENTICATED.to_owned());
    user
}

fn node(name: &str) -> User {
    user(&format!("system:node:{name}"), &["system:nodes"])
}

const ONE: &str = "can only get individual resources of this type";
const NARROW: &str = "can only list/watch pods with spec.nodeName field selector";
const ANOTHERS_DRIVERS: &str = "can only access CSINode with the same name as the requesting node";
const UNRELATED: &str = "no relationship found between node 'a' and this object";

#[test]
fn a_node_may_what_its_pods_need() {
    for request in [
        "get /nodes - a",
        "get /nodes - b",
        "list /nodes - -",
        "watch /nodes - -",
        "create /nodes - -",
        "update /nodes - a",
        "patch /nodes/status - a",
        "list /pods - - spec.nodeName=a",
        "watch /pods ns - spec.nodeName=a,status.phase!=Failed",
        "get /pods ns mine",
        "get /pods ns gone",
        "create /pods ns -",
        "get node.k8s.io/runtimeclasses - fast",
        "get storage.k8s.io/csidrivers - csi.example.com",
        "list storage.k8s.io/csidrivers - -",
        "watch storage.k8s.io/csidrivers - -",
        "create storage.k8s.io/csinodes - -",
        "get storage.k8s.io/csinodes - a",
        "update storage.k8s.io/csinodes - a",
        "patch storage.k8s.io/csinodes - a",
        "delete storage.k8s.io/csinodes - a",
        "delete /pods ns mine",
        "patch /pods/status ns mine",
        "update /pods/status ns mine",
        "get /secrets ns mine",
        "watch /secrets ns mine metadata.name=mine",
        "get /configmaps ns mine",
        "list /configmaps ns kube-root-ca.crt metadata.name=kube-root-ca.crt",
        "get /persistentvolumeclaims ns mine",
        "get /persistentvolumeclaims ns mine-e",
        "get /persistentvolumes - pv-mine",
        "get /persistentvolumes - pv-mine-e",
        "get /persistentvolumes - gone",
        "get /persistentvolumes - made-on-a",
        "patch /persistentvolumes - made-on-a",
        "get /serviceaccounts ns mine",
        "create /serviceaccounts/token ns mine",
        "list /services - -",
        "watch /namespaces - -",
        "watch discovery.k8s.io/endpointslices - -",
        "list networking.k8s.io/networkpolicies - -",
        "watch policy.networking.k8s.io/adminnetworkpolicies - -",
        "list policy.networking.k8s.io/baselineadminnetworkpolicies - -",
        "watch /namespaces - -",
        "create /events ns -",
        "patch events.k8s.io/events ns x",
        "create coordination.k8s.io/leases kube-node-lease -",
        "get coordination.k8s.io/leases kube-node-lease a",
        "update coordination.k8s.io/leases kube-node-lease a",
        "delete coordination.k8s.io/leases kube-node-lease a",
        "create authentication.k8s.io/tokenreviews - -",
        "create authorization.k8s.io/subjectaccessreviews - -",
        "create certificates.k8s.io/certificatesigningrequests - -",
        "watch certificates.k8s.io/certificatesigningrequests - -",
        "create certificates.k8s.io/certificatesigningrequests/selfnodeclient - -",
        "get /api",
    ] {
        assert_eq!(asked(&node("a"), request), Ok(()), "{request}");
    }
}

#[test]
fn a_node_may_nothing_else() {
    for (request, why) in [
        (
            "update /nodes - b",
            "node 'a' cannot update 'b', only its own Node object",
        ),
        (
            "patch /nodes/status - b",
            "node 'a' cannot patch 'b', only its own Node object",
        ),
        ("delete /nodes - a", ""),
        ("get /nodes/proxy - a", ""),
        ("create /nodes/proxy - a", ""),
        ("list /pods - -", NARROW),
        ("watch /pods ns - spec.nodeName=b", NARROW),
        ("watch /pods ns - spec.nodeName!=a", NARROW),
        ("list /pods ns mine metadata.name=mine", NARROW),
        ("create networking.k8s.io/networkpolicies ns -", ""),
        (
            "delete policy.networking.k8s.io/adminnetworkpolicies - x",
            "",
        ),
        (
            "patch policy.networking.k8s.io/adminnetworkpolicies/status - x",
            "",
        ),
        ("delete /namespaces - ns", ""),
        ("get /pods ns theirs", UNRELATED),
        ("get /pods ns nowhere", UNRELATED),
        ("delete /pods ns theirs", UNRELATED),
        ("patch /pods/status ns theirs", UNRELATED),
        ("patch /pods ns mine", ""),
        ("deletecollection /pods ns - spec.nodeName=a", ""),
        ("create /pods/binding ns nowhere", ""),
        ("get /pods/log ns mine", ""),
        ("get /secrets ns theirs", UNRELATED),
        ("get /secrets ns nowhere", UNRELATED),
        ("get /secrets other mine", UNRELATED),
        (
            "list /secrets ns -",
            "can only read namespaced object of this type",
        ),
        (
            "update /secrets ns mine",
            "can only read resources of this type",
        ),
        ("get /configmaps ns theirs", UNRELATED),
        ("get /configmaps other kube-root-ca.crt", UNRELATED),
        ("get /persistentvolumeclaims ns theirs", UNRELATED),
        ("get /persistentvolumeclaims ns mine-s", UNRELATED),
        ("get /persistentvolumeclaims other mine", UNRELATED),
        ("list /persistentvolumeclaims ns -", ONE),
        ("update /persistentvolumeclaims ns mine", ONE),
        ("patch /persistentvolumeclaims/status ns mine", ""),
        ("get /persistentvolumes - pv-theirs", UNRELATED),
        ("get /persistentvolumes - pv-nowhere", UNRELATED),
        ("get /persistentvolumes - made-on-b", UNRELATED),
        ("patch /persistentvolumes - pv-mine", ONE),
        ("patch /persistentvolumes - made-on-b", ONE),
        ("delete /persistentvolumes - made-on-a", ONE),
        ("watch /persistentvolumes - -", ONE),
        ("get /serviceaccounts ns theirs", UNRELATED),
        ("list /serviceaccounts ns -", ""),
        ("create /serviceaccounts/token ns theirs", UNRELATED),
        ("create /services ns -", ""),
        ("delete /namespaces - ns", ""),
        ("delete /events ns x", ""),
        (
            "list coordination.k8s.io/leases kube-node-lease -",
            "can only get, create, update, patch, or delete a node lease",
        ),
        (
            "get coordination.k8s.io/leases kube-system a",
            "can only access leases in the \"kube-node-lease\" system namespace",
        ),
        (
            "update coordination.k8s.io/leases kube-node-lease b",
            "can only access node lease with the same name as the requesting node",
        ),
        (
            "list storage.k8s.io/csinodes - -",
            "can only get, create, update, patch, or delete a CSINode",
        ),
        (
            "watch storage.k8s.io/csinodes - a",
            "can only get, create, update, patch, or delete a CSINode",
        ),
        ("get storage.k8s.io/csinodes - b", ANOTHERS_DRIVERS),
        ("update storage.k8s.io/csinodes - b", ANOTHERS_DRIVERS),
        ("delete storage.k8s.io/csinodes - b", ANOTHERS_DRIVERS),
        (
            "update storage.k8s.io/csinodes/status - a",
            "cannot authorize CSINode subresources",
        ),
        ("create storage.k8s.io/csidrivers - -", ""),
        ("delete storage.k8s.io/csidrivers - csi.example.com", ""),
        ("list apps/deployments - -", ""),
        (
            "create certificates.k8s.io/certificatesigningrequests/nodeclient - -",
            "",
        ),
        (
            "update certificates.k8s.io/certificatesigningrequests/approval - x",
            "",
        ),
        (
            "delete certificates.k8s.io/certificatesigningrequests - x",
            "",
        ),
        (
            "approve certificates.k8s.io/signers - kubernetes.io/kube-apiserver-client-kubelet",
            "",
        ),
        ("get /metrics", ""),
    ] {
        assert_eq!(asked(&node("a"), request), Err(why.to_owned()), "{request}");
    }
}

/// Whom policies are about.
#[test]
fn a_node_reads_all_pods_while_there_are_policies() {
    for (verb, policies, name, expected) in [
        ("list", false, "", Err(NARROW)),
        ("list", true, "", Ok(())),
        ("watch", true, "", Ok(())),
        ("get", true, "theirs", Err(UNRELATED)),
        ("delete", true, "theirs", Err(UNRELATED)),
    ] {
        let action = Action {
            verb,
            group: "",
            resource: "pods",
            subresource: "",
            namespace: if name.is_empty() { "" } else { "ns" },
            name,
            fields: None,
            path: "",
        };
        let facts = Pods(pods().0, policies);
        let decided = decide(&node("a"), &action, &facts);
        assert_eq!(
            decided,
            expected.map_err(str::to_owned),
            "{verb} {policies}"
        );
    }
}

#[test]
fn only_name_and_group_together_make_a_node() {
    for user in [
        user("system:node:a", &[]),
        user("system:node:", &["system:nodes"]),
        user("a", &["system:nodes"]),
    ] {
        let told = asked(&user, "get /nodes - a");
        assert_eq!(told, Err(String::new()), "{user:?}");
    }
}

#[test]
fn administrators_and_the_control_plane_may_everything() {
    for user in [
        user("admin", &["system:masters"]),
        user("system:kube-scheduler", &[]),
        user("system:kube-controller-manager", &[]),
    ] {
        for request in [
            "delete /secrets ns theirs",
            "list apps/deployments - -",
            "get /metrics",
        ] {
            assert_eq!(asked(&user, request), Ok(()), "{user:?} {request}");
        }
    }
}

#[test]
fn everybody_known_may_look_around() {
    let account = user("system:serviceaccount:ns:mine", &["system:serviceaccounts"]);
    let nobody = User::new("system:anonymous", &["system:unauthenticated"]);
    for (request, allowed) in [
        ("get /api", true),
        ("get /apis/apps/v1", true),
        ("get /openapi/v3", true),
        ("get /version", true),
        ("get /apis2", false),
        ("get /metrics", false),
        ("post /api", false),
        ("create authentication.k8s.io/selfsubjectreviews - -", true),
        (
            "create authorization.k8s.io/selfsubjectaccessreviews - -",
            true,
        ),
        (
            "create authorization.k8s.io/selfsubjectrulesreviews - -",
            true,
        ),
        (
            "create authorization.k8s.io/subjectaccessreviews - -",
            false,
        ),
        ("get /secrets ns mine", false),
        ("list /pods ns - spec.nodeName=a", false),
    ] {
        assert_eq!(asked(&account, request).is_ok(), allowed, "{request}");
        assert!(asked(&nobody, request).is_err(), "{request}");
    }
}

#[test]
fn a_bootstrap_token_is_for_becoming_a_node() {
    let groups = ["system:bootstrappers", bootstrap::GROUP];
    let bootstrapper = user("system:bootstrap:abcdef", &groups);
    let grouped = user("system:bootstrap:abcdef", &groups[..1]);
    for (request, allowed) in [
        (
            "create certificates.k8s.io/certificatesigningrequests - -",
            true,
        ),
        (
            "get certificates.k8s.io/certificatesigningrequests - x",
            true,
        ),
        (
            "watch certificates.k8s.io/certificatesigningrequests - -",
            true,
        ),
        (
            "create certificates.k8s.io/certificatesigningrequests/nodeclient - -",
            true,
        ),
        ("get /nodes - a", true),
        (
            "create certificates.k8s.io/certificatesigningrequests/selfnodeclient - -",
            false,
        ),
        (
            "update certificates.k8s.io/certificatesigningrequests/approval - x",
            false,
        ),
        (
            "delete certificates.k8s.io/certificatesigningrequests - x",
            false,
        ),
        ("approve certificates.k8s.io/signers - x", false),
        ("list /nodes - -", false),
        ("create /nodes - -", false),
        ("get /secrets kube-system bootstrap-token-abcdef", false),
        ("get /configmaps kube-system x", false),
    ] {
        assert_eq!(asked(&bootstrapper, request).is_ok(), allowed, "{request}");
        assert!(asked(&grouped, request).is_err(), "{request}");
    }
}

#[test]
fn cluster_info_is_everybodys() {
    let nobody = User::new("system:anonymous", &["system:unauthenticated"]);
    let account = user("system:serviceaccount:ns:mine", &["system:serviceaccounts"]);
    for (request, allowed) in [
        ("get /configmaps kube-public cluster-info", true),
        ("get /configmaps kube-public other", false),
        ("get /configmaps kube-system cluster-info", false),
        ("list /configmaps kube-public -", false),
        ("update /configmaps kube-public cluster-info", false),
        ("get /secrets kube-public cluster-info", false),
    ] {
        for user in [&nobody, &account, &node("a")] {
            assert_eq!(asked(user, request).is_ok(), allowed, "{user:?} {request}");
        }
    }
}
