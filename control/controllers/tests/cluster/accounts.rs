use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::api::DeleteParams;
use serde_json::json;

use crate::harness::{check, cluster, config, create, eventually, merge};

#[tokio::test(flavor = "multi_thread")]
async fn every_namespace_has_its_account_and_the_root_certificate() {
    let cluster = cluster(config()).await;
    create(
        &cluster.all::<Namespace>(),
        json!({"metadata": {"name": "n"}}),
    )
    .await;
    let accounts = cluster.api::<ServiceAccount>("n");
    let maps = cluster.api::<ConfigMap>("n");
    let map = "kube-root-ca.crt";
    let both = async || {
        let account = accounts.get_opt("default").await.unwrap();
        let map = maps.get_opt(map).await.unwrap();
        let pem = map.and_then(|map| map.data?.remove("ca.crt"));
        check(
            account.is_some() && pem.as_deref() == Some("PEM"),
            (account, pem),
        )
    };
    eventually("they are made", both).await;

    merge(&maps, map, json!({"data": {"ca.crt": "wrong"}})).await;
    eventually("the map is repaired", both).await;
    maps.delete(map, &DeleteParams::default()).await.unwrap();
    accounts
        .delete("default", &DeleteParams::default())
        .await
        .unwrap();
    eventually("they are made again", both).await;
}
