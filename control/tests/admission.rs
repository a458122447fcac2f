//! The plugins in a server over a real etcd, called in process.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures::future::{BoxFuture, join_all};
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};
use vetch_control::admission::{AdmissionConfig, RANGES, plugins};
use vetch_identity::User;
use vetch_server::guard::{Action, Guard};
use vetch_server::{Server, ServerConfig};
use vetch_store::Store;
use vetch_store::testing::Etcd;

const SERVICES: &str = "/api/v1/namespaces/default/services";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// Lets everyone in: what is refused here, a plugin refused.
struct Open;

impl Guard for Open {
    fn authenticate<'a>(
        &'a self,
        _: &'a Server,
        _: &'a HeaderMap,
        certificate: Option<&'a User>,
    ) -> BoxFuture<'a, Option<User>> {
        Box::pin(async move { certificate.cloned() })
    }

    fn authorize<'a>(
        &'a self,
        _: &'a Server,
        _: &'a User,
        _: &'a Action<'a>,
    ) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async { Ok(()) })
    }
}

/// One API server; a cluster may have several over the same etcd.
struct Api {
    router: axum::Router,
    _stop: DropGuard,
}

impl Api {
    async fn start(etcd: &Etcd, service_cidr: &str) -> Api {
        let stop = CancellationToken::new();
        let registry = vetch_api::registry();
        let mut prefixes = Server::prefixes(registry);
        prefixes.push(RANGES.to_owned());
        let store = Store::open(&[etcd.endpoint().to_owned()], &prefixes, stop.clone())
            .await
            .unwrap();
        store.ready().await;
        let config = AdmissionConfig {
            service_cidr: service_cidr.parse().unwrap(),
            node_port_range: 30000..=32767,
        };
        let router = vetch_server::router(Server::new(ServerConfig {
            store,
            registry,
            admission: plugins(config),
            connectors: HashMap::new(),
            guard: Arc::new(Open),
        }));
        Api {
            router,
            _stop: stop.drop_guard(),
        }
    }

    async fn call_as(
        &self,
        (user, groups): (&str, &[&str]),
        method: &str,
        path: &str,
        body: Value,
    ) -> (u16, Value) {
        let text = match body.is_null() {
            true => String::new(),
            false => body.to_string(),
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(
                "content-type",
                match method {
                    "PATCH" => "application/merge-patch+json",
                    _ => "application/json",
                },
            )
            .body(Body::from(text.into_bytes()))
            .unwrap();
        let client = vetch_server::client(&self.router, user, groups);
        let (parts, body) = client.send(request).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (
            parts.status.as_u16(),
            serde_json::from_slice(&bytes).unwrap(),
        )
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.call_as(("admin", &[]), method, path, body).await
    }

    #[track_caller]
    fn accepted((code, body): (u16, Value)) -> Value {
        assert!((200..300).contains(&code), "{code} {body}");
        body
    }

    async fn namespace(&self, name: &str) {
        let body = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}});
        Api::accepted(self.call("POST", "/api/v1/namespaces", body).await);
    }
}

fn service(name: &str, spec: Value) -> Value {
    let mut service = json!({
        "kind": "Service", "apiVersion": "v1", "metadata": {"name": name},
        "spec": {"ports": [{"port": 80}], "selector": {"app": "a"}},
    });
    for (key, value) in spec.as_object().unwrap() {
        service["spec"][key] = value.clone();
    }
    service
}

fn pod(name: &str) -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    })
}

fn message(body: &Value) -> &str {
    body["message"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn concurrent_services_of_two_servers_get_addresses_of_their_own() {
    let etcd = Etcd::start().await;
    // 62 addresses, one of them kubernetes': nearly all are needed.
    let apis = [
        Api::start(&etcd, "10.96.0.0/26").await,
        Api::start(&etcd, "10.96.0.0/26").await,
    ];
    apis[0].namespace("default").await;
    let creates = (0..50).map(|i| {
        let body = service(&format!("s{i}"), json!({"type": "NodePort"}));
        apis[i % 2].call("POST", SERVICES, body)
    });
    let made: Vec<Value> = join_all(creates)
        .await
        .into_iter()
        .map(Api::accepted)
        .collect();
    let ips: BTreeSet<&str> = made
        .iter()
        .map(|service| service["spec"]["clusterIP"].as_str().unwrap())
        .collect();
    let ports: BTreeSet<i64> = made
        .iter()
        .map(|service| service["spec"]["ports"][0]["nodePort"].as_i64().unwrap())
        .collect();
    assert_eq!((ips.len(), ports.len()), (50, 50));
    assert!(!ips.contains("10.96.0.1"));
    for service in &made {
        let spec = &service["spec"];
        assert_eq!(spec["clusterIPs"], json!([spec["clusterIP"]]));
        assert_eq!(spec["ipFamilies"], json!(["IPv4"]));
        assert_eq!(spec["ipFamilyPolicy"], "SingleStack");
    }

    // A server that starts later knows them: the rest is given out, then nothing is left.
    let late = Api::start(&etcd, "10.96.0.0/26").await;
    let mut all: BTreeSet<String> = ips.into_iter().map(str::to_owned).collect();
    for i in 0..11 {
        let body = service(&format!("late{i}"), json!({}));
        let made = Api::accepted(late.call("POST", SERVICES, body).await);
        let ip = made["spec"]["clusterIP"].as_str().unwrap().to_owned();
        assert!(all.insert(ip.clone()), "{ip} was given twice");
    }
    let (code, body) = late
        .call("POST", SERVICES, service("none", json!({})))
        .await;
    assert_eq!(code, 500);
    assert!(message(&body).contains("range is full"), "{body}");
}

#[tokio::test]
async fn an_address_is_held_until_its_service_is_gone() {
    let etcd = Etcd::start().await;
    let api = Api::start(&etcd, "10.96.0.0/16").await;
    api.namespace("default").await;
    let fixed = |name: &str| service(name, json!({"clusterIP": "10.96.0.10"}));

    // A dry run takes nothing.
    let dry = format!("{SERVICES}?dryRun=All");
    Api::accepted(api.call("POST", &dry, fixed("a")).await);
    Api::accepted(api.call("POST", SERVICES, fixed("b")).await);

    let (code, body) = api.call("POST", SERVICES, fixed("c")).await;
    assert_eq!(code, 422);
    assert_eq!(
        message(&body),
        "Service \"c\" is invalid: spec.clusterIPs: Invalid value: [\"10.96.0.10\"]: \
         failed to allocate IP 10.96.0.10: provided IP is already allocated"
    );
    let (code, body) = api.call("POST", SERVICES, fixed("b")).await;
    assert_eq!((code, &body["reason"]), (409, &json!("AlreadyExists")));

    for (ip, why) in [
        (
            "10.97.0.1",
            "not in the valid range. The range of valid IPs is 10.96.0.0/16",
        ),
        ("10.96.0.1", "provided IP is already allocated"),
    ] {
        let body = service("c", json!({"clusterIP": ip}));
        let (code, body) = api.call("POST", SERVICES, body).await;
        assert_eq!(code, 422, "{body}");
        assert!(message(&body).contains(why), "{body}");
    }
    let kubernetes = service("kubernetes", json!({"clusterIP": "10.96.0.1"}));
    Api::accepted(api.call("POST", SERVICES, kubernetes).await);

    let path = format!("{SERVICES}/b");
    let change = json!({"spec": {"clusterIP": "10.96.0.11", "clusterIPs": ["10.96.0.11"]}});
    let (code, body) = api.call("PATCH", &path, change).await;
    assert_eq!(code, 422);
    assert!(message(&body).contains("may not change once set"), "{body}");

    Api::accepted(api.call("DELETE", &path, Value::Null).await);
    Api::accepted(api.call("POST", SERVICES, fixed("c")).await);

    // Becoming a mere name gives the address back too.
    let name = json!({"spec": {"type": "ExternalName", "externalName": "a.example", "clusterIP": null, "clusterIPs": null}});
    let named = Api::accepted(api.call("PATCH", &format!("{SERVICES}/c"), name).await);
    assert!(named["spec"].get("clusterIP").is_none(), "{named}");
    Api::accepted(api.call("POST", SERVICES, fixed("d")).await);

    let headless = service("headless", json!({"clusterIP": "None"}));
    let headless = Api::accepted(api.call("POST", SERVICES, headless).await);
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
}

#[tokio::test]
async fn node_ports_come_and_go_with_the_type() {
    let etcd = Etcd::start().await;
    let api = Api::start(&etcd, "10.96.0.0/16").await;
    api.namespace("default").await;
    let ports = |port: u16| {
        json!({"type": "NodePort", "ports": [
            {"name": "u", "port": 53, "protocol": "UDP", "nodePort": port},
            {"name": "t", "port": 53, "protocol": "TCP"},
        ]})
    };
    let dns = Api::accepted(
        api.call("POST", SERVICES, service("dns", ports(30053)))
            .await,
    );
    assert_eq!(dns["spec"]["ports"][1]["nodePort"], 30053);

    let (code, body) = api.call("POST", SERVICES, service("b", ports(30053))).await;
    assert_eq!(code, 422);
    assert_eq!(
        message(&body),
        "Service \"b\" is invalid: spec.ports[0].nodePort: Invalid value: 30053: provided port is already allocated"
    );
    let (_, body) = api.call("POST", SERVICES, service("b", ports(80))).await;
    assert!(
        message(&body).contains("The range of valid ports is 30000-32767"),
        "{body}"
    );

    // A label is no reason to let go of anything.
    let path = format!("{SERVICES}/dns");
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    let labelled = Api::accepted(api.call("PATCH", &path, label).await);
    assert_eq!(labelled["spec"], dns["spec"]);

    let inside = json!({"spec": {"type": "ClusterIP"}});
    let inside = Api::accepted(api.call("PATCH", &path, inside).await);
    assert_eq!(inside["spec"]["clusterIP"], dns["spec"]["clusterIP"]);
    assert!(inside["spec"]["ports"][0].get("nodePort").is_none());
    Api::accepted(api.call("POST", SERVICES, service("b", ports(30053))).await);

    let balanced = service(
        "lb",
        json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"}),
    );
    let balanced = Api::accepted(api.call("POST", SERVICES, balanced).await);
    let health = &balanced["spec"]["healthCheckNodePort"];
    assert!(health.as_i64().unwrap() >= 30086, "{balanced}");
    assert_ne!(health, &balanced["spec"]["ports"][0]["nodePort"]);
}

#[tokio::test]
async fn nothing_new_starts_in_a_namespace_that_is_missing_or_going() {
    let etcd = Etcd::start().await;
    let api = Api::start(&etcd, "10.96.0.0/16").await;
    let map =
        |name: &str| json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}});

    let path = "/api/v1/namespaces/n/configmaps";
    let (code, body) = api.call("POST", path, map("a")).await;
    assert_eq!((code, message(&body)), (404, "namespaces \"n\" not found"));

    api.namespace("n").await;
    Api::accepted(api.call("POST", path, map("a")).await);
    Api::accepted(
        api.call("DELETE", "/api/v1/namespaces/n", Value::Null)
            .await,
    );
    // The deletion is in the cache once a read sees it.
    let phase = Api::accepted(api.call("GET", "/api/v1/namespaces/n", Value::Null).await);
    assert_eq!(phase["status"]["phase"], "Terminating");
    let (code, body) = api.call("POST", path, map("b")).await;
    assert_eq!(code, 403);
    assert_eq!(
        message(&body),
        "configmaps \"b\" is forbidden: unable to create new content in namespace n because it is being terminated"
    );
    assert_eq!(
        body["details"]["causes"],
        json!([{"reason": "NamespaceTerminating", "message": "namespace n is being terminated", "field": "metadata.namespace"}])
    );

    api.namespace("kube-system").await;
    let path = "/api/v1/namespaces/kube-system";
    let (code, body) = api.call("DELETE", path, Value::Null).await;
    assert_eq!(
        (code, message(&body)),
        (
            403,
            "namespaces \"kube-system\" is forbidden: this namespace may not be deleted"
        )
    );
}

#[tokio::test]
async fn pods_and_nodes_get_what_kubernetes_adds() {
    let etcd = Etcd::start().await;
    let api = Api::start(&etcd, "10.96.0.0/16").await;
    api.namespace("default").await;

    let (code, body) = api.call("POST", PODS, pod("p")).await;
    assert_eq!(
        (code, message(&body)),
        (
            403,
            "pods \"p\" is forbidden: error looking up service account default/default: serviceaccount \"default\" not found"
        )
    );
    let account =
        json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "default"}});
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    Api::accepted(api.call("POST", accounts, account).await);
    let made = Api::accepted(api.call("POST", PODS, pod("p")).await);
    let spec = &made["spec"];
    assert_eq!(spec["serviceAccountName"], "default");
    assert_eq!(spec["priority"], 0);
    assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);
    assert_eq!(
        spec["containers"][0]["volumeMounts"][0]["name"],
        spec["volumes"][0]["name"]
    );

    let node = |name: &str| json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": name}});
    let as_a = ("system:node:a", &["system:nodes"][..]);
    let made = Api::accepted(api.call_as(as_a, "POST", "/api/v1/nodes", node("a")).await);
    assert_eq!(
        made["spec"]["taints"],
        json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}])
    );
    let (code, body) = api.call_as(as_a, "POST", "/api/v1/nodes", node("b")).await;
    assert_eq!(
        (code, message(&body)),
        (
            403,
            "nodes \"b\" is forbidden: node \"a\" is not allowed to modify node \"b\""
        )
    );
    let (code, body) = api
        .call_as(as_a, "DELETE", &format!("{PODS}/p"), Value::Null)
        .await;
    assert_eq!(
        (code, message(&body)),
        (
            403,
            "pods \"p\" is forbidden: node \"a\" can only delete pods with spec.nodeName set to itself"
        )
    );
}
