use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Node, Pod, Secret};
use k8s_openapi::api::storage::v1::CSINode;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Resource, ResourceExt as _};
use serde_json::{Value, json};

use crate::harness::{
    Cluster, NAMESPACE, check, cluster, config, create, eventually, eventually_gone,
};
use crate::nodes::Nodes;

async fn sets(cluster: &Cluster) -> Vec<ReplicaSet> {
    let api: Api<ReplicaSet> = cluster.api(NAMESPACE);
    api.list(&ListParams::default()).await.unwrap().items
}

async fn deployed(cluster: &Cluster) {
    cluster.deploy("web", 2, Value::Null).await;
    eventually("the pods run", async || {
        let pods = cluster.pods(NAMESPACE, "web").await;
        let running = pods.len() == 2 && pods.iter().all(Nodes::is_ready);
        check(running, pods)
    })
    .await;
}

fn owner<K: Resource<DynamicType = ()>>(object: &K, blocks: bool) -> Value {
    json!({
        "apiVersion": K::api_version(&()), "kind": K::kind(&()), "name": object.name_any(),
        "uid": object.uid().unwrap(), "blockOwnerDeletion": blocks,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn background_deletion_takes_the_dependents_along() {
    let cluster = cluster(config()).await;
    let _nodes = Nodes::start(&cluster, &["n1"]).await;
    deployed(&cluster).await;
    let api: Api<Deployment> = cluster.api(NAMESPACE);
    api.delete("web", &DeleteParams::background())
        .await
        .unwrap();
    assert!(api.get_opt("web").await.unwrap().is_none(), "at once");
    eventually("sets and pods go", async || {
        let left = (
            sets(&cluster).await.len(),
            cluster.pods(NAMESPACE, "web").await.len(),
        );
        check(left == (0, 0), left)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreground_deletion_waits_for_the_dependents() {
    let cluster = cluster(config()).await;
    let _nodes = Nodes::start(&cluster, &["n1"]).await;
    deployed(&cluster).await;
    let set = sets(&cluster).await.remove(0);
    let fields = json!({"ownerReferences": [owner(&set, true)], "labels": {"app": "other"}});
    cluster.stuck_pod(NAMESPACE, fields).await;

    let api: Api<Deployment> = cluster.api(NAMESPACE);
    api.delete("web", &DeleteParams::foreground())
        .await
        .unwrap();
    eventually("all but the stuck pod end", async || {
        let left = cluster.pods(NAMESPACE, "web").await;
        check(left.is_empty(), left)
    })
    .await;
    let waits = api.get("web").await.unwrap();
    assert_eq!(waits.finalizers(), ["foregroundDeletion"]);
    let set = sets(&cluster).await.remove(0);
    assert_eq!(set.finalizers(), ["foregroundDeletion"]);
    let stuck = cluster.api::<Pod>(NAMESPACE).get("stuck").await.unwrap();
    assert!(stuck.metadata.deletion_timestamp.is_some());

    cluster.end_stuck_pod(NAMESPACE).await;
    eventually_gone(&api, "web").await;
    assert_eq!(sets(&cluster).await.len(), 0, "before their owner");
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_live_on() {
    let cluster = cluster(config()).await;
    let _nodes = Nodes::start(&cluster, &["n1"]).await;
    deployed(&cluster).await;
    let api: Api<Deployment> = cluster.api(NAMESPACE);
    api.delete("web", &DeleteParams::orphan()).await.unwrap();
    eventually_gone(&api, "web").await;
    let set = sets(&cluster).await.remove(0);
    assert_eq!(set.owner_references(), []);
    assert!(set.metadata.deletion_timestamp.is_none());
    assert_eq!(cluster.pods(NAMESPACE, "web").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn absent_owners_count_for_nothing() {
    let cluster = cluster(config()).await;
    let maps: Api<ConfigMap> = cluster.api(NAMESPACE);
    let there: ConfigMap = cluster.create(json!({"metadata": {"name": "there"}})).await;
    let mut absent = owner(&there, false);
    absent["uid"] = "00000000-0000-0000-0000-000000000000".into();
    let mut elsewhere = owner(&there, false);
    elsewhere["name"] = "other".into();
    let of = |name: &str, owners: &[&Value]| json!({"metadata": {"name": name, "ownerReferences": owners}});

    // Kinds without a controller of their own, too.
    cluster
        .create::<Secret>(of("kept", &[&owner(&there, false)]))
        .await;
    cluster.create::<Secret>(of("lost", &[&absent])).await;
    cluster
        .create::<ConfigMap>(of("misled", &[&elsewhere]))
        .await;
    cluster
        .create::<ConfigMap>(of("half", &[&owner(&there, false), &absent]))
        .await;
    let nodes: Api<Node> = cluster.all();
    create(&nodes, of("outside", &[&owner(&there, false)])).await;
    let secrets: Api<Secret> = cluster.api(NAMESPACE);
    eventually_gone(&secrets, "lost").await;
    eventually_gone(&maps, "misled").await;
    eventually("the absent owner is struck off", async || {
        let half = maps.get("half").await.unwrap();
        check(half.owner_references().len() == 1, half)
    })
    .await;
    secrets.get("kept").await.unwrap();

    maps.delete("there", &DeleteParams::default())
        .await
        .unwrap();
    eventually_gone(&secrets, "kept").await;
    eventually_gone(&maps, "half").await;
    // A cluster-scoped object cannot be owned from inside a namespace, and is not judged by that.
    eventually("people are told", async || {
        let events: Api<Event> = cluster.api(NAMESPACE);
        let events = events.list(&ListParams::default()).await.unwrap().items;
        let told = events.iter().any(|own| {
            own.reason.as_deref() == Some("OwnerRefInvalidNamespace")
                && own.involved_object.name.as_deref() == Some("outside")
        });
        check(told, events)
    })
    .await;
    nodes.get("outside").await.unwrap();
}

/// What a kubelet tells of a node's drivers is owned by the Node.
#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_drivers_go_with_it() {
    let cluster = cluster(config()).await;
    let (nodes, drivers): (Api<Node>, Api<CSINode>) = (cluster.all(), cluster.all());
    for name in ["goes", "stays"] {
        let node = create(&nodes, json!({"metadata": {"name": name}})).await;
        let metadata = json!({"name": name, "ownerReferences": [owner(&node, false)]});
        create(
            &drivers,
            json!({"metadata": metadata, "spec": {"drivers": []}}),
        )
        .await;
    }
    nodes
        .delete("goes", &DeleteParams::default())
        .await
        .unwrap();
    eventually_gone(&drivers, "goes").await;
    drivers.get("stays").await.unwrap();
}
