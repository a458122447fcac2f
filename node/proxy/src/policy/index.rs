//! What the API server and the node's network say of policies and whom they are about.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::api::{core, networking::v1::NetworkPolicy};
use kube::runtime::watcher::Event;
use vetch_network::Owners;
use vetch_policy::{Labels, Pod, PodRef, Policy, World};

use crate::index::{Change, Mirror, ObjectName};

/// Namespaces and pods are of interest only while there is a policy; pods by what
/// decides about them alone, for there may be many.
#[derive(Debug, Default)]
pub struct Index {
    node_name: String,
    policies: Mirror<Arc<Policy>>,
    namespaces: Mirror<Arc<Labels>>,
    pods: Mirror<Arc<Pod>>,
    local: BTreeMap<IpAddr, Option<PodRef>>,
    changed: bool,
}

impl Index {
    pub fn new(node_name: String) -> Self {
        Self {
            node_name,
            ..Self::default()
        }
    }

    pub fn policy(&mut self, event: Event<NetworkPolicy>) {
        let first = !self.policies.listed;
        let read = |policy: &NetworkPolicy| Arc::new(Policy::read(policy));
        self.changed |= news(&self.policies.apply(event, read), &self.policies);
        self.changed |= first && self.policies.listed;
        if !self.wants_peers() {
            // Listed anew with the next policy.
            self.namespaces = Mirror::default();
            self.pods = Mirror::default();
        }
    }

    /// The API server has no policies, and nobody can make one.
    pub fn no_policies(&mut self) {
        self.changed |= !self.policies.listed || !self.policies.items.is_empty();
        self.policies = Mirror::default();
        self.policies.listed = true;
    }

    pub fn namespace(&mut self, event: Event<core::v1::Namespace>) {
        let first = !self.namespaces.listed;
        let read = |namespace: &core::v1::Namespace| {
            Arc::new(namespace.metadata.labels.clone().unwrap_or_default())
        };
        self.changed |= news(&self.namespaces.apply(event, read), &self.namespaces);
        self.changed |= first && self.namespaces.listed;
    }

    pub fn pod(&mut self, event: Event<core::v1::Pod>) {
        let first = !self.pods.listed;
        let read = |pod: &core::v1::Pod| Arc::new(Pod::read(pod));
        self.changed |= news(&self.pods.apply(event, read), &self.pods);
        self.changed |= first && self.pods.listed;
    }

    /// Which addresses are attached here, and whose they are.
    pub fn local(&mut self, pods: impl Iterator<Item = IpAddr>, owners: Option<&Owners>) {
        let owner = |ip: &IpAddr| {
            let owner = owners?.get(ip)?;
            Some(PodRef {
                namespace: owner.namespace.clone(),
                name: owner.name.clone(),
                uid: owner.uid.clone(),
            })
        };
        let local = pods.map(|ip| (ip, owner(&ip))).collect();
        if self.local != local {
            self.local = local;
            self.changed = true;
        }
    }

    /// Whether it matters who is in the cluster.
    pub fn wants_peers(&self) -> bool {
        !self.policies.items.is_empty()
    }

    /// Whether all that decides is known.
    pub fn complete(&self) -> bool {
        self.policies.listed && (!self.wants_peers() || self.namespaces.listed && self.pods.listed)
    }

    /// Whether what is in force may be another thing than what was taken last.
    pub fn is_due(&self) -> bool {
        self.changed && self.complete()
    }

    /// For what is to be written anew, whatever changed.
    pub fn touch(&mut self) {
        self.changed = true;
    }

    pub fn take(&mut self) -> World {
        self.changed = false;
        let key = |name: &ObjectName| (name.namespace().to_owned(), name.name().to_owned());
        let pods = self.pods.items.iter();
        let pods: HashMap<_, _> = pods
            .map(|(name, pod)| (key(name), Arc::clone(pod)))
            .collect();
        let policies = self.policies.items.iter();
        let namespaces = self.namespaces.items.iter();
        World {
            node: self.node_name.clone(),
            policies: policies
                .map(|(name, policy)| (key(name), Arc::clone(policy)))
                .collect(),
            namespaces: namespaces
                .map(|(name, labels)| (name.name().to_owned(), Arc::clone(labels)))
                .collect(),
            pods,
            local: self.local.clone(),
        }
    }
}

/// Status changes far more often than what decides.
fn news<V: PartialEq>(changes: &[Change<V>], now: &Mirror<V>) -> bool {
    let differs = |change: &Change<V>| now.get(&change.name) != change.before.as_deref();
    changes.iter().any(differs)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn policy() -> NetworkPolicy {
        read(json!({"metadata": {"namespace": "a", "name": "p"}, "spec": {"podSelector": {}}}))
    }

    fn pod(phase: &str, message: &str) -> core::v1::Pod {
        read(json!({
            "metadata": {"namespace": "a", "name": "web", "uid": "1"},
            "spec": {"nodeName": "here", "containers": []},
            "status": {"phase": phase, "message": message, "podIPs": [{"ip": "10.0.0.1"}]},
        }))
    }

    #[test]
    fn peers_are_of_interest_while_there_is_a_policy() {
        let mut index = Index::new("here".into());
        assert!(!index.complete());
        index.policy(Event::Init);
        index.policy(Event::InitDone);
        assert!(index.is_due() && !index.wants_peers());
        index.take();
        assert!(!index.is_due());
        index.policy(Event::Apply(policy()));
        assert!(index.wants_peers() && !index.complete());
        index.namespace(Event::Init);
        index.namespace(Event::InitDone);
        index.pod(Event::Init);
        index.pod(Event::InitApply(pod("Running", "")));
        assert!(!index.complete());
        index.pod(Event::InitDone);
        assert!(index.is_due());
        let world = index.take();
        assert_eq!((world.policies.len(), world.pods.len()), (1, 1));
        index.pod(Event::Apply(pod("Running", "news of no matter")));
        assert!(!index.is_due());
        index.pod(Event::Apply(pod("Failed", "")));
        assert!(index.is_due());
        index.take();
        index.policy(Event::Delete(policy()));
        assert!(index.is_due() && !index.wants_peers());
        assert!(index.take().pods.is_empty());
        index.policy(Event::Apply(policy()));
        assert!(!index.complete(), "pods are to be listed anew");
        index.no_policies();
        assert!(index.is_due());
    }

    #[test]
    fn who_is_attached_is_news_once() {
        let mut index = Index::new("here".into());
        index.no_policies();
        index.take();
        let ip: IpAddr = "10.0.0.1".parse().unwrap();
        let owner = vetch_network::Owner {
            namespace: "a".into(),
            name: "web".into(),
            uid: "1".into(),
        };
        let owners = Owners::from([(ip, owner)]);
        for (owners, due) in [(None, true), (None, false), (Some(&owners), true)] {
            index.local([ip].into_iter(), owners);
            assert_eq!(index.is_due(), due, "{owners:?}");
            let world = index.take();
            assert_eq!(world.local[&ip].is_some(), owners.is_some());
        }
    }
}
