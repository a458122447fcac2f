//! AdminNetworkPolicies and the BaselineAdminNetworkPolicy made at random, and what they mean. Their subjects are pods
//! of the test's namespaces: others use the same cluster.

use anyhow::Result;
use serde_json::{Value, json};
use vetch_tests::{Cluster, Namespace};

use super::{Chance, Member, WAYS};

/// Most of one set; their names are in the order of their places.
const ADMIN: [&str; 3] = ["policies-0", "policies-1", "policies-2"];

/// Whatever is there of this test's.
pub fn delete(cluster: &Cluster) -> Result<()> {
    let baseline = ["baselineadminnetworkpolicies/default".to_owned()];
    let names = ADMIN.map(|name| format!("adminnetworkpolicies/{name}"));
    let names = names.iter().chain(&baseline).map(String::as_str);
    let mut args = vec!["delete", "--ignore-not-found"];
    args.extend(names);
    cluster.kubectl(&args)?.ok().map(drop)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Allow,
    Deny,
    Pass,
}

/// A first packet, at one of its ends.
pub struct Asked<'a> {
    pub ingress: bool,
    pub own: &'a Member,
    pub peer: &'a Member,
    pub way: usize,
}

/// Pods of a namespace or all of them, of a group or all.
#[derive(Clone, Copy, Debug)]
struct Pods {
    namespace: Option<usize>,
    group: Option<&'static str>,
}

#[derive(Clone, Debug)]
enum Peer {
    Pods(Pods),
    /// Addresses of members; none of them is every address there is.
    Networks(Vec<usize>),
}

#[derive(Clone, Copy, Debug)]
enum Port {
    Number,
    Named,
    /// One more at either side.
    Range,
}

#[derive(Clone, Debug)]
struct Rule {
    ingress: bool,
    action: Action,
    peers: Vec<Peer>,
    /// None for all.
    way: Option<(usize, Port)>,
}

#[derive(Clone, Debug)]
struct Policy {
    priority: usize,
    subject: Pods,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, Default)]
pub struct Tiers {
    admin: Vec<Policy>,
    baseline: Option<Policy>,
}

impl Pods {
    fn at_random(chance: &mut Chance, namespaces: usize) -> Self {
        let namespace = chance.below(namespaces + 1);
        Self {
            namespace: (namespace < namespaces).then_some(namespace),
            group: chance.of(&[None, None, Some("a"), Some("b"), Some("c")]),
        }
    }

    /// As a subject or a peer.
    fn object(self, namespaces: &[Namespace<'_>]) -> Value {
        let names: Vec<&str> = match self.namespace {
            Some(at) => vec![&namespaces[at].name],
            None => namespaces.iter().map(|one| one.name.as_str()).collect(),
        };
        let selector = json!({"matchExpressions": [
            {"key": "kubernetes.io/metadata.name", "operator": "In", "values": names},
        ]});
        match self.group {
            None => json!({"namespaces": selector}),
            Some(group) => {
                let pods = json!({"matchLabels": {"group": group}});
                json!({"pods": {"namespaceSelector": selector, "podSelector": pods}})
            }
        }
    }

    fn are(self, namespaces: &[Namespace<'_>], member: &Member) -> bool {
        let of = |at: usize| namespaces[at].name == member.namespace;
        self.namespace.is_none_or(of) && self.group.is_none_or(|group| group == member.group)
    }
}

impl Rule {
    fn at_random(
        chance: &mut Chance,
        namespaces: usize,
        members: usize,
        actions: &[Action],
    ) -> Self {
        let ingress = chance.below(2) == 0;
        let mut peers = Vec::new();
        for _ in 0..=chance.below(2) {
            peers.push(match chance.below(3) {
                0 if !ingress => {
                    let many = chance.below(4);
                    Peer::Networks((0..many).map(|_| chance.below(members)).collect())
                }
                _ => Peer::Pods(Pods::at_random(chance, namespaces)),
            });
        }
        // Networks have no names for ports.
        let kinds = match peers.iter().any(|peer| matches!(peer, Peer::Networks(_))) {
            true => [Port::Number, Port::Range, Port::Range],
            false => [Port::Number, Port::Range, Port::Named],
        };
        let port = chance.of(&kinds);
        let way = chance.of(&[None, Some(0), Some(1)]);
        Self {
            ingress,
            action: chance.of(actions),
            peers,
            way: way.map(|way| (way, port)),
        }
    }

    fn object(&self, namespaces: &[Namespace<'_>], members: &[Member]) -> Value {
        let peer = |peer: &Peer| match peer {
            Peer::Pods(pods) => pods.object(namespaces),
            Peer::Networks(of) if of.is_empty() => json!({"networks": ["0.0.0.0/0", "::/0"]}),
            Peer::Networks(of) => {
                let mut networks: Vec<String> = of
                    .iter()
                    .map(|at| members[*at].address)
                    .map(|ip| format!("{ip}/{}", if ip.is_ipv4() { 32 } else { 128 }))
                    .collect();
                networks.sort();
                networks.dedup();
                json!({"networks": networks})
            }
        };
        let peers: Vec<Value> = self.peers.iter().map(peer).collect();
        let field = if self.ingress { "from" } else { "to" };
        let mut rule = json!({"action": format!("{:?}", self.action), field: peers});
        if let Some((way, port)) = self.way {
            let (_, protocol, number, name) = WAYS[way];
            rule["ports"] = match port {
                Port::Number => json!([{"portNumber": {"protocol": protocol, "port": number}}]),
                Port::Named => json!([{"namedPort": name}]),
                Port::Range => {
                    let range =
                        json!({"protocol": protocol, "start": number - 1, "end": number + 1});
                    json!([{"portRange": range}])
                }
            };
        }
        rule
    }

    fn is_about(
        &self,
        namespaces: &[Namespace<'_>],
        members: &[Member],
        asked: &Asked<'_>,
    ) -> bool {
        let is_peer = |peer: &Peer| match peer {
            Peer::Pods(pods) => pods.are(namespaces, asked.peer),
            Peer::Networks(of) => {
                of.is_empty()
                    || of
                        .iter()
                        .any(|at| members[*at].address == asked.peer.address)
            }
        };
        self.ingress == asked.ingress
            && self.peers.iter().any(is_peer)
            && self.way.is_none_or(|(way, _)| way == asked.way)
    }
}

impl Policy {
    fn at_random(
        chance: &mut Chance,
        namespaces: usize,
        members: usize,
        actions: &[Action],
    ) -> Self {
        let count = 2 + chance.below(3);
        Self {
            priority: chance.below(3),
            subject: Pods::at_random(chance, namespaces),
            rules: (0..count)
                .map(|_| Rule::at_random(chance, namespaces, members, actions))
                .collect(),
        }
    }

    fn spec(&self, namespaces: &[Namespace<'_>], members: &[Member]) -> Value {
        let rules = |ingress: bool| -> Vec<Value> {
            let own = self.rules.iter().filter(|rule| rule.ingress == ingress);
            own.map(|rule| rule.object(namespaces, members)).collect()
        };
        json!({
            "subject": self.subject.object(namespaces),
            "ingress": rules(true),
            "egress": rules(false),
        })
    }

    /// The first of its rules that is about it.
    fn says(
        &self,
        namespaces: &[Namespace<'_>],
        members: &[Member],
        asked: &Asked<'_>,
    ) -> Option<Action> {
        let mut rules = self.rules.iter();
        let first = rules.find(|rule| rule.is_about(namespaces, members, asked))?;
        let is_subject = self.subject.are(namespaces, asked.own);
        is_subject.then_some(first.action)
    }
}

impl Tiers {
    pub fn at_random(chance: &mut Chance, namespaces: usize, members: usize) -> Self {
        let (all, two) = (
            [Action::Allow, Action::Deny, Action::Pass],
            [Action::Allow, Action::Deny],
        );
        // Priorities may be the same: names decide then.
        let count = chance.below(ADMIN.len() + 1);
        Self {
            admin: (0..count)
                .map(|_| Policy::at_random(chance, namespaces, members, &all))
                .collect(),
            // Without any other there is at least this.
            baseline: (count == 0 || chance.below(2) == 0)
                .then(|| Policy::at_random(chance, namespaces, members, &two)),
        }
    }

    pub fn objects(&self, namespaces: &[Namespace<'_>], members: &[Member]) -> Vec<Value> {
        let object = |kind: &str, name: &str, spec: Value| {
            json!({
                "apiVersion": "policy.networking.k8s.io/v1alpha1", "kind": kind,
                "metadata": {"name": name}, "spec": spec,
            })
        };
        let admin = self.admin.iter().enumerate().map(|(at, policy)| {
            let mut spec = policy.spec(namespaces, members);
            spec["priority"] = json!(policy.priority);
            object("AdminNetworkPolicy", ADMIN[at], spec)
        });
        let baseline = self.baseline.iter().map(|policy| {
            let spec = policy.spec(namespaces, members);
            object("BaselineAdminNetworkPolicy", "default", spec)
        });
        admin.chain(baseline).collect()
    }

    /// What AdminNetworkPolicies say, if anything.
    pub fn admin(
        &self,
        namespaces: &[Namespace<'_>],
        members: &[Member],
        asked: &Asked<'_>,
    ) -> Option<Action> {
        let mut order: Vec<&Policy> = self.admin.iter().collect();
        order.sort_by_key(|policy| policy.priority);
        let mut policies = order.into_iter();
        policies.find_map(|policy| policy.says(namespaces, members, asked))
    }

    pub fn baseline(
        &self,
        namespaces: &[Namespace<'_>],
        members: &[Member],
        asked: &Asked<'_>,
    ) -> Option<Action> {
        let baseline = self.baseline.as_ref()?;
        baseline.says(namespaces, members, asked)
    }
}
