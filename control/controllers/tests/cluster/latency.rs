use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::harness::{Cluster, NAMESPACE, check, cluster, config, create, eventually};
use crate::nodes::Nodes;

const SERVICES: usize = 100;
/// Services that are made at once.
const AT_ONCE: usize = 10;
/// A quarter of Kubernetes' own thresholds for the 50th and the 90th of 100.
const MEDIAN: Duration = Duration::from_secs(5);
const NINETIETH: Duration = Duration::from_secs(12);

/// When each service's pod was first in a slice of it.
async fn endpoints_seen(slices: Api<EndpointSlice>) -> HashMap<String, Instant> {
    let mut seen = HashMap::new();
    let events = watcher(slices, watcher::Config::default()).applied_objects();
    let mut events = std::pin::pin!(events);
    while seen.len() < SERVICES {
        let slice = events.try_next().await.unwrap().expect("a watch goes on");
        let service = slice.labels()["kubernetes.io/service-name"].clone();
        if service.starts_with("latency-") && slice.endpoints.iter().flatten().count() == 1 {
            seen.entry(service).or_insert_with(Instant::now);
        }
    }
    seen
}

async fn create_services(cluster: &Cluster) -> HashMap<String, Instant> {
    let made = stream::iter(0..SERVICES).map(|number| async move {
        let name = format!("latency-{number}");
        let api: Api<Service> = cluster.api(NAMESPACE);
        let service = json!({
            "metadata": {"name": name},
            "spec": {"clusterIP": "None", "ipFamilies": ["IPv4"], "selector": {"app": "web"},
                "ports": [{"port": 80}]},
        });
        let begun = Instant::now();
        create(&api, service).await;
        (name, begun)
    });
    made.buffer_unordered(AT_ONCE).collect().await
}

/// `[sig-network] Service endpoints latency should not be very high`
#[tokio::test(flavor = "multi_thread")]
async fn service_endpoints_latency_should_not_be_very_high() {
    let cluster = cluster(config()).await;
    let _nodes = Nodes::start(&cluster, &["n1"]).await;
    cluster.deploy("web", 1, Value::Null).await;
    cluster.serve("web").await;
    eventually("the pod is an endpoint", async || {
        let slices: Api<EndpointSlice> = cluster.api(NAMESPACE);
        let slices = slices.list(&Default::default()).await.unwrap().items;
        let ready = slices.iter().flat_map(|own| own.endpoints.iter().flatten());
        check(ready.count() == 1, slices.len())
    })
    .await;
    let seen = endpoints_seen(cluster.api(NAMESPACE));
    let (seen, begun) = tokio::join!(seen, create_services(&cluster));
    let mut took: Vec<Duration> = seen
        .iter()
        .map(|(service, at)| at.saturating_duration_since(begun[service]))
        .collect();
    took.sort_unstable();
    let (median, ninetieth) = (took[SERVICES / 2 - 1], took[SERVICES * 9 / 10 - 1]);
    assert!(
        median <= MEDIAN && ninetieth <= NINETIETH,
        "50th {median:?}, 90th {ninetieth:?}"
    );
}
