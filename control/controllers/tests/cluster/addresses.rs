use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::harness::{
    Cluster, NAMESPACE, check, cluster, config, create, eventually, eventually_gone,
};

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";

fn address(name: &str, service: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {
            "ipaddress.kubernetes.io/ip-family": "IPv4",
            "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
        }},
        "spec": {"parentRef": {"resource": "services", "namespace": NAMESPACE, "name": service}},
    })
}

async fn serve(cluster: &Cluster, name: &str, ip: &str) {
    let service = json!({
        "metadata": {"name": name},
        "spec": {"clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"], "ports": [{"port": 80}]},
    });
    cluster.create::<Service>(service).await;
}

/// Waits for the ServiceCIDR's Ready condition.
async fn told(cidrs: &Api<ServiceCIDR>, name: &str, ready: &str, reason: &str) {
    let what = format!("{name} is {ready}, {reason:?}");
    eventually(&what, async || {
        let found = cidrs.get(name).await.unwrap();
        let held = found.metadata.finalizers.as_deref() == Some(&[FINALIZER.to_owned()][..]);
        let conditions = found
            .status
            .iter()
            .flat_map(|own| own.conditions.iter().flatten());
        let mut conditions: Vec<_> = conditions.collect();
        let told = conditions.pop();
        let told = told.is_some_and(|own| {
            (own.type_.as_str(), own.status.as_str(), own.reason.as_str())
                == ("Ready", ready, reason)
        });
        check(held && told && conditions.is_empty(), found.clone())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_cidr_is_held_until_nobody_has_an_address_of_it() {
    let cluster = cluster(config()).await;
    let cidrs: Api<ServiceCIDR> = cluster.all();
    let addresses: Api<IPAddress> = cluster.all();
    let cidr = |name: &str, network: &str| json!({"metadata": {"name": name}, "spec": {"cidrs": [network]}});
    create(&cidrs, cidr("more", "10.97.0.0/24")).await;
    told(&cidrs, "more", "True", "").await;
    serve(&cluster, "web", "10.97.0.9").await;
    eventually("the address is held", async || {
        let found = addresses.get_opt("10.97.0.9").await.unwrap();
        check(found.is_some(), found)
    })
    .await;

    let now = DeleteParams::default();
    cidrs.delete("more", &now).await.unwrap();
    told(&cidrs, "more", "False", "Terminating").await;
    let services: Api<Service> = cluster.api(NAMESPACE);
    services.delete("web", &now).await.unwrap();
    addresses.delete("10.97.0.9", &now).await.unwrap();
    eventually_gone(&cidrs, "more").await;

    // Another one that has its addresses lets it go as well.
    create(&cidrs, cidr("small", "10.98.0.0/24")).await;
    told(&cidrs, "small", "True", "").await;
    serve(&cluster, "db", "10.98.0.9").await;
    eventually("the address is held", async || {
        let found = addresses.get_opt("10.98.0.9").await.unwrap();
        check(found.is_some(), found)
    })
    .await;
    cidrs.delete("small", &now).await.unwrap();
    told(&cidrs, "small", "False", "Terminating").await;
    create(&cidrs, cidr("large", "10.98.0.0/16")).await;
    eventually_gone(&cidrs, "small").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_and_their_ip_addresses_are_kept_together() {
    let cluster = cluster(config()).await;
    let addresses: Api<IPAddress> = cluster.all();
    serve(&cluster, "web", "10.96.0.9").await;
    let parent = async |name: &str| {
        let found = addresses.get_opt(name).await.unwrap();
        found.map(|own| own.spec.parent_ref.name)
    };
    let held = async || {
        eventually("web's address is held", async || {
            let found = parent("10.96.0.9").await;
            check(found.as_deref() == Some("web"), found)
        })
        .await
    };
    held().await;
    let now = DeleteParams::default();
    addresses.delete("10.96.0.9", &now).await.unwrap();
    held().await;

    // One that no service has is no longer held; somebody else's is theirs.
    create(&addresses, address("10.96.0.10", "web")).await;
    create(&addresses, address("10.96.0.11", "none")).await;
    let mut theirs = address("10.96.0.12", "web");
    theirs["metadata"]["labels"] = Value::Null;
    create(&addresses, theirs).await;
    eventually_gone(&addresses, "10.96.0.10").await;
    eventually_gone(&addresses, "10.96.0.11").await;
    assert_eq!(parent("10.96.0.12").await.as_deref(), Some("web"));
    assert_eq!(parent("10.96.0.9").await.as_deref(), Some("web"));

    // A service whose address somebody else has is told.
    serve(&cluster, "late", "10.96.0.12").await;
    let events: Api<k8s_openapi::api::core::v1::Event> = cluster.api(NAMESPACE);
    eventually("it is told", async || {
        let events = events.list(&Default::default()).await.unwrap().items;
        let reasons: Vec<_> = events.into_iter().filter_map(|own| own.reason).collect();
        let told = reasons.iter().any(|own| own == "ClusterIPAlreadyAllocated");
        check(told, reasons)
    })
    .await;
}
