//! What the API server and the node's network say of policies and whom they are about.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::api::{core, networking::v1::NetworkPolicy};
use kube::{core::DynamicObject, runtime::watcher::Event};
use vetch_network::Owners;
use vetch_policy::{AdminPolicy, Labels, Node, PeerSpec, Pod, PodRef, Policy, World};

use super::AdminKind;
use crate::index::{Change, Mirror, ObjectName};

/// Namespaces and pods are of interest only while there is a policy of any kind; pods by what
/// decides about them alone, for there may be many.
#[derive(Debug, Default)]
pub struct Index {
    node_name: String,
    policies: Mirror<Arc<Policy>>,
    admin: Mirror<Arc<AdminPolicy>>,
    baseline: Mirror<Arc<AdminPolicy>>,
    /// Of interest while an admin policy is about them; watched in any case.
    nodes: Mirror<Arc<Node>>,
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
        self.forget_peers();
    }

    pub fn admin_policy(&mut self, of: AdminKind, event: Event<DynamicObject>) {
        let policies = match of {
            AdminKind::Admin => &mut self.admin,
            AdminKind::Baseline => &mut self.baseline,
        };
        let first = !policies.listed;
        let read = |policy: &DynamicObject| Arc::new(AdminPolicy::read(&policy.data["spec"]));
        self.changed |= news(&policies.apply(event, read), policies);
        self.changed |= first && policies.listed;
        self.forget_peers();
    }

    /// The API server does not serve the kind.
    pub fn no_admin_policies(&mut self, of: AdminKind) {
        let policies = match of {
            AdminKind::Admin => &mut self.admin,
            AdminKind::Baseline => &mut self.baseline,
        };
        self.changed |= !policies.listed || !policies.items.is_empty();
        *policies = Mirror::default();
        policies.listed = true;
        self.forget_peers();
    }

    pub fn node(&mut self, event: Event<core::v1::Node>) {
        let first = !self.nodes.listed;
        let read = |node: &core::v1::Node| Arc::new(Node::read(node));
        let mut changed = news(&self.nodes.apply(event, read), &self.nodes);
        changed |= first && self.nodes.listed;
        self.changed |= changed && self.wants_nodes();
    }

    /// They are listed anew with the next policy.
    fn forget_peers(&mut self) {
        if !self.wants_peers() {
            self.namespaces = Mirror::default();
            self.pods = Mirror::default();
        }
    }

    /// The API server has no policies, and nobody can make one.
    pub fn no_policies(&mut self) {
        self.changed |= !self.policies.listed || !self.policies.items.is_empty();
        self.policies = Mirror::default();
        self.policies.listed = true;
        self.forget_peers();
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
            || !self.admin.items.is_empty()
            || !self.baseline.items.is_empty()
    }

    /// And which nodes.
    fn wants_nodes(&self) -> bool {
        let admin = self.admin.items.values();
        let mut all = admin.chain(self.baseline.items.values());
        all.any(|policy| {
            let mut rules = policy.ingress.iter().chain(&policy.egress);
            let is_nodes = |peer: &PeerSpec| matches!(peer, PeerSpec::Nodes(_));
            rules.any(|rule| rule.rule.peers.iter().any(is_nodes))
        })
    }

    /// Whether all that decides is known.
    pub fn complete(&self) -> bool {
        let policies = self.policies.listed && self.admin.listed && self.baseline.listed;
        let peers = !self.wants_peers() || self.namespaces.listed && self.pods.listed;
        policies && peers && (self.nodes.listed || !self.wants_nodes())
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
        let admin = self.admin.items.iter();
        let baseline = self.baseline.get(&ObjectName::new("", "default"));
        let nodes = self.wants_nodes().then_some(&self.nodes.items);
        let nodes = nodes.into_iter().flatten();
        let namespaces = self.namespaces.items.iter();
        World {
            node: self.node_name.clone(),
            policies: policies
                .map(|(name, policy)| (key(name), Arc::clone(policy)))
                .collect(),
            admin: admin
                .map(|(name, policy)| (name.name().to_owned(), Arc::clone(policy)))
                .collect(),
            baseline: baseline.cloned(),
            nodes: nodes
                .map(|(name, node)| (name.name().to_owned(), Arc::clone(node)))
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

    /// Of an API server that serves no kinds for administrators.
    fn index() -> Index {
        let mut index = Index::new("here".into());
        index.no_admin_policies(AdminKind::Admin);
        index.no_admin_policies(AdminKind::Baseline);
        index.changed = false;
        index
    }

    #[test]
    fn peers_are_of_interest_while_there_is_a_policy() {
        let mut index = index();
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

    /// However the last policy goes, peers are listed anew with the next.
    #[test]
    fn peers_go_with_the_last_policy() {
        type Go = fn(&mut Index);
        let by_admin = |index: &mut Index| {
            index.no_policies();
            let policy = admin_policy("a", json!({"subject": {"namespaces": {}}}));
            index.admin_policy(AdminKind::Admin, Event::Apply(policy));
        };
        let by_namespace = |index: &mut Index| {
            index.policy(Event::Init);
            index.policy(Event::InitApply(policy()));
            index.policy(Event::InitDone);
        };
        let cases: [(&str, Go, Go); 3] = [
            ("deleted", by_namespace, |index| {
                index.policy(Event::Delete(policy()));
            }),
            ("not served any more", by_namespace, Index::no_policies),
            ("of a kind not served any more", by_admin, |index| {
                index.no_admin_policies(AdminKind::Admin);
            }),
        ];
        for (how, come, go) in cases {
            let mut index = index();
            come(&mut index);
            index.namespace(Event::Init);
            index.namespace(Event::InitDone);
            index.pod(Event::Init);
            index.pod(Event::InitApply(pod("Running", "")));
            index.pod(Event::InitDone);
            assert_eq!(index.take().pods.len(), 1, "{how}");
            go(&mut index);
            assert!(index.is_due() && !index.wants_peers(), "{how}");
            assert!(index.take().pods.is_empty(), "{how}");
            index.policy(Event::Apply(policy()));
            assert!(index.wants_peers() && !index.complete(), "{how}");
        }
    }

    fn admin_policy(name: &str, spec: Value) -> DynamicObject {
        read(json!({
            "apiVersion": "policy.networking.k8s.io/v1alpha1", "kind": "AdminNetworkPolicy",
            "metadata": {"name": name}, "spec": spec,
        }))
    }

    #[test]
    fn policies_of_administrators_are_policies() {
        let mut index = Index::new("here".into());
        index.no_policies();
        assert!(!index.complete(), "nothing is known of administrators' yet");
        index.no_admin_policies(AdminKind::Baseline);
        index.admin_policy(AdminKind::Admin, Event::Init);
        index.admin_policy(AdminKind::Admin, Event::InitDone);
        assert!(index.is_due() && !index.wants_peers());
        index.take();
        let to = |peer: Value| {
            let rule = json!({"action": "Deny", "to": [peer]});
            admin_policy(
                "a",
                json!({"subject": {"namespaces": {}}, "egress": [rule]}),
            )
        };
        let pods = to(json!({"namespaces": {}}));
        index.admin_policy(AdminKind::Admin, Event::Apply(pods));
        assert!(index.wants_peers() && !index.complete());
        index.namespace(Event::Init);
        index.namespace(Event::InitDone);
        index.pod(Event::Init);
        index.pod(Event::InitDone);
        assert_eq!(index.take().admin["a"].egress.len(), 1);
        // Nodes matter while a rule is about some.
        let node = |labels: Value| -> core::v1::Node {
            let addresses = json!([{"type": "InternalIP", "address": "192.0.2.1"}]);
            let metadata = json!({"name": "there", "labels": labels});
            read(json!({"metadata": metadata, "status": {"addresses": addresses}}))
        };
        index.node(Event::Init);
        index.node(Event::InitApply(node(json!({}))));
        assert!(!index.is_due());
        let nodes = to(json!({"nodes": {}}));
        index.admin_policy(AdminKind::Admin, Event::Apply(nodes));
        assert!(!index.complete(), "nodes are not listed yet");
        index.node(Event::InitDone);
        assert_eq!(index.take().nodes["there"].ips.len(), 1);
        index.node(Event::Apply(node(json!({}))));
        assert!(!index.is_due());
        index.node(Event::Apply(node(json!({"a": "b"}))));
        assert!(index.is_due());
        // Another name is no baseline.
        for (name, is_one) in [("other", false), ("default", true)] {
            let policy = admin_policy(name, json!({"subject": {"namespaces": {}}}));
            index.admin_policy(AdminKind::Baseline, Event::Apply(policy));
            assert_eq!(index.take().baseline.is_some(), is_one, "{name}");
        }
        index.no_admin_policies(AdminKind::Admin);
        index.no_admin_policies(AdminKind::Baseline);
        assert!(index.is_due() && !index.wants_peers());
    }

    #[test]
    fn who_is_attached_is_news_once() {
        let mut index = index();
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
