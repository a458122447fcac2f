use k8s_openapi::api::core::v1::{EndpointAddress, Endpoints, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::harness::{
    Cluster, NAMESPACE, check, cluster, config, create, eventually, eventually_gone, merge,
};
use crate::nodes::Nodes;

async fn slices(cluster: &Cluster, service: &str) -> Vec<EndpointSlice> {
    let of = format!("kubernetes.io/service-name={service}");
    let listed = cluster
        .api(NAMESPACE)
        .list(&ListParams::default().labels(&of))
        .await;
    listed.unwrap().items
}

/// Ready endpoints, and others.
async fn sliced(cluster: &Cluster, service: &str) -> (usize, usize) {
    let slices = slices(cluster, service).await;
    let endpoints = slices
        .iter()
        .flat_map(|slice| slice.endpoints.iter().flatten());
    let ready: Vec<bool> = endpoints
        .map(|own| own.conditions.as_ref().and_then(|own| own.ready) == Some(true))
        .collect();
    let count = |wanted| ready.iter().filter(|own| **own == wanted).count();
    (count(true), count(false))
}

async fn listed(cluster: &Cluster, service: &str) -> Option<(usize, usize)> {
    let endpoints = cluster
        .api::<Endpoints>(NAMESPACE)
        .get_opt(service)
        .await
        .unwrap()?;
    let count = |list: &Option<Vec<EndpointAddress>>| list.as_ref().map_or(0, Vec::len);
    let subsets = endpoints.subsets.unwrap_or_default();
    Some((
        subsets.iter().map(|own| count(&own.addresses)).sum(),
        subsets
            .iter()
            .map(|own| count(&own.not_ready_addresses))
            .sum(),
    ))
}

async fn wait_for(cluster: &Cluster, service: &str, wanted: (usize, usize)) {
    let what = format!("{service} has {wanted:?}");
    eventually(&what, async || {
        let seen = (
            sliced(cluster, service).await,
            listed(cluster, service).await,
        );
        check(seen == (wanted, Some(wanted)), seen)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_follow_pods() {
    let cluster = cluster(config()).await;
    let _nodes = Nodes::start(&cluster, &["n1", "n2"]).await;
    cluster.deploy("web", 3, Value::Null).await;
    cluster.serve("web").await;
    wait_for(&cluster, "web", (3, 0)).await;

    let slice = slices(&cluster, "web").await.remove(0);
    let meta = &slice.metadata;
    assert!(slice.name_any().starts_with("web-"), "{meta:?}");
    let label = slice.labels()["endpointslice.kubernetes.io/managed-by"].as_str();
    assert_eq!(label, "endpointslice-controller.k8s.io");
    assert!(
        slice
            .annotations()
            .contains_key("endpoints.kubernetes.io/last-change-trigger-time")
    );
    let ports = serde_json::to_value(&slice.ports).unwrap();
    assert_eq!(
        ports,
        json!([{"name": "http", "port": 8080, "protocol": "TCP"}])
    );
    let endpoint = &slice.endpoints.as_ref().unwrap()[0];
    assert!(["n1", "n2"].contains(&endpoint.node_name.as_deref().unwrap()));

    // What is said of a pod is said of its endpoint; a change that is none is no write.
    let version = slice.resource_version();
    let pods: Api<Pod> = cluster.api(NAMESPACE);
    let pod = cluster.pods(NAMESPACE, "web").await.remove(0);
    merge(
        &pods,
        &pod.name_any(),
        json!({"metadata": {"annotations": {"a": "b"}}}),
    )
    .await;
    Nodes::say_ready(&cluster, &pod, false).await;
    wait_for(&cluster, "web", (2, 1)).await;
    let now = slices(&cluster, "web").await.remove(0);
    assert_eq!(now.name_any(), slice.name_any());
    assert_eq!(now.metadata.generation, meta.generation.map(|own| own + 1));
    assert_ne!(now.resource_version(), version);

    let deployments = cluster.api::<k8s_openapi::api::apps::v1::Deployment>(NAMESPACE);
    merge(&deployments, "web", json!({"spec": {"replicas": 0}})).await;
    wait_for(&cluster, "web", (0, 0)).await;
    eventually("one empty slice is left", async || {
        let left = slices(&cluster, "web").await;
        let empty = left.len() == 1 && left[0].ports.iter().flatten().count() == 0;
        check(empty, left)
    })
    .await;

    let services: Api<Service> = cluster.api(NAMESPACE);
    services
        .delete("web", &DeleteParams::default())
        .await
        .unwrap();
    eventually_gone(&cluster.api::<Endpoints>(NAMESPACE), "web").await;
    eventually("the slices are collected", async || {
        let left = slices(&cluster, "web").await;
        check(left.is_empty(), left)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_made_by_hand_are_mirrored() {
    let cluster = cluster(config()).await;
    // Before their service, as manifests may have it.
    let endpoints = json!({
        "metadata": {"name": "db"},
        "subsets": [{"addresses": [{"ip": "10.1.0.1"}, {"ip": "10.1.0.2"}], "ports": [{"port": 5432}]}],
    });
    cluster.create::<Endpoints>(endpoints).await;
    let service = json!({"metadata": {"name": "db"}, "spec": {"ports": [{"port": 5432}]}});
    cluster.create::<Service>(service).await;
    eventually("they are mirrored", async || {
        let seen = sliced(&cluster, "db").await;
        check(seen == (2, 0), seen)
    })
    .await;
    let slice = slices(&cluster, "db").await.remove(0);
    assert_eq!(
        slice.labels()["endpointslice.kubernetes.io/managed-by"],
        "endpointslicemirroring-controller.k8s.io"
    );

    let api: Api<Endpoints> = cluster.api(NAMESPACE);
    let fewer =
        json!({"subsets": [{"addresses": [{"ip": "10.1.0.3"}], "ports": [{"port": 5432}]}]});
    merge(&api, "db", fewer).await;
    eventually("the same slice follows", async || {
        let seen = slices(&cluster, "db").await;
        let own = seen.len() == 1 && seen[0].name_any() == slice.name_any();
        let addresses: Vec<String> = seen
            .iter()
            .flat_map(|slice| slice.endpoints.iter().flatten())
            .flat_map(|own| own.addresses.clone())
            .collect();
        check(own && addresses == ["10.1.0.3"], seen)
    })
    .await;
    let skip = json!({"metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}}});
    merge(&api, "db", skip).await;
    eventually("they are no longer wanted", async || {
        let left = slices(&cluster, "db").await;
        check(left.is_empty(), left)
    })
    .await;
    api.get("db").await.unwrap();
}

/// Type, addresses and hints of a service's slices.
async fn told(cluster: &Cluster, service: &str) -> Vec<Value> {
    let slices = slices(cluster, service).await;
    let mut told: Vec<Value> = slices
        .iter()
        .flat_map(|slice| {
            let endpoints = slice.endpoints.iter().flatten();
            endpoints.map(|own| json!([slice.address_type, own.addresses, own.hints, own.zone]))
        })
        .collect();
    told.sort_by_key(ToString::to_string);
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn slices_of_a_family_come_and_go_with_it() {
    let cluster = cluster(config()).await;
    let node =
        json!({"metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "east"}}});
    create(&cluster.all::<Node>(), node).await;
    let pod = json!({
        "metadata": {"name": "p", "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i", "ports": [{"name": "web", "containerPort": 8080}]}]},
    });
    cluster.create::<Pod>(pod).await;
    let status = json!({"status": {"phase": "Running", "podIP": "10.0.0.9", "podIPs": [{"ip": "10.0.0.9"}, {"ip": "fd00::9"}],
        "conditions": [{"type": "Ready", "status": "True"}]}});
    let pods: Api<Pod> = cluster.api(NAMESPACE);
    pods.patch_status("p", &PatchParams::default(), &Patch::Strategic(status))
        .await
        .unwrap();
    let service = json!({
        "metadata": {"name": "web"},
        "spec": {"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10", "fd01::10"], "ipFamilies": ["IPv4", "IPv6"],
            "ipFamilyPolicy": "PreferDualStack", "trafficDistribution": "PreferSameNode", "selector": {"app": "web"},
            "ports": [{"name": "http", "port": 80, "targetPort": "web"}]},
    });
    cluster.create::<Service>(service).await;
    let hints = json!({"forNodes": [{"name": "n1"}], "forZones": [{"name": "east"}]});
    let (four, six) = (
        json!(["IPv4", ["10.0.0.9"], hints, "east"]),
        json!(["IPv6", ["fd00::9"], hints, "east"]),
    );
    eventually("a slice of each", async || {
        let seen = told(&cluster, "web").await;
        check(seen == [four.clone(), six.clone()], seen)
    })
    .await;

    let services: Api<Service> = cluster.api(NAMESPACE);
    let single = json!({"spec": {"clusterIPs": ["10.96.0.10"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "trafficDistribution": null}});
    merge(&services, "web", single).await;
    let plain = json!(["IPv4", ["10.0.0.9"], null, "east"]);
    eventually("one family less, and no hints", async || {
        let seen = told(&cluster, "web").await;
        check(seen == [plain.clone()], seen)
    })
    .await;
}
