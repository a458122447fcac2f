use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::DeleteParams;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::harness::{
    check, cluster, config, create, deployment, eventually, eventually_gone, merge,
};
use crate::nodes::Nodes;

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_goes_with_all_its_content_pods_first() {
    let cluster = cluster(config()).await;
    let _nodes = Nodes::start(&cluster, &["n1"]).await;
    let namespaces: Api<Namespace> = cluster.all();
    create(&namespaces, json!({"metadata": {"name": "n"}})).await;
    let maps: Api<ConfigMap> = cluster.api("n");
    let held = json!({"metadata": {"name": "held", "finalizers": ["example.com/mine"]}});
    create(&maps, held).await;
    let secrets: Api<Secret> = cluster.api("n");
    create(&secrets, json!({"metadata": {"name": "read-by-the-pod"}})).await;
    let deployments = cluster.api::<Deployment>("n");
    create(&deployments, deployment("web", 2, Value::Null)).await;
    eventually("pods run", async || {
        let pods = cluster.pods("n", "web").await;
        let running = pods.len() == 2 && pods.iter().all(Nodes::is_ready);
        check(running, pods)
    })
    .await;
    cluster.stuck_pod("n", json!({})).await;

    namespaces
        .delete("n", &DeleteParams::default())
        .await
        .unwrap();
    let condition = async |kind: &str| {
        let namespace = namespaces.get("n").await.unwrap();
        let conditions = namespace.status.and_then(|status| status.conditions);
        let found = conditions
            .unwrap_or_default()
            .into_iter()
            .find(|own| own.type_ == kind);
        found.map(|own| (own.status, own.message.unwrap_or_default()))
    };
    eventually("the stuck pod is all that is waited for", async || {
        let told = condition("NamespaceContentRemaining").await;
        let message = "Some resources are remaining: pods. has 1 resource instances";
        let wanted = Some(("True".to_owned(), message.to_owned()));
        check(told == wanted, told)
    })
    .await;
    let secret = secrets.get("read-by-the-pod").await.unwrap();
    assert!(secret.metadata.deletion_timestamp.is_none());

    cluster.end_stuck_pod("n").await;
    eventually_gone(&secrets, "read-by-the-pod").await;
    eventually("the finalizer is all that is waited for", async || {
        let told = condition("NamespaceFinalizersRemaining").await;
        let message = "Some content in the namespace has finalizers remaining: example.com/mine in 1 resource instances";
        let wanted = Some(("True".to_owned(), message.to_owned()));
        check(told == wanted, told)
    })
    .await;
    assert!(
        maps.get("held")
            .await
            .unwrap()
            .metadata
            .deletion_timestamp
            .is_some()
    );
    merge(&maps, "held", json!({"metadata": {"finalizers": null}})).await;
    eventually_gone(&namespaces, "n").await;
    let left = maps.list(&Default::default()).await.unwrap().items;
    let names: Vec<String> = left.iter().map(|own| own.name_any()).collect();
    assert_eq!(names, [""; 0]);
}
