//! What runs where, pods assumed on a node before the API says so included.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};

use crate::affinity::Namespaces;
use crate::decide::View;
use crate::node_info::{NodeChange, NodeInfo};
use crate::pod_info::{PodInfo, is_terminal, node_of, uid};
use crate::selector::Labels;
use crate::volumes::Volumes;

/// Selectors of services, by namespace and name.
pub type Services = HashMap<String, BTreeMap<String, Labels>>;
/// Pods that a preemption made room for: node and pod, by uid.
pub type Nominated = HashMap<String, (String, Arc<PodInfo>)>;

#[derive(Default)]
pub struct Cache {
    /// In the order of names, so that equal inputs give equal choices.
    nodes: BTreeMap<String, NodeInfo>,
    /// Node of each counted pod, by uid.
    placed: HashMap<String, String>,
    /// Uids of counted pods whose binding the API has not shown yet.
    assumed: HashSet<String>,
    pub namespaces: Namespaces,
    pub services: Services,
    pub nominated: Nominated,
    pub volumes: Volumes,
}

/// What a pod's new version did to the room on the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodChange {
    Nothing,
    Added,
    /// Other labels: selectors may see it differently.
    Relabelled,
    /// By a resize: it asks for less than before.
    Shrunk,
    Removed,
}

impl Cache {
    /// The nodes that exist.
    pub fn view(&self) -> View<'_> {
        View {
            nodes: self
                .nodes
                .values()
                .filter(|info| info.node.is_some())
                .collect(),
            namespaces: &self.namespaces,
            services: &self.services,
            nominated: &self.nominated,
            volumes: &self.volumes,
        }
    }

    /// None: the node is new.
    pub fn set_node(&mut self, node: Arc<Node>) -> Option<NodeChange> {
        let name = node.metadata.name.clone().unwrap_or_default();
        let info = self.nodes.entry(name).or_default();
        let known = info.node.is_some();
        let change = info.set_node(node);
        known.then_some(change)
    }

    pub fn remove_node(&mut self, name: &str) {
        if let Some(info) = self.nodes.get_mut(name) {
            info.node = None;
            if info.pods.is_empty() {
                self.nodes.remove(name);
            }
        }
    }

    /// A pod as the API has it. Takes the place of an assumption.
    pub fn set_pod(&mut self, pod: &Arc<Pod>) -> PodChange {
        if is_terminal(pod) {
            return self.remove_pod(uid(pod));
        }
        // Not bound yet: what was assumed for it stays until the binding's outcome.
        let Some(node) = node_of(pod) else {
            return PodChange::Nothing;
        };
        self.assumed.remove(uid(pod));
        self.nominated.remove(uid(pod));
        self.place(uid(pod), node, |before| {
            Arc::new(match before {
                Some(before) => before.renewed(pod.clone()),
                None => PodInfo::new(pod.clone()),
            })
        })
    }

    /// Counts the pod on the node from now on.
    pub fn assume(&mut self, pod: &Arc<PodInfo>, node: &str) {
        self.nominated.remove(pod.uid());
        self.assumed.insert(pod.uid().to_owned());
        self.place(pod.uid(), node, |_| pod.clone());
    }

    /// The binding failed. Had the API shown it all the same, it stands.
    pub fn forget(&mut self, uid: &str) -> PodChange {
        match self.assumed.contains(uid) {
            true => self.remove_pod(uid),
            false => PodChange::Nothing,
        }
    }

    pub fn remove_pod(&mut self, uid: &str) -> PodChange {
        self.assumed.remove(uid);
        // What was cleared for it is free for others, too.
        let nominated = self.nominated.remove(uid).is_some();
        match self.take(uid) || nominated {
            true => PodChange::Removed,
            false => PodChange::Nothing,
        }
    }

    pub fn nominate(&mut self, pod: Arc<PodInfo>, node: &str) {
        let uid = pod.uid().to_owned();
        self.nominated.insert(uid, (node.to_owned(), pod));
    }

    pub fn set_labels(&mut self, namespace: &str, labels: Option<Labels>) {
        match labels {
            Some(labels) => self.namespaces.insert(namespace.to_owned(), labels),
            None => self.namespaces.remove(namespace),
        };
    }

    pub fn set_service(&mut self, namespace: &str, name: &str, selector: Option<Labels>) {
        let services = self.services.entry(namespace.to_owned()).or_default();
        match selector.filter(|selector| !selector.is_empty()) {
            Some(selector) => services.insert(name.to_owned(), selector),
            None => services.remove(name),
        };
        if services.is_empty() {
            self.services.remove(namespace);
        }
    }

    fn place(
        &mut self,
        uid: &str,
        node: &str,
        pod: impl FnOnce(Option<&PodInfo>) -> Arc<PodInfo>,
    ) -> PodChange {
        if self.placed.get(uid).is_some_and(|before| before != node) {
            self.take(uid);
        }
        let info = self.nodes.entry(node.to_owned()).or_default();
        let before = info.pods.get(uid).cloned();
        let pod = pod(before.as_deref());
        info.add(pod.clone());
        let Some(before) = before else {
            self.placed.insert(uid.to_owned(), node.to_owned());
            return PodChange::Added;
        };
        // Pods that are being deleted count no more in spreading.
        let relabelled =
            before.labels() != pod.labels() || before.is_terminating() != pod.is_terminating();
        let shrunk = before
            .requests
            .iter()
            .any(|(name, amount)| pod.requests.get(name) < amount);
        match (relabelled, shrunk) {
            (true, _) => PodChange::Relabelled,
            (false, true) => PodChange::Shrunk,
            (false, false) => PodChange::Nothing,
        }
    }

    fn take(&mut self, uid: &str) -> bool {
        let Some(node) = self.placed.remove(uid) else {
            return false;
        };
        if let Some(info) = self.nodes.get_mut(&node) {
            info.remove(uid);
            if info.node.is_none() && info.pods.is_empty() {
                self.nodes.remove(&node);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, node: &str, phase: &str) -> Arc<Pod> {
        let pod = json!({
            "metadata": {"name": uid, "uid": uid}, "status": {"phase": phase},
            "spec": {"nodeName": node, "containers": [{"name": "a", "resources": {"requests": {"cpu": "1"}}}]},
        });
        Arc::new(serde_json::from_value(pod).expect("a pod"))
    }

    fn assume(cache: &mut Cache, uid: &str, node: &str) {
        cache.assume(&Arc::new(PodInfo::new(pod(uid, "", "Pending"))), node);
    }

    fn used(cache: &Cache, node: &str) -> i64 {
        cache.nodes.get(node).map_or(0, |info| info.requested.cpu)
    }

    #[test]
    fn an_assumed_pod_counts_once() {
        let mut cache = Cache::default();
        assume(&mut cache, "a", "n");
        assert_eq!(used(&cache, "n"), 1000);
        // Its status changes before the binding shows.
        assert_eq!(cache.set_pod(&pod("a", "", "Pending")), PodChange::Nothing);
        assert_eq!(used(&cache, "n"), 1000);
        assert_eq!(cache.set_pod(&pod("a", "n", "Running")), PodChange::Nothing);
        assert_eq!(used(&cache, "n"), 1000);
        assert_eq!(
            cache.set_pod(&pod("a", "n", "Succeeded")),
            PodChange::Removed
        );
        assert_eq!(used(&cache, "n"), 0);
    }

    #[test]
    fn a_failed_binding_gives_the_room_back_unless_the_api_has_it() {
        let mut cache = Cache::default();
        assume(&mut cache, "a", "n");
        assert_eq!(cache.forget("a"), PodChange::Removed);
        assert_eq!(used(&cache, "n"), 0);
        assume(&mut cache, "a", "n");
        cache.set_pod(&pod("a", "n", "Pending"));
        assert_eq!(cache.forget("a"), PodChange::Nothing);
        assert_eq!(used(&cache, "n"), 1000);
    }

    #[test]
    fn a_pod_bound_elsewhere_moves() {
        let mut cache = Cache::default();
        assume(&mut cache, "a", "n");
        assert_eq!(cache.set_pod(&pod("a", "m", "Pending")), PodChange::Added);
        assert_eq!((used(&cache, "n"), used(&cache, "m")), (0, 1000));
        assert_eq!(cache.remove_pod("a"), PodChange::Removed);
        assert_eq!(used(&cache, "m"), 0);
    }

    #[test]
    fn a_resize_gives_room_back_when_the_node_has_it() {
        let resized = |wants: &str, has: &str| {
            let mut pod = Pod::clone(&pod("a", "n", "Running"));
            let size = |cpu: &str| json!({"requests": {"cpu": cpu}});
            pod.spec.as_mut().expect("a spec").containers[0].resources =
                serde_json::from_value(size(wants)).expect("resources");
            let status = json!({"phase": "Running", "containerStatuses": [{
                "name": "a", "image": "", "imageID": "", "ready": true, "restartCount": 0, "resources": size(has),
            }]});
            pod.status = serde_json::from_value(status).expect("a status");
            Arc::new(pod)
        };
        let mut cache = Cache::default();
        for (wants, has, change, cpu) in [
            ("2", "2", PodChange::Added, 2000),
            ("1", "2", PodChange::Nothing, 2000),
            ("1", "1", PodChange::Shrunk, 1000),
            ("3", "1", PodChange::Nothing, 3000),
            ("3", "3", PodChange::Nothing, 3000),
        ] {
            assert_eq!(cache.set_pod(&resized(wants, has)), change, "{wants} {has}");
            assert_eq!(used(&cache, "n"), cpu, "{wants} {has}");
        }
    }

    #[test]
    fn a_node_that_only_pods_name_is_no_place() {
        let mut cache = Cache::default();
        cache.set_pod(&pod("a", "n", "Running"));
        assert!(cache.view().nodes.is_empty());
        let node = json!({"metadata": {"name": "n"}});
        cache.set_node(Arc::new(serde_json::from_value(node).expect("a node")));
        assert_eq!(cache.view().nodes[0].requested.cpu, 1000);
        cache.remove_node("n");
        assert!(cache.view().nodes.is_empty());
        cache.remove_pod("a");
        assert!(cache.nodes.is_empty());
    }
}
