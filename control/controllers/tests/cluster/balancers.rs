use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Event, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use vetch_controllers::ControllersConfig;

use crate::harness::{
    Cluster, NAMESPACE, check, cluster, config, create, eventually, merge, server,
};

const ANNOUNCED_BY: &str = "vetch.dev/announced-by";

fn pooled(ranges: &[&str]) -> ControllersConfig {
    ControllersConfig {
        load_balancer_pool: ranges.iter().map(|range| range.parse().unwrap()).collect(),
        ..config()
    }
}

async fn balance(cluster: &Cluster, name: &str, changes: Value) -> Service {
    // What allocation adds is not in this server.
    let mut spec = json!({
        "type": "LoadBalancer", "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"], "ipFamilies": ["IPv4"],
        "allocateLoadBalancerNodePorts": false, "ports": [{"port": 80}],
    });
    for (key, value) in changes.as_object().unwrap() {
        spec[key] = value.clone();
    }
    cluster
        .create(json!({"metadata": {"name": name}, "spec": spec}))
        .await
}

/// Addresses in the status, and who announces them.
fn shown(service: &Service) -> (Vec<String>, Option<String>) {
    let status = serde_json::to_value(&service.status).unwrap();
    let ingress = status["loadBalancer"]["ingress"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let ips = ingress.iter().map(|own| {
        assert_eq!(own["ipMode"], "VIP");
        own["ip"].as_str().unwrap().to_owned()
    });
    let node = service.annotations().get(ANNOUNCED_BY).cloned();
    (ips.collect(), node)
}

async fn read(cluster: &Cluster, name: &str) -> (Vec<String>, Option<String>) {
    shown(&cluster.api::<Service>(NAMESPACE).get(name).await.unwrap())
}

async fn wait_for(cluster: &Cluster, name: &str, ips: &[&str], node: Option<&str>) {
    let what = format!("{name} has {ips:?}, announced by {node:?}");
    eventually(&what, async || {
        let (own, by) = read(cluster, name).await;
        check(own == ips && by.as_deref() == node, (own, by))
    })
    .await;
}

async fn event(cluster: &Cluster, name: &str, reason: &str) -> String {
    let what = format!("{name} is told {reason}");
    eventually(&what, async || {
        let all: Api<Event> = cluster.api(NAMESPACE);
        let all = all.list(&ListParams::default()).await.unwrap().items;
        let mut found = all.iter().filter(|own| {
            own.involved_object.name.as_deref() == Some(name)
                && own.reason.as_deref() == Some(reason)
        });
        found
            .next()
            .and_then(|own| own.message.clone())
            .ok_or_else(|| {
                format!(
                    "{:?}",
                    all.iter().map(|own| &own.message).collect::<Vec<_>>()
                )
            })
    })
    .await
}

async fn node(cluster: &Cluster, name: &str, ready: &str) {
    let nodes: Api<Node> = cluster.all();
    if nodes.get_opt(name).await.unwrap().is_none() {
        create(&nodes, json!({"metadata": {"name": name}})).await;
    }
    let status = json!({"status": {"conditions": [{"type": "Ready", "status": ready,
        "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    nodes
        .patch_status(name, &PatchParams::default(), &Patch::Strategic(status))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_given_once_and_come_back() {
    let cluster = cluster(pooled(&["192.0.2.1-192.0.2.2"])).await;
    balance(&cluster, "asks", json!({"loadBalancerIP": "192.0.2.1"})).await;
    wait_for(&cluster, "asks", &["192.0.2.1"], None).await;
    balance(&cluster, "next", json!({})).await;
    wait_for(&cluster, "next", &["192.0.2.2"], None).await;
    balance(&cluster, "late", json!({})).await;
    let told = event(&cluster, "late", "LoadBalancerPoolExhausted").await;
    assert_eq!(
        told,
        "all IPv4 addresses of the load-balancer pool 192.0.2.1-192.0.2.2 are taken"
    );
    balance(&cluster, "wants", json!({"loadBalancerIP": "192.0.2.2"})).await;
    let told = event(&cluster, "wants", "LoadBalancerIPUnavailable").await;
    assert_eq!(
        told,
        "spec.loadBalancerIP 192.0.2.2 is held by service default/next"
    );
    balance(
        &cluster,
        "other",
        json!({"loadBalancerClass": "example.com/lb"}),
    )
    .await;
    assert!(read(&cluster, "late").await.0.is_empty());

    let services: Api<Service> = cluster.api(NAMESPACE);
    services
        .delete("asks", &DeleteParams::default())
        .await
        .unwrap();
    wait_for(&cluster, "late", &["192.0.2.1"], None).await;
    // Another type has no use for its address.
    let inside = json!({"spec": {"type": "ClusterIP"}});
    merge(&services, "next", inside).await;
    wait_for(&cluster, "wants", &["192.0.2.2"], None).await;
    wait_for(&cluster, "next", &[], None).await;
    assert_eq!(
        read(&cluster, "other").await,
        (vec![], None),
        "another class's"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_statuses_say_is_taken_first() {
    let cluster = server().await;
    for name in ["a", "b", "c"] {
        balance(&cluster, name, json!({})).await;
    }
    // Of another life; c has what b has, and came later or with a later name.
    let services: Api<Service> = cluster.api(NAMESPACE);
    for (name, ip) in [("b", "192.0.2.1"), ("c", "192.0.2.2")] {
        let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": ip}]}}});
        let patch = Patch::Merge(status);
        services
            .patch_status(name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }
    node(&cluster, "n1", "True").await;
    cluster.start_controllers(pooled(&["192.0.2.0/29"]));
    wait_for(&cluster, "b", &["192.0.2.1"], Some("n1")).await;
    wait_for(&cluster, "c", &["192.0.2.2"], Some("n1")).await;
    wait_for(&cluster, "a", &["192.0.2.0"], Some("n1")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_get_addresses_of_their_own() {
    let cluster = cluster(pooled(&["192.0.2.0/26", "fd00::/64"])).await;
    let names: Vec<String> = (0..64).map(|number| format!("s{number}")).collect();
    let made = names.iter().map(|name| {
        let both = json!({"ipFamilies": ["IPv6", "IPv4"], "ipFamilyPolicy": "RequireDualStack",
            "clusterIP": "fd01::1", "clusterIPs": ["fd01::1", "10.96.0.10"]});
        balance(&cluster, name, both)
    });
    futures::future::join_all(made).await;
    let all = eventually("all have two", async || {
        let mut all = BTreeSet::new();
        for name in &names {
            let (ips, _) = read(&cluster, name).await;
            let families = ips.len() == 2 && ips[0].contains(':') && !ips[1].contains(':');
            check(families, (name, &ips))?;
            all.extend(ips);
        }
        Ok(all)
    })
    .await;
    assert_eq!(all.len(), 128, "{all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_announcing_node_is_one_that_can() {
    let cluster = cluster(pooled(&["192.0.2.0/28"])).await;
    balance(&cluster, "web", json!({})).await;
    wait_for(&cluster, "web", &["192.0.2.0"], None).await;
    node(&cluster, "n1", "True").await;
    wait_for(&cluster, "web", &["192.0.2.0"], Some("n1")).await;
    assert_eq!(
        event(&cluster, "web", "Announced").await,
        "node n1 announces 192.0.2.0"
    );
    // Others that come change nothing, until it cannot any more.
    node(&cluster, "n2", "True").await;
    balance(
        &cluster,
        "local",
        json!({"externalTrafficPolicy": "Local", "healthCheckNodePort": 31000}),
    )
    .await;
    eventually("local has an address", async || {
        let seen = read(&cluster, "local").await;
        check(seen == (vec!["192.0.2.1".to_owned()], None), seen)
    })
    .await;
    assert_eq!(read(&cluster, "web").await.1.as_deref(), Some("n1"));

    // Traffic that stays on its node needs a node with an endpoint.
    let slice = |node: &str, ready: bool| {
        json!({
            "metadata": {"name": "local-1", "labels": {"kubernetes.io/service-name": "local"}}, "addressType": "IPv4",
            "ports": [{"port": 80}],
            "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": node, "conditions": {"ready": ready}}],
        })
    };
    cluster.create::<EndpointSlice>(slice("n2", false)).await;
    let slices: Api<EndpointSlice> = cluster.api(NAMESPACE);
    merge(&slices, "local-1", slice("n2", true)).await;
    wait_for(&cluster, "local", &["192.0.2.1"], Some("n2")).await;
    merge(&slices, "local-1", slice("n1", true)).await;
    wait_for(&cluster, "local", &["192.0.2.1"], Some("n1")).await;

    let nodes: Api<Node> = cluster.all();
    let excluded = json!({"metadata": {"labels": {"node.kubernetes.io/exclude-from-external-load-balancers": ""}}});
    merge(&nodes, "n1", excluded).await;
    wait_for(&cluster, "web", &["192.0.2.0"], Some("n2")).await;
    wait_for(&cluster, "local", &["192.0.2.1"], None).await;
    node(&cluster, "n2", "False").await;
    node(&cluster, "n3", "True").await;
    wait_for(&cluster, "web", &["192.0.2.0"], Some("n3")).await;

    let services: Api<Service> = cluster.api(NAMESPACE);
    merge(&services, "web", json!({"spec": {"type": "ClusterIP"}})).await;
    wait_for(&cluster, "web", &[], None).await;
}
