//! A node with the pods on it, as the filters and scores see it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Taint};

use crate::pod_info::PodInfo;
use crate::resources::{Resources, of_node};
use crate::selector::Labels;
use crate::taints;

#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    /// None while only pods name it.
    pub node: Option<Arc<Node>>,
    pub allocatable: Resources,
    pub taints: Vec<Taint>,
    /// Bytes by name, `:latest` where no tag or digest is given.
    pub images: HashMap<String, i64>,
    pub requested: Resources,
    /// What the pods are taken to need when nodes are scored.
    pub scored: Resources,
    /// By uid.
    pub pods: BTreeMap<String, Arc<PodInfo>>,
    /// Uids of the pods with affinity or anti-affinity terms.
    affine: BTreeSet<String>,
}

/// What of a node is different now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeChange {
    pub allocatable: bool,
    pub labels: bool,
    /// Its readiness and being cordoned included.
    pub taints: bool,
    pub features: bool,
}

impl NodeInfo {
    pub fn set_node(&mut self, node: Arc<Node>) -> NodeChange {
        let (allocatable, taints) = (of_node(&node), taints::of_node(&node));
        let change = NodeChange {
            allocatable: allocatable != self.allocatable,
            labels: node.metadata.labels.as_ref() != self.labels(),
            features: features(Some(&node)) != features(self.node.as_deref()),
            taints: taints != self.taints || is_cordoned(&node) != self.is_cordoned(),
        };
        let images = |node: &Node| node.status.as_ref()?.images.clone();
        if self.node.as_deref().and_then(images) != images(&node) {
            self.images = images(&node)
                .into_iter()
                .flatten()
                .flat_map(|image| {
                    let bytes = image.size_bytes.unwrap_or(0);
                    let names = image.names.unwrap_or_default().into_iter();
                    names.map(move |name| (with_tag(&name), bytes))
                })
                .collect();
        }
        self.allocatable = allocatable;
        self.taints = taints;
        self.node = Some(node);
        change
    }

    pub fn add(&mut self, pod: Arc<PodInfo>) {
        self.remove(pod.uid());
        self.requested.add(&pod.requests);
        self.scored.add(&pod.scored);
        if !pod.affinity.is_empty() {
            self.affine.insert(pod.uid().to_owned());
        }
        self.pods.insert(pod.uid().to_owned(), pod);
    }

    pub fn remove(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let pod = self.pods.remove(uid)?;
        self.affine.remove(uid);
        self.requested.subtract(&pod.requests);
        self.scored.subtract(&pod.scored);
        Some(pod)
    }

    /// The pods with affinity or anti-affinity terms.
    pub fn affine_pods(&self) -> impl Iterator<Item = &Arc<PodInfo>> {
        self.affine.iter().filter_map(|uid| self.pods.get(uid))
    }

    pub fn name(&self) -> &str {
        let node = self.node.as_ref();
        node.and_then(|node| node.metadata.name.as_deref())
            .unwrap_or_default()
    }

    pub fn labels(&self) -> Option<&Labels> {
        self.node.as_ref()?.metadata.labels.as_ref()
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels()?.get(key).map(String::as_str)
    }

    /// What it says that it has of Kubernetes.
    pub fn declared_features(&self) -> impl Iterator<Item = &str> {
        features(self.node.as_deref()).iter().map(String::as_str)
    }

    pub fn is_cordoned(&self) -> bool {
        self.node.as_deref().is_some_and(is_cordoned)
    }
}

fn features(node: Option<&Node>) -> &[String] {
    let status = node.and_then(|node| node.status.as_ref());
    status
        .and_then(|status| status.declared_features.as_deref())
        .unwrap_or_default()
}

fn is_cordoned(node: &Node) -> bool {
    let spec = node.spec.as_ref();
    spec.and_then(|spec| spec.unschedulable).unwrap_or(false)
}

/// Image names are compared with their tag.
pub fn with_tag(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.contains([':', '@']) {
        true => name.to_owned(),
        false => format!("{name}:latest"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn set(info: &mut NodeInfo, node: Value) -> NodeChange {
        info.set_node(Arc::new(serde_json::from_value(node).expect("a node")))
    }

    #[test]
    fn changes_are_named() {
        let mut node = json!({"metadata": {"name": "n", "labels": {"a": "b"}}, "spec": {}, "status": {
            "allocatable": {"cpu": "1"},
            "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}],
        }});
        let mut info = NodeInfo::default();
        set(&mut info, node.clone());
        let nothing = NodeChange::default();
        node["status"]["conditions"][0]["lastHeartbeatTime"] = "2026-01-01T00:01:00Z".into();
        assert_eq!(set(&mut info, node.clone()), nothing, "a heartbeat");
        node["status"]["allocatable"]["cpu"] = "2".into();
        assert_eq!(
            set(&mut info, node.clone()),
            NodeChange {
                allocatable: true,
                ..nothing
            }
        );
        node["metadata"]["labels"]["a"] = "c".into();
        assert_eq!(
            set(&mut info, node.clone()),
            NodeChange {
                labels: true,
                ..nothing
            }
        );
        node["spec"]["unschedulable"] = true.into();
        assert_eq!(
            set(&mut info, node.clone()),
            NodeChange {
                taints: true,
                ..nothing
            }
        );
        node["status"]["conditions"][0]["status"] = "False".into();
        assert_eq!(
            set(&mut info, node),
            NodeChange {
                taints: true,
                ..nothing
            }
        );
    }

    #[test]
    fn images_have_tags() {
        for (name, wanted) in [
            ("busybox", "busybox:latest"),
            ("a.b:5000/c", "a.b:5000/c:latest"),
            ("a.b:5000/c:v1", "a.b:5000/c:v1"),
            ("a/b@sha256:1", "a/b@sha256:1"),
        ] {
            assert_eq!(with_tag(name), wanted);
        }
    }
}
