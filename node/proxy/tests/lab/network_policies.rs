//! NetworkPolicies: the whole proxy, over a network and an API server of the test's.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use serde_json::{Value, json};
use vetch_network::{Owner, PodOptions};
use vetch_proxy::{Guard, inspect};

use crate::{
    api::Api,
    host_ports::{Running, until},
    site::{Namespace, Pod, Site},
};

pub const PORT: u16 = 8000;
/// When a connection is there that comes at all.
const SOON: Duration = Duration::from_millis(300);

pub fn api_pod(pod: &Pod) -> Value {
    let port = json!({"name": "web", "containerPort": PORT, "protocol": "TCP"});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "ns", "name": pod.id, "uid": pod.id, "labels": {"app": pod.id}},
        "spec": {"nodeName": "test", "containers": [{"name": "c", "ports": [port]}]},
        "status": {"phase": "Running", "podIPs": [{"ip": pod.ip}]},
    })
}

/// About the pod named `server`.
pub fn policy(name: &str, ingress: Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": "ns", "name": name},
        "spec": {
            "podSelector": {"matchLabels": {"app": "server"}},
            "policyTypes": ["Ingress"],
            "ingress": ingress,
        },
    })
}

pub fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns"}})
}

/// None for the node's own process.
pub fn reaches(from: Option<&Namespace>, to: SocketAddr) -> bool {
    let connect = || TcpStream::connect_timeout(&to, SOON).is_ok();
    match from {
        Some(namespace) => namespace.run(connect),
        None => connect(),
    }
}

/// A full backlog looks like a policy.
pub fn drain(listener: &TcpListener) {
    listener.set_nonblocking(true).unwrap();
    while listener.accept().is_ok() {}
    listener.set_nonblocking(false).unwrap();
}

/// Both ends.
fn connect(from: &Pod, to: SocketAddr, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let connect = || TcpStream::connect_timeout(&to, SOON).unwrap();
    let stream = from.namespace.run(connect);
    let own = stream.local_addr().unwrap();
    loop {
        // Those before have gone.
        let (accepted, from) = listener.accept().unwrap();
        if from == own {
            accepted.set_read_timeout(Some(SOON)).unwrap();
            return (stream, accepted);
        }
    }
}

/// Pods that the API server knows, the first of which listens.
fn three(site: &Site, api: &Api) -> ([Pod; 3], TcpListener) {
    let pods = ["server", "client", "other"].map(|name| site.pod(name));
    let listener = pods[0]
        .namespace
        .run(|| TcpListener::bind(("0.0.0.0", PORT)).unwrap());
    api.set("namespaces", namespace());
    for pod in &pods {
        api.set("pods", api_pod(pod));
    }
    (pods, listener)
}

#[test]
fn policies_come_and_go_under_connections() {
    let site = Site::new();
    let api = Api::new();
    let (pods, listener) = three(&site, &api);
    let [server, client, other] = &pods;
    let at = SocketAddr::from((server.ip, PORT));
    let running = Running::start(&site, &api);
    // The API server does not serve the kind.
    until(&site, "everybody is let", || {
        reaches(Some(&client.namespace), at) && reaches(Some(&other.namespace), at)
    });
    let (mut early, mut accepted) = connect(client, at, &listener);

    api.set("networkpolicies", policy("deny", json!([])));
    until(&site, "nobody is let", || {
        drain(&listener);
        !reaches(Some(&client.namespace), at) && !reaches(Some(&other.namespace), at)
    });
    assert!(reaches(None, at), "its node is");
    let mut word = [0; 1];
    // Judged again once a second.
    until(&site, "an open connection is cut", || {
        early.write_all(b"x").is_err() || accepted.read_exact(&mut word).is_err()
    });

    let client_only = json!([{
        "from": [{"podSelector": {"matchLabels": {"app": "client"}}}],
        "ports": [{"port": "web"}],
    }]);
    api.set("networkpolicies", policy("allow", client_only));
    until(&site, "the client is let", || {
        reaches(Some(&client.namespace), at)
    });
    assert!(!reaches(Some(&other.namespace), at));
    assert!(!reaches(Some(&site.outside), at));
    let config = site.config("a");
    let shown = inspect::policy(&config.pin_dir, server.ip)
        .unwrap()
        .unwrap();
    assert_eq!((shown.pod.state, shown.pod.ingress_rules), ("isolated", 1));
    assert_eq!(shown.ingress[0].addresses, [client.ip]);
    assert_eq!(shown.ingress[0].ports, Some([PORT, PORT]));

    // Nothing is closed or opened by a daemon that goes and comes.
    running.stop(&site);
    assert!(reaches(Some(&client.namespace), at));
    assert!(!reaches(Some(&other.namespace), at));
    let running = Running::start(&site, &api);
    let later = site.pod("later");
    api.set("pods", api_pod(&later));
    until(&site, "the new daemon knows the new pod", || {
        let pods = inspect::policies(&config.pin_dir).unwrap();
        pods.iter()
            .any(|pod| pod.address == later.ip && pod.state == "free")
    });
    assert!(reaches(Some(&client.namespace), at));
    assert!(!reaches(Some(&later.namespace), at));
    let again = inspect::policy(&config.pin_dir, server.ip).unwrap();
    assert_eq!(again, Some(shown), "the same numbers");

    let (mut held, mut accepted) = connect(client, at, &listener);
    held.write_all(b"x").unwrap();
    accepted.read_exact(&mut word).unwrap();
    api.delete("networkpolicies", policy("allow", json!([])));
    until(&site, "the client is let no more", || {
        !reaches(Some(&client.namespace), at)
    });
    until(&site, "an open connection is cut", || {
        held.write_all(b"x").unwrap();
        accepted.read_exact(&mut word).is_err()
    });
    api.delete("networkpolicies", policy("deny", json!([])));
    until(&site, "everybody is let again", || {
        reaches(Some(&other.namespace), at)
    });
    running.stop(&site);
}

/// About the pod named `server`: `spec` beside its subject.
fn of_administrators(kind: &str, name: &str, mut spec: Value) -> Value {
    spec["subject"] = json!({"pods": {
        "namespaceSelector": {},
        "podSelector": {"matchLabels": {"app": "server"}},
    }});
    json!({
        "apiVersion": "policy.networking.k8s.io/v1alpha1", "kind": kind,
        "metadata": {"name": name}, "spec": spec,
    })
}

#[test]
fn policies_of_administrators_are_around_the_others() {
    let site = Site::new();
    let api = Api::new();
    let (pods, listener) = three(&site, &api);
    let [server, client, other] = &pods;
    let at = SocketAddr::from((server.ip, PORT));
    let running = Running::start(&site, &api);
    // The API server serves none of the kinds.
    until(&site, "everybody is let", || {
        reaches(Some(&client.namespace), at) && reaches(Some(&other.namespace), at)
    });
    let (mut early, mut accepted) = connect(client, at, &listener);
    early.write_all(b"x").unwrap();
    accepted.read_exact(&mut [0]).unwrap();

    let of = |app: &str| json!([{"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": app}}}}]);
    let denied = json!([{
        "name": "no-web", "action": "Deny", "from": of("client"), "ports": [{"namedPort": "web"}],
    }]);
    let deny = |rules: &Value| {
        let spec = json!({"priority": 5, "ingress": rules});
        of_administrators("AdminNetworkPolicy", "deny", spec)
    };
    api.set("adminnetworkpolicies", deny(&denied));
    until(&site, "the client is let no more", || {
        drain(&listener);
        !reaches(Some(&client.namespace), at)
    });
    assert!(reaches(Some(&other.namespace), at));
    assert!(reaches(Some(&site.outside), at));
    assert!(reaches(None, at));
    let mut word = [0; 1];
    until(&site, "an open connection is cut", || {
        early.write_all(b"x").is_err() || accepted.read_exact(&mut word).is_err()
    });
    // A NetworkPolicy cannot let it in, nor can a baseline keep others out then.
    api.set("networkpolicies", policy("allow", json!([{}])));
    let nobody = json!({"ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}]});
    let baseline = of_administrators("BaselineAdminNetworkPolicy", "default", nobody);
    api.set("baselineadminnetworkpolicies", baseline);
    until(&site, "both are known", || {
        drain(&listener);
        let shown = inspect::policy(&site.config("a").pin_dir, server.ip).unwrap();
        let tiers = shown.and_then(|shown| shown.ingress_tiers);
        tiers.is_some_and(|tiers| {
            tiers
                .decided
                .iter()
                .any(|one| one.by.contains("NetworkPolicies"))
        })
    });
    assert!(!reaches(Some(&client.namespace), at));
    assert!(reaches(Some(&other.namespace), at));
    api.delete("networkpolicies", policy("allow", json!([{}])));
    until(&site, "the baseline keeps out pods", || {
        drain(&listener);
        !reaches(Some(&other.namespace), at)
    });
    assert!(reaches(Some(&site.outside), at), "which is no pod");

    // Nothing is closed or opened by a daemon that goes and comes.
    let pin_dir = site.config("a").pin_dir;
    let shown = inspect::policy(&pin_dir, server.ip).unwrap().unwrap();
    assert!(shown.pod.ingress_tiers, "{shown:#?}");
    running.stop(&site);
    assert!(!reaches(Some(&client.namespace), at));
    assert!(reaches(Some(&site.outside), at));
    let running = Running::start(&site, &api);
    let later = site.pod("later");
    api.set("pods", api_pod(&later));
    until(&site, "the baseline keeps out a new pod", || {
        drain(&listener);
        !reaches(Some(&later.namespace), at)
    });
    let again = inspect::policy(&pin_dir, server.ip).unwrap().unwrap();
    assert_eq!(again.pod, shown.pod, "the same numbers");
    let rules = again.ingress_tiers.unwrap().rules;
    assert!(
        rules[0].contains("(no-web) of AdminNetworkPolicy deny"),
        "{rules:?}"
    );

    api.set(
        "adminnetworkpolicies",
        deny(&json!([
            {"action": "Allow", "from": of("other"), "ports": [{"portNumber": {"port": PORT}}]},
        ])),
    );
    until(&site, "the other is let again", || {
        reaches(Some(&other.namespace), at)
    });
    assert!(!reaches(Some(&client.namespace), at));
    running.stop(&site);
}

/// Of whom the API server has not told yet.
#[test]
fn a_pod_is_attached_when_its_policies_are_known() {
    let site = Site::new();
    let api = Api::new();
    api.set("namespaces", namespace());
    let elsewhere = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "ns", "name": "elsewhere", "uid": "e"},
        "spec": {"nodeName": "another", "containers": []},
    });
    api.set("pods", elsewhere);
    api.set("networkpolicies", policy("deny", json!([])));
    let (guarded, guards) = tokio::sync::watch::channel(Default::default());
    site.network.set_guard(guards);
    let guard = Guard {
        owners: site.network.owners(),
        guarded,
    };
    let running = Running::with_guard(&site, &api, guard);
    let owner = Owner {
        namespace: "ns".into(),
        name: "server".into(),
        uid: "server".into(),
    };
    let told = std::thread::spawn({
        let (api, pin_dir) = (api.clone(), site.config("a").pin_dir);
        move || {
            let pending = loop {
                let pods = inspect::policies(&pin_dir).unwrap_or_default();
                if let Some(pod) = pods.into_iter().next() {
                    break pod;
                }
                std::thread::sleep(Duration::from_millis(5));
            };
            api.set(
                "pods",
                json!({
                    "apiVersion": "v1", "kind": "Pod",
                    "metadata": {"namespace": "ns", "name": "server", "uid": "server", "labels": {"app": "server"}},
                    "spec": {"nodeName": "test", "containers": []},
                }),
            );
            pending.state
        }
    });
    let options = PodOptions {
        owner: Some(owner),
        ..PodOptions::default()
    };
    let pod = site.pod_with("server", options);
    assert_eq!(told.join().unwrap(), "pending");
    let held = inspect::policy(&site.config("a").pin_dir, pod.ip).unwrap();
    assert_eq!(held.unwrap().pod.state, "isolated");
    running.stop(&site);
}
