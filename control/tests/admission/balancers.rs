//! What a load balancer has of its own: the health check's port, a class, node ports it may do without.

use serde_json::{Value, json};
use vetch_store::testing::Etcd;

use super::api::{Api, SERVICES, message};
use super::services::service;

const WEB: &str = "/api/v1/namespaces/default/services/web";

#[tokio::test]
async fn the_health_checks_port_comes_stays_and_goes_with_the_policy() {
    let etcd = Etcd::start().await;
    let api = Api::start(&etcd, "10.96.0.0/24").await;
    api.namespace("default").await;
    let local = |name: &str, port: Value| {
        let spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": port});
        service(name, spec)
    };
    let made = Api::accepted(
        api.call("POST", SERVICES, local("web", json!(31_000)))
            .await,
    );
    assert_eq!(made["spec"]["healthCheckNodePort"], 31_000);
    // A manifest that does not say it means the one there is; another is refused.
    let again = Api::accepted(api.call("PUT", WEB, local("web", Value::Null)).await);
    assert_eq!(again["spec"], made["spec"]);
    let (code, body) = api.call("PUT", WEB, local("web", json!(31_001))).await;
    assert_eq!(
        (code, message(&body)),
        (
            422,
            "Service \"web\" is invalid: spec.healthCheckNodePort: Forbidden: field is immutable"
        )
    );
    let (code, body) = api
        .call("POST", SERVICES, local("other", json!(31_000)))
        .await;
    assert_eq!(code, 500, "{body}");
    assert!(
        message(&body).contains("failed to allocate requested HealthCheck NodePort 31000: provided port is already allocated"),
        "{body}"
    );

    let cluster = json!({"spec": {"externalTrafficPolicy": "Cluster"}});
    let cluster = Api::accepted(api.call("PATCH", WEB, cluster).await);
    assert!(
        cluster["spec"].get("healthCheckNodePort").is_none(),
        "{cluster}"
    );
    Api::accepted(
        api.call("POST", SERVICES, local("other", json!(31_000)))
            .await,
    );
    let back = json!({"spec": {"externalTrafficPolicy": "Local"}});
    let back = Api::accepted(api.call("PATCH", WEB, back).await);
    assert_ne!(back["spec"]["healthCheckNodePort"], 31_000);
    assert!(back["spec"]["healthCheckNodePort"].is_i64(), "{back}");
}

#[tokio::test]
async fn a_load_balancer_may_do_without_node_ports() {
    let etcd = Etcd::start().await;
    let api = Api::start(&etcd, "10.96.0.0/24").await;
    api.namespace("default").await;
    let without = json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false});
    let made = Api::accepted(api.call("POST", SERVICES, service("web", without)).await);
    assert!(made["spec"]["ports"][0].get("nodePort").is_none(), "{made}");
    let with = json!({"spec": {"allocateLoadBalancerNodePorts": true}});
    let given = Api::accepted(api.call("PATCH", WEB, with).await);
    let port = given["spec"]["ports"][0]["nodePort"].clone();
    assert!(port.is_i64(), "{given}");
    // As on Kubernetes: they go when they are taken out by hand.
    let without = json!({"spec": {"allocateLoadBalancerNodePorts": false}});
    let kept = Api::accepted(api.call("PATCH", WEB, without).await);
    assert_eq!(kept["spec"]["ports"][0]["nodePort"], port);
}

#[tokio::test]
async fn a_class_is_for_life_and_the_status_for_load_balancers() {
    let etcd = Etcd::start().await;
    let api = Api::start(&etcd, "10.96.0.0/24").await;
    api.namespace("default").await;
    let spec = json!({"type": "LoadBalancer", "loadBalancerClass": "vetch.dev/pool"});
    Api::accepted(api.call("POST", SERVICES, service("web", spec)).await);
    for class in [json!("a.b/c"), Value::Null] {
        let change = json!({"spec": {"loadBalancerClass": class}});
        let (code, body) = api.call("PATCH", WEB, change).await;
        assert_eq!(code, 422, "{body}");
        assert!(
            message(&body).contains("spec.loadBalancerClass: Invalid value: "),
            "{body}"
        );
        assert!(
            message(&body).ends_with("may not change once set"),
            "{body}"
        );
    }
    let status = format!("{WEB}/status");
    let ingress = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}});
    Api::accepted(api.call("PATCH", &status, ingress.clone()).await);
    let inside = json!({"spec": {"type": "ClusterIP"}});
    let inside = Api::accepted(api.call("PATCH", WEB, inside).await);
    assert_eq!(inside["status"], json!({"loadBalancer": {}}));
    for gone in [
        "loadBalancerClass",
        "allocateLoadBalancerNodePorts",
        "externalTrafficPolicy",
    ] {
        assert!(inside["spec"].get(gone).is_none(), "{gone}: {inside}");
    }
    let (code, body) = api.call("PATCH", &status, ingress).await;
    assert_eq!(code, 422);
    assert!(
        message(&body).contains("may only be used when `spec.type` is 'LoadBalancer'"),
        "{body}"
    );
}
