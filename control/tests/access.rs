//! The guard over a real etcd: what nodes and service accounts reach through the server.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::Request;
use jiff::Timestamp;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use vetch_control::access::{Access, authenticate_token};
use vetch_identity::{Bound, Pki, TokenRequest, Tokens};
use vetch_server::Server;
use vetch_server::testing::{ApiServer, Parts};
use vetch_store::testing::Etcd;

struct Cluster {
    server: Server,
    router: axum::Router,
    tokens: Tokens,
    // Held until the end.
    _etcd: Etcd,
    _api: ApiServer,
}

async fn cluster() -> Cluster {
    let etcd = Etcd::start().await;
    let directory = tempfile::tempdir().unwrap();
    let tokens = Pki::open(directory.path()).unwrap().tokens().clone();
    let parts = Parts {
        guard: Arc::new(Access::new(tokens.clone())),
        ..Parts::default()
    };
    let api = ApiServer::start(&etcd, parts).await;
    Cluster {
        router: api.router.clone(),
        server: api.server.clone(),
        tokens,
        _etcd: etcd,
        _api: api,
    }
}

/// The code, and the body where it is JSON.
type Answer = (u16, Value);

async fn read(
    response: http::Response<impl http_body_util::BodyExt<Error: std::fmt::Debug>>,
) -> Answer {
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or_default())
}

fn message((_, body): &Answer) -> &str {
    body["message"].as_str().unwrap_or_default()
}

impl Cluster {
    async fn call_as(
        &self,
        user: &str,
        groups: &[&str],
        method: &str,
        path: &str,
        body: Value,
    ) -> Answer {
        let text = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let request = Request::builder().method(method).uri(path);
        let request = request
            .body(kube::client::Body::from(text.into_bytes()))
            .unwrap();
        let client = vetch_server::client(&self.router, user, groups);
        read(client.send(request).await.unwrap()).await
    }

    /// Creates as administrator.
    async fn create(&self, path: &str, body: Value) -> Value {
        let (code, body) = self
            .call_as("admin", &["system:masters"], "POST", path, body)
            .await;
        assert_eq!(code, 201, "{body}");
        body
    }

    async fn delete(&self, path: &str) {
        let (code, body) = self
            .call_as("admin", &["system:masters"], "DELETE", path, Value::Null)
            .await;
        assert!(matches!(code, 200 | 202), "{body}");
    }

    async fn node(&self, node: &str, method: &str, path: &str, body: Value) -> Answer {
        let user = format!("system:node:{node}");
        self.call_as(&user, &["system:nodes"], method, path, body)
            .await
    }

    /// From outside: nobody vouches for the caller but the header.
    async fn bearer(&self, token: &str, path: &str) -> u16 {
        let request = Request::builder().uri(path);
        let request = request.header("authorization", format!("Bearer {token}"));
        let request = request.body(Body::empty()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        response.status().as_u16()
    }

    /// A pod on the node, and the secret it mounts, both called after the node.
    async fn pod_with_secret(&self, node: &str) {
        let name = format!("of-{node}");
        self.create(
            SECRETS,
            json!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": name}}),
        )
        .await;
        let pod = json!({
            "kind": "Pod", "apiVersion": "v1", "metadata": {"name": name},
            "spec": {
                "nodeName": node,
                "containers": [{"name": "c", "image": "i"}],
                "volumes": [{"name": "v", "secret": {"secretName": name}}],
            },
        });
        self.create(PODS, pod).await;
    }
}

const PODS: &str = "/api/v1/namespaces/default/pods";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";

#[tokio::test]
async fn a_node_reads_what_its_own_pods_need() {
    let cluster = cluster().await;
    cluster.pod_with_secret("a").await;
    cluster.pod_with_secret("b").await;

    // At once: a pod's node must not be refused because a cache is behind.
    let own = cluster
        .node("a", "GET", &format!("{SECRETS}/of-a"), Value::Null)
        .await;
    assert_eq!(own.0, 200, "{}", own.1);
    let foreign = cluster
        .node("a", "GET", &format!("{SECRETS}/of-b"), Value::Null)
        .await;
    assert_eq!(foreign.0, 403);
    assert_eq!(
        message(&foreign),
        "secrets \"of-b\" is forbidden: User \"system:node:a\" cannot get resource \"secrets\" in API group \"\" \
         in the namespace \"default\": no relationship found between node 'a' and this object"
    );
    let all = cluster.node("a", "GET", SECRETS, Value::Null).await;
    assert_eq!(all.0, 403, "{}", all.1);

    // What its pod no longer needs, it no longer reads.
    cluster
        .delete(&format!("{PODS}/of-a?gracePeriodSeconds=0"))
        .await;
    eventually(async || {
        let own = cluster
            .node("a", "GET", &format!("{SECRETS}/of-a"), Value::Null)
            .await;
        own.0 == 403
    })
    .await;
}

#[tokio::test]
async fn a_node_lists_its_own_pods_only() {
    let cluster = cluster().await;
    cluster.pod_with_secret("a").await;
    cluster.pod_with_secret("b").await;

    let all = "/api/v1/pods";
    let own = cluster
        .node(
            "a",
            "GET",
            &format!("{all}?fieldSelector=spec.nodeName%3Da"),
            Value::Null,
        )
        .await;
    assert_eq!(own.0, 200, "{}", own.1);
    assert_eq!(own.1["items"].as_array().map(Vec::len), Some(1));
    for query in [
        "",
        "?fieldSelector=spec.nodeName%3Db",
        "?fieldSelector=spec.nodeName!%3Da",
    ] {
        let told = cluster
            .node("a", "GET", &format!("{all}{query}"), Value::Null)
            .await;
        assert_eq!(told.0, 403, "{query:?}: {}", told.1);
    }
    let status = json!({"status": {"phase": "Running"}});
    for (pod, code) in [("of-b", 403), ("gone", 404)] {
        let path = format!("{PODS}/{pod}");
        assert_eq!(
            cluster.node("a", "GET", &path, Value::Null).await.0,
            code,
            "get {pod}"
        );
        assert_eq!(
            cluster.node("a", "DELETE", &path, Value::Null).await.0,
            code,
            "delete {pod}"
        );
        let told = cluster
            .node("a", "PUT", &format!("{path}/status"), status.clone())
            .await;
        assert_eq!(told.0 == 403, code == 403, "status of {pod}: {}", told.1);
    }
}

#[tokio::test]
async fn a_node_renews_its_own_lease_only() {
    let cluster = cluster().await;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let lease = |name: &str| json!({"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "metadata": {"name": name}});
    let made = cluster.node("a", "POST", leases, lease("a")).await;
    assert_eq!(made.0, 201, "{}", made.1);
    let read = cluster
        .node("a", "GET", &format!("{leases}/a"), Value::Null)
        .await;
    assert_eq!(read.0, 200, "{}", read.1);
    cluster.create(leases, lease("b")).await;
    for (method, body) in [
        ("GET", Value::Null),
        ("PUT", lease("b")),
        ("DELETE", Value::Null),
    ] {
        let told = cluster
            .node("a", method, &format!("{leases}/b"), body)
            .await;
        assert_eq!(told.0, 403, "{method}: {}", told.1);
        assert!(
            message(&told).ends_with("same name as the requesting node"),
            "{}",
            told.1
        );
    }
}

#[tokio::test]
async fn a_node_tells_its_own_drivers_only() {
    let cluster = cluster().await;
    let storage = "/apis/storage.k8s.io/v1";
    let nodes = format!("{storage}/csinodes");
    let (own, other) = (format!("{nodes}/a"), format!("{nodes}/b"));
    let drivers = |name: &str, drivers: Value| {
        json!({
            "kind": "CSINode", "apiVersion": "storage.k8s.io/v1",
            "metadata": {"name": name}, "spec": {"drivers": drivers},
        })
    };
    // The steps of a kubelet: there is none, it makes one, and a driver registers.
    let missing = cluster.node("a", "GET", &own, Value::Null).await;
    assert_eq!(missing.0, 404, "{}", missing.1);
    let mut made = cluster
        .node("a", "POST", &nodes, drivers("a", Value::Null))
        .await;
    assert_eq!(made.0, 201, "{}", made.1);
    made.1["spec"] =
        json!({"drivers": [{"name": "csi.example.com", "nodeID": "i-1", "topologyKeys": null}]});
    let told = cluster.node("a", "PUT", &own, made.1).await;
    assert_eq!(told.0, 200, "{}", told.1);
    let read = cluster.node("a", "GET", &own, Value::Null).await.1;
    assert_eq!(read["spec"]["drivers"][0]["nodeID"], "i-1");

    cluster.create(&nodes, drivers("b", json!([]))).await;
    for (method, body) in [
        ("GET", Value::Null),
        ("PUT", drivers("b", json!([]))),
        ("DELETE", Value::Null),
    ] {
        let told = cluster.node("a", method, &other, body).await;
        assert_eq!(told.0, 403, "{method}: {}", told.1);
        assert!(
            message(&told).ends_with("same name as the requesting node"),
            "{}",
            told.1
        );
    }
    let listed = cluster.node("a", "GET", &nodes, Value::Null).await;
    assert_eq!(listed.0, 403, "{}", listed.1);
    let ended = cluster.node("a", "DELETE", &own, Value::Null).await;
    assert_eq!(ended.0, 200, "{}", ended.1);

    let all = format!("{storage}/csidrivers");
    let listed = cluster.node("a", "GET", &all, Value::Null).await;
    assert_eq!(listed.0, 200, "{}", listed.1);
    let driver = json!({
        "kind": "CSIDriver", "apiVersion": "storage.k8s.io/v1", "metadata": {"name": "csi.example.com"}, "spec": {},
    });
    let made = cluster.node("a", "POST", &all, driver).await;
    assert_eq!(made.0, 403, "{}", made.1);
}

#[tokio::test]
async fn a_token_falls_with_its_account_and_its_pod() {
    let cluster = cluster().await;
    cluster.pod_with_secret("a").await;
    let account =
        json!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "app"}});
    let account = cluster.create(ACCOUNTS, account).await;
    let pod = cluster
        .node("a", "GET", &format!("{PODS}/of-a"), Value::Null)
        .await
        .1;
    let uid = |object: &Value| {
        object["metadata"]["uid"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    let request = TokenRequest {
        namespace: "default".into(),
        service_account: "app".into(),
        service_account_uid: uid(&account),
        lifetime_seconds: 600,
        ..TokenRequest::default()
    };
    let bound = Some(Bound {
        name: "of-a".into(),
        uid: uid(&pod),
    });
    let sign = |request: TokenRequest| cluster.tokens.sign(request, Timestamp::now()).unwrap().0;
    let plain = sign(request.clone());
    let of_pod = sign(TokenRequest {
        pod: bound,
        ..request.clone()
    });
    let of_vault = sign(TokenRequest {
        audiences: vec!["vault".into()],
        ..request.clone()
    });
    let of_another = sign(TokenRequest {
        service_account_uid: "other".into(),
        ..request
    });

    // Known, and with nothing but discovery open to it.
    for token in [&plain, &of_pod] {
        assert_eq!(cluster.bearer(token, "/api").await, 200);
        assert_eq!(cluster.bearer(token, PODS).await, 403);
    }
    for token in [of_vault.as_str(), &of_another, "x"] {
        assert_eq!(cluster.bearer(token, "/api").await, 401, "{token}");
    }
    let vault = ["vault".to_owned()];
    let (user, _) = authenticate_token(&cluster.server, &cluster.tokens, &of_vault, &vault)
        .await
        .unwrap();
    assert_eq!(user.name, "system:serviceaccount:default:app");

    cluster
        .delete(&format!("{PODS}/of-a?gracePeriodSeconds=0"))
        .await;
    eventually(async || cluster.bearer(&of_pod, "/api").await == 401).await;
    assert_eq!(cluster.bearer(&plain, "/api").await, 200);
    cluster.delete(&format!("{ACCOUNTS}/app")).await;
    eventually(async || cluster.bearer(&plain, "/api").await == 401).await;
}

/// The caches follow etcd a moment later.
async fn eventually(condition: impl AsyncFn() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait)
        .await
        .expect("the condition within 10 s");
}
