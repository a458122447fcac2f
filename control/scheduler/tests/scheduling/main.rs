//! The scheduler against the API server over a real etcd, both in this process.

mod cluster;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use self::cluster::{Cluster, owned, pod};

const NO_ROOM: &str = "0/1 nodes are available: 1 Insufficient cpu. \
    preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";

fn condition(pod: &Value) -> Option<&Value> {
    let conditions = pod["status"]["conditions"].as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == "PodScheduled")
}

fn is_refused(pod: &Value) -> bool {
    condition(pod).is_some_and(|condition| condition["reason"] == "Unschedulable")
}

fn is_bound(pod: &Value) -> bool {
    pod["spec"]["nodeName"].is_string()
}

#[tokio::test]
async fn replicas_get_a_node_each_and_an_event() {
    let cluster = Cluster::start().await;
    for node in ["node-1", "node-2", "node-3"] {
        cluster.node(node, "4").await;
    }
    for name in ["web-1", "web-2", "web-3"] {
        cluster.create(&owned(pod(name, "100m"))).await;
    }
    let mut nodes = BTreeMap::new();
    for name in ["web-1", "web-2", "web-3"] {
        let bound = cluster.wait(name, is_bound).await;
        assert_eq!(
            condition(&bound).map(|condition| &condition["status"]),
            Some(&json!("True"))
        );
        nodes.insert(bound["spec"]["nodeName"].to_string(), name);
        let event = cluster.event(name, "Scheduled").await;
        let node = bound["spec"]["nodeName"].as_str().unwrap();
        assert_eq!(
            event["message"],
            format!("Successfully assigned default/{name} to {node}")
        );
        assert_eq!(event["type"], "Normal");
        assert_eq!(event["action"], "Binding");
        assert_eq!(event["reportingComponent"], "default-scheduler");
    }
    assert_eq!(nodes.len(), 3, "{nodes:?}");
}

#[tokio::test]
async fn a_refused_pod_says_why_and_is_bound_when_there_is_room() {
    let cluster = Cluster::start().await;
    cluster.node("node-1", "2").await;
    cluster.create(&pod("first", "2")).await;
    cluster.wait("first", is_bound).await;
    cluster.create(&pod("second", "1")).await;
    let refused = cluster.wait("second", is_refused).await;
    let condition = condition(&refused).unwrap();
    assert_eq!(condition["status"], "False");
    assert_eq!(condition["message"], NO_ROOM);
    let event = cluster.event("second", "FailedScheduling").await;
    assert_eq!(event["message"], NO_ROOM);
    assert_eq!(event["type"], "Warning");
    cluster.delete("first").await;
    let bound = cluster.wait("second", is_bound).await;
    assert_eq!(bound["spec"]["nodeName"], "node-1");
    assert!(!is_refused(&bound));
}

#[tokio::test]
async fn refused_again_for_the_same_reason_the_event_counts_up() {
    let cluster = Cluster::start().await;
    cluster.node("node-1", "3").await;
    for (name, cpu) in [("large", "2"), ("small", "1")] {
        cluster.create(&pod(name, cpu)).await;
        cluster.wait(name, is_bound).await;
    }
    cluster.create(&pod("second", "2")).await;
    let refused = cluster.wait("second", is_refused).await;
    let first = cluster.event("second", "FailedScheduling").await;
    // Room, but not enough.
    cluster.delete("small").await;
    let again = cluster
        .event_that("second", "FailedScheduling", |event| {
            event["series"]["count"] == 2
        })
        .await;
    assert_eq!(again["metadata"]["uid"], first["metadata"]["uid"]);
    assert_eq!(again["message"], NO_ROOM);
    let still = cluster.wait("second", is_refused).await;
    assert_eq!(
        still["metadata"]["resourceVersion"], refused["metadata"]["resourceVersion"],
        "nothing new was said of the pod"
    );
}

#[tokio::test]
async fn a_node_that_comes_is_used() {
    let cluster = Cluster::start().await;
    cluster.create(&pod("early", "1")).await;
    let refused = cluster.wait("early", is_refused).await;
    let message = &condition(&refused).unwrap()["message"];
    assert_eq!(message, "no nodes available to schedule pods");
    cluster.node("node-1", "2").await;
    cluster.wait("early", is_bound).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_never_booked_twice() {
    let cluster = Cluster::start().await;
    cluster.node("node-1", "5").await;
    let names: Vec<String> = (0..40).map(|i| format!("p-{i}")).collect();
    let pods: Vec<Value> = names.iter().map(|name| pod(name, "1")).collect();
    futures::future::join_all(pods.iter().map(|pod| cluster.create(pod))).await;
    let mut bound = 0;
    for name in &names {
        let decided = cluster
            .wait(name, |pod| is_bound(pod) || is_refused(pod))
            .await;
        bound += usize::from(is_bound(&decided));
    }
    assert_eq!(bound, 5);
    // One goes, one comes.
    let pods = cluster.pods().await;
    let leaving = pods.iter().find(|pod| is_bound(pod)).unwrap();
    cluster
        .delete(leaving["metadata"]["name"].as_str().unwrap())
        .await;
    let gone = leaving["metadata"]["uid"].clone();
    cluster
        .eventually(|pods| {
            let bound = pods.iter().filter(|pod| is_bound(pod));
            let bound: Vec<&Value> = bound.map(|pod| &pod["metadata"]["uid"]).collect();
            assert!(bound.len() <= 5, "booked twice: {bound:?}");
            bound.len() == 5 && !bound.contains(&&gone)
        })
        .await;
}

#[tokio::test]
async fn an_important_pod_takes_the_place_of_another() {
    let cluster = Cluster::start().await;
    cluster.node("node-1", "2").await;
    let mut low = pod("low", "2");
    low["metadata"]["finalizers"] = json!(["test/hold"]);
    cluster.create(&low).await;
    cluster.wait("low", is_bound).await;
    let mut vip = pod("vip", "2");
    vip["spec"]["priority"] = 1000.into();
    cluster.create(&vip).await;
    let evicted = cluster
        .wait("low", |pod| {
            pod["metadata"]["deletionTimestamp"].is_string()
        })
        .await;
    let conditions = evicted["status"]["conditions"].as_array().unwrap();
    let target = conditions
        .iter()
        .find(|condition| condition["type"] == "DisruptionTarget")
        .unwrap();
    assert_eq!(target["reason"], "PreemptionByScheduler");
    let nominated = cluster
        .wait("vip", |pod| pod["status"]["nominatedNodeName"] == "node-1")
        .await;
    let message = &condition(&nominated).unwrap()["message"];
    assert_eq!(message, "0/1 nodes are available: 1 Insufficient cpu.");
    let event = cluster.event("low", "Preempted").await;
    let uid = nominated["metadata"]["uid"].as_str().unwrap();
    assert_eq!(
        event["message"],
        format!("Preempted by pod {uid} on node node-1")
    );
    cluster.release("low").await;
    cluster.wait("vip", is_bound).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_pods_fill_the_nodes_evenly() {
    let cluster = Cluster::start().await;
    for i in 0..10 {
        cluster.node(&format!("node-{i}"), "100").await;
    }
    let started = std::time::Instant::now();
    let pods: Vec<Value> = (0..1000)
        .map(|i| owned(pod(&format!("p-{i}"), "100m")))
        .collect();
    for batch in pods.chunks(50) {
        futures::future::join_all(batch.iter().map(|pod| cluster.create(pod))).await;
    }
    let created = started.elapsed();
    cluster
        .eventually(|pods| pods.iter().filter(|pod| is_bound(pod)).count() == 1000)
        .await;
    println!(
        "created in {created:?}, all bound after {:?}",
        started.elapsed()
    );
    let mut on: BTreeMap<String, usize> = BTreeMap::new();
    for pod in cluster.pods().await {
        *on.entry(pod["spec"]["nodeName"].to_string()).or_default() += 1;
    }
    assert!(
        on.values().all(|count| (95..=105).contains(count)),
        "{on:?}"
    );
}
