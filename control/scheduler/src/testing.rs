//! Nodes and pods for table tests.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::affinity::Namespaces;
use crate::cache::{Nominated, Services};
use crate::decide::View;
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use crate::volumes::Volumes;

/// Ready, 4 cpus, 4 Gi, 10 pods; `extra` is merged in.
pub fn node_object(name: &str, extra: Value) -> Value {
    let mut node = json!({
        "metadata": {"name": name, "uid": name, "resourceVersion": "1", "labels": {"kubernetes.io/hostname": name, "zone": "z1"}},
        "spec": {},
        "status": {
            "allocatable": {"cpu": "4", "memory": "4Gi", "pods": "10"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    });
    merge(&mut node, extra);
    node
}

pub fn node(name: &str, extra: Value) -> NodeInfo {
    let mut info = NodeInfo::default();
    let object = serde_json::from_value(node_object(name, extra)).expect("a node");
    info.set_node(Arc::new(object));
    info
}

/// In namespace default, of default-scheduler; `extra` is merged in.
pub fn pod_object(name: &str, extra: Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": name, "uid": name, "namespace": "default", "resourceVersion": "1"},
        "spec": {"schedulerName": "default-scheduler", "containers": [{"name": "a"}]},
        "status": {"phase": "Pending"},
    });
    merge(&mut pod, extra);
    pod
}

pub fn pod(name: &str, extra: Value) -> Arc<PodInfo> {
    let object = serde_json::from_value(pod_object(name, extra)).expect("a pod");
    Arc::new(PodInfo::new(Arc::new(object)))
}

/// A pod's `extra` with one container that requests this.
pub fn requests(cpu: &str, memory: &str) -> Value {
    let requests = json!({"cpu": cpu, "memory": memory});
    json!({"spec": {"containers": [{"name": "a", "resources": {"requests": requests}}]}})
}

/// Both, objects merged.
pub fn with(mut one: Value, other: Value) -> Value {
    merge(&mut one, other);
    one
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// What a view borrows.
#[derive(Default)]
pub struct World {
    pub nodes: Vec<NodeInfo>,
    pub namespaces: Namespaces,
    pub services: Services,
    pub nominated: Nominated,
    pub volumes: Volumes,
}

impl World {
    pub fn of(nodes: impl Into<Vec<NodeInfo>>) -> World {
        World {
            nodes: nodes.into(),
            ..World::default()
        }
    }

    pub fn view(&self) -> View<'_> {
        View {
            nodes: self.nodes.iter().collect(),
            namespaces: &self.namespaces,
            services: &self.services,
            nominated: &self.nominated,
            volumes: &self.volumes,
        }
    }
}
