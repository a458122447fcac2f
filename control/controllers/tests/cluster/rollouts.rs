use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::harness::{Cluster, NAMESPACE, cluster, config, eventually, merge};
use crate::nodes::Nodes;

const REVISION: &str = "deployment.kubernetes.io/revision";

/// Everything wanted is there, and the controller has seen the last change.
async fn complete(cluster: &Cluster, name: &str) -> Deployment {
    let api: Api<Deployment> = cluster.api(NAMESPACE);
    eventually("the rollout is complete", async || {
        let deployment = api.get(name).await.unwrap();
        let status = deployment.status.clone().unwrap_or_default();
        let wanted = deployment.spec.as_ref().unwrap().replicas;
        let counts = [
            status.replicas,
            status.updated_replicas,
            status.available_replicas,
        ];
        let seen = status.observed_generation == deployment.metadata.generation;
        match seen && counts == [wanted; 3] {
            true => Ok(deployment),
            false => Err(format!("{deployment:?}")),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_makes_a_revision_and_then_rests() {
    let cluster = cluster(config()).await;
    let _nodes = Nodes::start(&cluster, &["n1", "n2"]).await;
    cluster.deploy("web", 3, Value::Null).await;
    let first = complete(&cluster, "web").await;
    assert_eq!(first.annotations()[REVISION], "1");

    let api: Api<Deployment> = cluster.api(NAMESPACE);
    let image = json!([{"name": "c", "image": "i:v2"}]);
    let update = json!({"spec": {"template": {"spec": {"containers": image}}}});
    merge(&api, "web", update).await;
    let second = complete(&cluster, "web").await;
    assert_eq!(second.annotations()[REVISION], "2");
    let sets: Api<ReplicaSet> = cluster.api(NAMESPACE);
    let mut replicas: Vec<Option<i32>> = sets
        .list(&ListParams::default())
        .await
        .unwrap()
        .into_iter()
        .map(|set| set.spec.unwrap().replicas)
        .collect();
    replicas.sort();
    assert_eq!(replicas, [Some(0), Some(3)]);

    // While others are made from nothing, this one is not written any more.
    cluster.deploy("other", 3, Value::Null).await;
    complete(&cluster, "other").await;
    let rests = api.get("web").await.unwrap();
    cluster.deploy("third", 3, Value::Null).await;
    complete(&cluster, "third").await;
    let still = api.get("web").await.unwrap();
    assert_eq!(still.resource_version(), rests.resource_version());
    assert_eq!(still.metadata.generation, second.metadata.generation);
}
