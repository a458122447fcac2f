use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::json;
use vetch_controllers::ControllersConfig;

use crate::harness::{Cluster, check, cluster, config, create, eventually};

async fn ranges(cluster: &Cluster) -> Vec<Option<String>> {
    let nodes: Api<Node> = cluster.all();
    let nodes = nodes.list(&Default::default()).await.unwrap().items;
    let range = |node: Node| {
        let spec = node.spec?;
        assert_eq!(spec.pod_cidrs, spec.pod_cidr.clone().map(|own| vec![own]));
        spec.pod_cidr
    };
    nodes.into_iter().map(range).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_has_a_range_of_its_own() {
    let cluster = cluster(config()).await;
    let nodes: Api<Node> = cluster.all();
    let made = (0..30).map(|number| {
        let node = json!({"metadata": {"name": format!("n{number}")}});
        create(&nodes, node)
    });
    futures::future::join_all(made).await;
    let ranges = eventually("all have one", async || {
        let ranges: Vec<String> = ranges(&cluster).await.into_iter().flatten().collect();
        match ranges.len() {
            30 => Ok(ranges),
            some => Err(format!("{some}")),
        }
    })
    .await;
    let distinct: BTreeSet<&String> = ranges.iter().collect();
    assert_eq!(distinct.len(), 30, "{ranges:?}");
    for range in distinct {
        assert!(
            range.starts_with("10.244.") && range.ends_with(".0/24"),
            "{range}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_free_again_when_its_node_goes() {
    let cluster = cluster(ControllersConfig {
        pod_cidrs: vec!["10.9.0.0/23".parse().unwrap()],
        ..config()
    })
    .await;
    let nodes: Api<Node> = cluster.all();
    for name in ["a", "b", "c"] {
        create(&nodes, json!({"metadata": {"name": name}})).await;
    }
    let given = async |wanted: usize| {
        let all = ranges(&cluster).await;
        check(all.iter().flatten().count() == wanted, all)
    };
    eventually("two of three have one", async || given(2).await).await;
    let lucky = eventually("one of them", async || {
        let all = nodes.list(&Default::default()).await.unwrap().items;
        let has = |node: &Node| {
            node.spec
                .as_ref()
                .is_some_and(|spec| spec.pod_cidr.is_some())
        };
        let found = all.into_iter().find(has);
        found
            .and_then(|node| node.metadata.name)
            .ok_or_else(String::new)
    })
    .await;
    nodes
        .delete(&lucky, &DeleteParams::default())
        .await
        .unwrap();
    eventually("both that are left have one", async || {
        let all = ranges(&cluster).await;
        let distinct: BTreeSet<&String> = all.iter().flatten().collect();
        check(all.len() == 2 && distinct.len() == 2, &all)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_get_both_families_and_old_ones_keep_what_they_have() {
    let cluster = cluster(ControllersConfig {
        pod_cidrs: vec![
            "10.9.0.0/16".parse().unwrap(),
            "fd00:9::/56".parse().unwrap(),
        ],
        ..config()
    })
    .await;
    let nodes: Api<Node> = cluster.all();
    let old = json!({"metadata": {"name": "old"}, "spec": {"podCIDR": "10.9.0.0/24"}});
    create(&nodes, old).await;
    create(&nodes, json!({"metadata": {"name": "new"}})).await;
    let cidrs = async |name: &str| {
        let node = nodes.get(name).await.unwrap();
        let spec = node.spec.unwrap_or_default();
        (spec.pod_cidr, spec.pod_cidrs.unwrap_or_default())
    };
    let (first, both) = eventually("the new one has its ranges", async || {
        let (first, both) = cidrs("new").await;
        first
            .map(|first| (first, both))
            .ok_or_else(|| "none".to_owned())
    })
    .await;
    assert_eq!(both.len(), 2, "{both:?}");
    assert_eq!(both[0], first);
    assert!(
        first.starts_with("10.9.") && first != "10.9.0.0/24",
        "{first}"
    );
    assert!(
        both[1].starts_with("fd00:9:") && both[1].ends_with("/64"),
        "{both:?}"
    );
    assert_eq!(cidrs("old").await.1, ["10.9.0.0/24"]);
}
