//! The Node object is made, or an existing one of that name taken over.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeSpec, NodeStatus, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tracing::info;

use super::retry::limited;

/// The labels every node has, and the given ones, which come first.
pub fn labels(
    name: &str,
    architecture: &str,
    given: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        ("kubernetes.io/hostname".into(), name.to_owned()),
        ("kubernetes.io/os".into(), std::env::consts::OS.to_owned()),
        ("kubernetes.io/arch".into(), architecture.to_owned()),
    ]);
    labels.extend(given.clone());
    labels
}

/// Once; the caller tries again. A node that exists keeps what others gave it.
pub async fn register(
    nodes: &Api<Node>,
    name: &str,
    labels: &BTreeMap<String, String>,
    taints: &[Taint],
    status: &NodeStatus,
) -> Result<Node, kube::Error> {
    let node = Node {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels.clone()),
            ..ObjectMeta::default()
        },
        spec: (!taints.is_empty()).then(|| NodeSpec {
            taints: Some(taints.to_vec()),
            ..NodeSpec::default()
        }),
        status: Some(status.clone()),
    };
    match limited(nodes.create(&PostParams::default(), &node)).await {
        Err(kube::Error::Api(refusal)) if refusal.reason == "AlreadyExists" => {}
        Ok(node) => {
            info!(node = name, "registered");
            return Ok(node);
        }
        Err(error) => return Err(error),
    }
    let existing = limited(nodes.get(name)).await?;
    let missing = missing(existing.metadata.labels.as_ref(), labels);
    info!(node = name, "found its Node object and goes on with it");
    if missing.is_empty() {
        return Ok(existing);
    }
    let patch = Patch::Strategic(json!({"metadata": {"labels": missing}}));
    limited(nodes.patch(name, &PatchParams::default(), &patch)).await
}

/// Those it lacks or has with another value.
fn missing(
    existing: Option<&BTreeMap<String, String>>,
    wanted: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    wanted
        .iter()
        .filter(|(key, value)| existing.and_then(|labels| labels.get(*key)) != Some(value))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn own_labels_and_given_ones() {
        assert_eq!(
            labels(
                "n1",
                "amd64",
                &map(&[("zone", "a"), ("kubernetes.io/arch", "mine")])
            ),
            map(&[
                ("kubernetes.io/hostname", "n1"),
                ("kubernetes.io/os", "linux"),
                ("kubernetes.io/arch", "mine"),
                ("zone", "a"),
            ])
        );
    }

    #[test]
    fn an_adopted_node_gets_what_it_lacks() {
        let wanted = map(&[("a", "1"), ("b", "2")]);
        assert_eq!(missing(None, &wanted), wanted);
        assert_eq!(
            missing(
                Some(&map(&[("a", "1"), ("b", "3"), ("other", "x")])),
                &wanted
            ),
            map(&[("b", "2")])
        );
        assert_eq!(missing(Some(&wanted), &wanted), map(&[]));
    }
}
