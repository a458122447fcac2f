use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EndpointAddress, Endpoints, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::harness::{
    Cluster, NAMESPACE, check, cluster, config, create, eventually, eventually_gone, merge,
};
use crate::nodes::{Nodes, event};

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

/// `[sig-network] EndpointSlice should create Endpoints and EndpointSlices for Pods matching a Service`
#[tokio::test(flavor = "multi_thread")]
async fn endpoint_slice_should_create_endpoints_and_endpoint_slices_for_pods_matching_a_service() {
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

/// `[sig-network] EndpointSliceMirroring should mirror a custom Endpoints resource through create update and delete`
#[tokio::test(flavor = "multi_thread")]
async fn endpoint_slice_mirroring_should_mirror_a_custom_endpoints_resource_through_create_update_and_delete()
 {
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
    let mirror = json!({"metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": null}}});
    merge(&api, "db", mirror).await;
    eventually("they are wanted again", async || {
        let seen = sliced(&cluster, "db").await;
        check(seen == (1, 0), seen)
    })
    .await;
    api.delete("db", &DeleteParams::default()).await.unwrap();
    eventually("the slice goes with them", async || {
        let left = slices(&cluster, "db").await;
        check(left.is_empty(), left)
    })
    .await;
}

/// What has a selector that matches no pod: an empty Endpoints and one empty slice, gone with the service.
async fn assert_empty_and_deleted(cluster: &Cluster) {
    cluster.serve("web").await;
    eventually("one empty slice, and empty endpoints", async || {
        let (slices, endpoints) = (slices(cluster, "web").await, listed(cluster, "web").await);
        let empty = slices.len() == 1 && slices[0].endpoints.iter().flatten().count() == 0;
        check(empty && endpoints == Some((0, 0)), (slices, endpoints))
    })
    .await;
    let services: Api<Service> = cluster.api(NAMESPACE);
    services
        .delete("web", &DeleteParams::default())
        .await
        .unwrap();
}

/// `[sig-network] EndpointSlice should create and delete EndpointSlices for a Service with a selector that matches no
/// pods`
#[tokio::test(flavor = "multi_thread")]
async fn endpoint_slice_should_create_and_delete_endpoint_slices_for_a_service_with_a_selector_that_matches_no_pods()
 {
    let cluster = cluster(config()).await;
    assert_empty_and_deleted(&cluster).await;
    eventually("the slice is collected", async || {
        let left = slices(&cluster, "web").await;
        check(left.is_empty(), left)
    })
    .await;
}

/// `[sig-network] EndpointsController should create and delete Endpoints for a Service with a selector that matches no
/// pods`
#[tokio::test(flavor = "multi_thread")]
async fn endpoints_controller_should_create_and_delete_endpoints_for_a_service_with_a_selector_that_matches_no_pods()
 {
    let cluster = cluster(config()).await;
    assert_empty_and_deleted(&cluster).await;
    eventually_gone(&cluster.api::<Endpoints>(NAMESPACE), "web").await;
}

/// `[sig-network] EndpointsController should create Endpoints for Pods matching a Service`
#[tokio::test(flavor = "multi_thread")]
async fn endpoints_controller_should_create_endpoints_for_pods_matching_a_service() {
    let cluster = cluster(config()).await;
    let _nodes = Nodes::start(&cluster, &["n1", "n2"]).await;
    cluster.deploy("web", 2, Value::Null).await;
    cluster.serve("web").await;
    // Another service of the same pods, at another port.
    let numbered = json!({
        "metadata": {"name": "numbered"},
        "spec": {"clusterIP": "10.96.0.11", "ipFamilies": ["IPv4"], "selector": {"app": "web"},
            "ports": [{"name": "https", "port": 443, "targetPort": 8443}]},
    });
    cluster.create::<Service>(numbered).await;
    for (service, port) in [
        (
            "web",
            json!({"name": "http", "port": 8080, "protocol": "TCP"}),
        ),
        (
            "numbered",
            json!({"name": "https", "port": 8443, "protocol": "TCP"}),
        ),
    ] {
        wait_for(&cluster, service, (2, 0)).await;
        let found = cluster.api::<Endpoints>(NAMESPACE).get(service).await;
        let found = serde_json::to_value(found.unwrap().subsets).unwrap();
        assert_eq!(found[0]["ports"], json!([port]));
        let mut addresses: Vec<(String, String)> = found[0]["addresses"]
            .as_array()
            .unwrap()
            .iter()
            .map(|own| (own["ip"].to_string(), own["targetRef"]["name"].to_string()))
            .collect();
        addresses.sort();
        let pods = cluster.pods(NAMESPACE, "web").await;
        let mut wanted: Vec<(String, String)> = pods
            .iter()
            .map(|pod| {
                let ip = pod.status.as_ref().and_then(|own| own.pod_ip.clone());
                (json!(ip).to_string(), json!(pod.name_any()).to_string())
            })
            .collect();
        wanted.sort();
        assert_eq!(addresses, wanted);
    }
    let deployments = cluster.api::<k8s_openapi::api::apps::v1::Deployment>(NAMESPACE);
    merge(&deployments, "web", json!({"spec": {"replicas": 0}})).await;
    for service in ["web", "numbered"] {
        wait_for(&cluster, service, (0, 0)).await;
    }
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

/// How many ready endpoints are for each zone; those without a hint are for `""`.
async fn hinted(cluster: &Cluster, service: &str) -> BTreeMap<String, usize> {
    let mut zones = BTreeMap::new();
    for slice in slices(cluster, service).await {
        for endpoint in slice.endpoints.into_iter().flatten() {
            let hints = endpoint.hints.and_then(|hints| hints.for_zones);
            let zone = hints.map_or_else(String::new, |zones| zones[0].name.clone());
            *zones.entry(zone).or_default() += 1;
        }
    }
    zones
}

#[tokio::test(flavor = "multi_thread")]
async fn topology_mode_auto_spreads_endpoints_over_zones() {
    let cluster = cluster(config()).await;
    let nodes: Api<Node> = cluster.all();
    let _nodes = Nodes::start(&cluster, &["n1", "n2"]).await;
    let zone = async |node: &str, zone: &str| {
        let label = json!({"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}});
        merge(&nodes, node, label).await;
        let patch = Patch::Merge(json!({"status": {"allocatable": {"cpu": "2"}}}));
        let parameters = PatchParams::default();
        nodes.patch_status(node, &parameters, &patch).await.unwrap();
    };
    // All of a deployment's pods have names of one length, which is how these nodes get them: all or none.
    cluster.deploy("web", 4, Value::Null).await;
    cluster.serve("web").await;
    wait_for(&cluster, "web", (4, 0)).await;
    let services: Api<Service> = cluster.api(NAMESPACE);
    let mode = async |mode: Value| {
        let annotation = json!({"service.kubernetes.io/topology-mode": mode});
        let annotated = json!({"metadata": {"annotations": annotation}});
        merge(&services, "web", annotated).await;
    };
    let expect = async |zones: &[(&str, usize)]| {
        let zones = zones
            .iter()
            .map(|(zone, count)| ((*zone).to_owned(), *count));
        let wanted: BTreeMap<String, usize> = zones.collect();
        eventually(&format!("endpoints are for {wanted:?}"), async || {
            let seen = hinted(&cluster, "web").await;
            check(seen == wanted, seen)
        })
        .await;
    };
    mode("Auto".into()).await;
    let told = event(&cluster, "TopologyAwareHintsDisabled", "web").await;
    let words = "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes, addressType: IPv4";
    assert_eq!(told.message.as_deref(), Some(words));
    expect(&[("", 4)]).await;

    // The service is woken by what is said of its nodes.
    zone("n1", "a").await;
    zone("n2", "b").await;
    expect(&[("a", 2), ("b", 2)]).await;
    let told = event(&cluster, "TopologyAwareHintsEnabled", "web").await;
    assert_eq!(told.type_.as_deref(), Some("Normal"));
    mode(Value::Null).await;
    expect(&[("", 4)]).await;
}
