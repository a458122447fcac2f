//! Claims and volumes over a real API server.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::harness::{
    Cluster, NAMESPACE, check, cluster, config, create, eventually, eventually_gone,
};

fn volume(name: &str, size: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": size},
            "hostPath": {"path": format!("/srv/{name}")},
        },
    })
}

fn claim(name: &str, class: Option<&str>) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": class,
        },
    })
}

async fn bound(cluster: &Cluster, name: &str) -> String {
    let claims: Api<PersistentVolumeClaim> = cluster.api(NAMESPACE);
    eventually(&format!("{name} is bound"), async || {
        let claim = claims.get(name).await.unwrap();
        let status = claim.status.unwrap_or_default();
        check(status.phase.as_deref() == Some("Bound"), &status)?;
        let capacity = status.capacity.unwrap_or_default();
        check(capacity.contains_key("storage"), &capacity)?;
        claim
            .spec
            .and_then(|spec| spec.volume_name)
            .ok_or_else(String::new)
    })
    .await
}

async fn in_phase(cluster: &Cluster, name: &str, wanted: &str) {
    let volumes: Api<PersistentVolume> = cluster.all();
    eventually(&format!("{name} is {wanted}"), async || {
        let status = volumes.get(name).await.unwrap().status.unwrap_or_default();
        check(status.phase.as_deref() == Some(wanted), &status)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_gets_the_smallest_volume_and_leaves_it_released() {
    let cluster = cluster(config()).await;
    let volumes: Api<PersistentVolume> = cluster.all();
    for (name, size) in [("large", "9Gi"), ("small", "2Gi"), ("tiny", "1Mi")] {
        create(&volumes, volume(name, size)).await;
        in_phase(&cluster, name, "Available").await;
    }
    let claims: Api<PersistentVolumeClaim> = cluster.api(NAMESPACE);
    create(&claims, claim("data", Some(""))).await;
    assert_eq!(bound(&cluster, "data").await, "small");
    in_phase(&cluster, "small", "Bound").await;

    // A bound volume stays until its claim goes.
    let now = DeleteParams::default();
    volumes.delete("small", &now).await.unwrap();
    let held = volumes.get("small").await.unwrap();
    assert!(held.metadata.deletion_timestamp.is_some());
    claims.delete("data", &now).await.unwrap();
    eventually_gone(&claims, "data").await;
    eventually_gone(&volumes, "small").await;

    create(&claims, claim("more", Some(""))).await;
    assert_eq!(bound(&cluster, "more").await, "large");
    claims.delete("more", &now).await.unwrap();
    in_phase(&cluster, "large", "Released").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_default_class_that_comes_later_serves_those_that_wait() {
    let cluster = cluster(config()).await;
    let nodes: Api<k8s_openapi::api::core::v1::Node> = cluster.all();
    let node = json!({"metadata": {"name": "a", "labels": {"kubernetes.io/hostname": "a"}}});
    create(&nodes, node).await;
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    nodes
        .patch_status("a", &Default::default(), &kube::api::Patch::Merge(&ready))
        .await
        .unwrap();
    let claims: Api<PersistentVolumeClaim> = cluster.api(NAMESPACE);
    create(&claims, claim("data", None)).await;
    let classes: Api<StorageClass> = cluster.all();
    let default = json!({
        "metadata": {"name": "standard", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "kubernetes.io/host-path",
    });
    create(&classes, default).await;
    let name = bound(&cluster, "data").await;
    let made = claims.get("data").await.unwrap();
    assert_eq!(name, format!("pvc-{}", made.metadata.uid.unwrap()));
    let class = made.spec.unwrap().storage_class_name;
    assert_eq!(class.as_deref(), Some("standard"));

    claims
        .delete("data", &DeleteParams::default())
        .await
        .unwrap();
    let volumes: Api<PersistentVolume> = cluster.all();
    eventually_gone(&volumes, &name).await;
}
