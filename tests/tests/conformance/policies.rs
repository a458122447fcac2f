//! NetworkPolicies and those of administrators: what gets through between pods, tried pair by pair, and whom nothing
//! keeps out. The suite's entries for them are of `[sig-network] Netpol`, outside of conformance; names here are our own.

mod tiers;

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use vetch_tests::{Cluster, Namespace, Node, eventually};

use self::tiers::{Action, Tiers};
use crate::fixture::{MINUTE, all_ports, apply, cluster_ip, ready, server, service, text, url};

const GROUPS: [&str; 3] = ["a", "b", "c"];
/// Scheme, protocol, port and its name.
const WAYS: [(&str, &str, u64, &str); 2] =
    [("http", "TCP", 8080, "http"), ("udp", "UDP", 8082, "udp")];

const SETS: usize = 4;
/// Of those of administrators too.
const TIERED_SETS: usize = 8;

/// A pod that serves and asks.
struct Member {
    namespace: String,
    group: &'static str,
    address: IpAddr,
    inside: Node,
}

/// One pod of each group in each namespace.
fn members(namespaces: &[Namespace<'_>]) -> Result<Vec<Member>> {
    for namespace in namespaces {
        let servers: Vec<Value> = GROUPS
            .iter()
            .map(|group| {
                let mut server = server(group, "echo", all_ports());
                server["metadata"]["labels"]["group"] = json!(group);
                server
            })
            .collect();
        apply(namespace, &servers)?;
    }
    let mut members = Vec::new();
    for namespace in namespaces {
        ready(namespace, &GROUPS)?;
        for group in GROUPS {
            let address = text(namespace, &format!("pod/{group}"), "/status/podIP")?;
            members.push(Member {
                namespace: namespace.name.clone(),
                group,
                address: address.parse()?,
                inside: namespace.inside(group)?,
            });
        }
    }
    Ok(members)
}

/// Who is tried, of whom, and on which of [`WAYS`].
type Attempt = (usize, usize, usize);

/// Tries all at once: who is not answered waits for five seconds.
fn tried(members: &[Member], attempts: &[Attempt]) -> Result<BTreeMap<Attempt, bool>> {
    std::thread::scope(|scope| {
        let tries: Vec<_> = attempts
            .iter()
            .map(|attempt| {
                let (from, to, way) = *attempt;
                let (scheme, _, port, _) = WAYS[way];
                let url = url(scheme, &members[to].address.to_string(), port);
                let inside = &members[from].inside;
                let tried = scope
                    .spawn(move || Ok::<_, anyhow::Error>(inside.requests(&url, 1)?.failures == 0));
                (*attempt, tried)
            })
            .collect();
        tries
            .into_iter()
            .map(|(attempt, tried)| Ok((attempt, tried.join().expect("no panic")?)))
            .collect()
    })
}

/// A sequence that is the same in every run (Knuth's MMIX generator).
struct Chance(u64);

impl Chance {
    fn below(&mut self, count: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % count
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// What a rule is about, in the test's own words.
#[derive(Clone, Copy, Debug)]
enum Peer {
    Anybody,
    Own(&'static str),
    AllOf(usize),
    GroupOf(usize, &'static str),
    Address(usize),
}

#[derive(Clone, Debug)]
struct Rule {
    ingress: bool,
    /// The namespace and group of the pods it isolates; None for all groups.
    namespace: usize,
    group: Option<&'static str>,
    /// None for nobody.
    peer: Option<Peer>,
    /// None for all ways.
    way: Option<usize>,
    named: bool,
}

impl Rule {
    fn at_random(chance: &mut Chance, namespaces: usize, members: usize) -> Self {
        let peer = match chance.below(6) {
            0 => None,
            1 => Some(Peer::Anybody),
            2 => Some(Peer::Own(chance.of(&GROUPS))),
            3 => Some(Peer::AllOf(chance.below(namespaces))),
            4 => Some(Peer::GroupOf(chance.below(namespaces), chance.of(&GROUPS))),
            _ => Some(Peer::Address(chance.below(members))),
        };
        Self {
            ingress: chance.below(2) == 0,
            namespace: chance.below(namespaces),
            group: chance.of(&[None, Some("a"), Some("b"), Some("c")]),
            peer,
            way: chance.of(&[None, Some(0), Some(1)]),
            named: chance.below(2) == 0,
        }
    }

    fn object(&self, name: &str, namespaces: &[Namespace<'_>], members: &[Member]) -> Value {
        let whole = |at: usize| json!({"matchLabels": {"kubernetes.io/metadata.name": namespaces[at].name}});
        let group = |group: &str| json!({"matchLabels": {"group": group}});
        let peers = match self.peer {
            None | Some(Peer::Anybody) => json!([]),
            Some(Peer::Own(of)) => json!([{"podSelector": group(of)}]),
            Some(Peer::AllOf(at)) => json!([{"namespaceSelector": whole(at)}]),
            Some(Peer::GroupOf(at, of)) => {
                json!([{"namespaceSelector": whole(at), "podSelector": group(of)}])
            }
            Some(Peer::Address(at)) => {
                json!([{"ipBlock": {"cidr": format!("{}/32", members[at].address)}}])
            }
        };
        let ports = self.way.map_or(json!([]), |way| {
            let (_, protocol, port, name) = WAYS[way];
            let port = if self.named { json!(name) } else { json!(port) };
            json!([{"protocol": protocol, "port": port}])
        });
        let (direction, list, peer_field) = match self.ingress {
            true => ("Ingress", "ingress", "from"),
            false => ("Egress", "egress", "to"),
        };
        let rules = match self.peer {
            None => json!([]),
            Some(_) => json!([{peer_field: peers, "ports": ports}]),
        };
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name},
            "spec": {
                "podSelector": self.group.map_or(json!({}), group),
                "policyTypes": [direction],
                list: rules,
            },
        })
    }

    fn isolates(&self, namespaces: &[Namespace<'_>], member: &Member) -> bool {
        namespaces[self.namespace].name == member.namespace
            && self.group.is_none_or(|group| group == member.group)
    }

    fn lets(
        &self,
        namespaces: &[Namespace<'_>],
        members: &[Member],
        peer: &Member,
        way: usize,
    ) -> bool {
        let is_peer = match self.peer {
            None => false,
            Some(Peer::Anybody) => true,
            Some(Peer::Own(group)) => {
                namespaces[self.namespace].name == peer.namespace && peer.group == group
            }
            Some(Peer::AllOf(at)) => namespaces[at].name == peer.namespace,
            Some(Peer::GroupOf(at, group)) => {
                namespaces[at].name == peer.namespace && peer.group == group
            }
            Some(Peer::Address(at)) => members[at].address == peer.address,
        };
        is_peer && self.way.is_none_or(|only| only == way)
    }
}

fn expected(
    tiers: &Tiers,
    rules: &[Rule],
    namespaces: &[Namespace<'_>],
    members: &[Member],
    attempt: Attempt,
) -> bool {
    let (from, to, way) = attempt;
    let end = |ingress: bool, own: &Member, peer: &Member| {
        let asked = tiers::Asked {
            ingress,
            own,
            peer,
            way,
        };
        match tiers.admin(namespaces, members, &asked) {
            Some(Action::Allow) => return true,
            Some(Action::Deny) => return false,
            Some(Action::Pass) | None => {}
        }
        let isolating: Vec<&Rule> = rules
            .iter()
            .filter(|rule| rule.ingress == ingress && rule.isolates(namespaces, own))
            .collect();
        if isolating.is_empty() {
            return tiers.baseline(namespaces, members, &asked) != Some(Action::Deny);
        }
        isolating
            .iter()
            .any(|rule| rule.lets(namespaces, members, peer, way))
    };
    from == to
        || end(false, &members[from], &members[to]) && end(true, &members[to], &members[from])
}

/// Those of administrators are of the whole cluster: they go when the test does.
struct AdminPolicies<'a>(&'a Cluster);

impl Drop for AdminPolicies<'_> {
    fn drop(&mut self) {
        let _ = tiers::delete(self.0);
    }
}

/// Sets of policies made at random, and every pair of nine pods by two ways under each: 1,944 attempts. Under most of
/// them administrators' policies are around the NetworkPolicies.
#[test]
fn policies_let_pass_what_they_say_and_nothing_else() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespaces = [
        Namespace::create(&cluster, "policy-x")?,
        Namespace::create(&cluster, "policy-y")?,
        Namespace::create(&cluster, "policy-z")?,
    ];
    let members = members(&namespaces)?;
    let pairs = (0..members.len()).flat_map(|from| (0..members.len()).map(move |to| (from, to)));
    let attempts: Vec<Attempt> = pairs
        .flat_map(|(from, to)| [(from, to, 0), (from, to, 1)])
        .collect();
    let mut chance = Chance(2026);
    let _admin_policies = AdminPolicies(&cluster);
    for round in 0..SETS + TIERED_SETS {
        let tiered = round >= SETS;
        // Fewer, so that something is left for the other tiers.
        let count = if tiered { 3 } else { 6 };
        let rules: Vec<Rule> = (0..count)
            .map(|_| Rule::at_random(&mut chance, namespaces.len(), members.len()))
            .collect();
        let tiers = if tiered {
            Tiers::at_random(&mut chance, namespaces.len(), members.len())
        } else {
            Tiers::default()
        };
        for (at, namespace) in namespaces.iter().enumerate() {
            namespace
                .kubectl(&["delete", "networkpolicies", "--all"])?
                .ok()?;
            let own = rules
                .iter()
                .enumerate()
                .filter(|(_, rule)| rule.namespace == at);
            let own: Vec<Value> = own
                .map(|(number, rule)| rule.object(&format!("p{number}"), &namespaces, &members))
                .collect();
            if !own.is_empty() {
                apply(namespace, &own)?;
            }
        }
        if tiered {
            tiers::delete(&cluster)?;
            apply(&namespaces[0], &tiers.objects(&namespaces, &members))?;
        }
        eventually(MINUTE, &format!("round {round}"), || {
            for (attempt, passed) in tried(&members, &attempts)? {
                let wanted = expected(&tiers, &rules, &namespaces, &members, attempt);
                let (from, to, way) = attempt;
                ensure!(
                    passed == wanted,
                    "from {}/{} to {}/{} by {:?}: passed {passed} by {rules:?} and {tiers:?}",
                    members[from].namespace,
                    members[from].group,
                    members[to].namespace,
                    members[to].group,
                    WAYS[way],
                );
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Under default deny a pod's probes go on, it reaches itself, its Service is closed to others and open to whom a
/// policy names; and a pod is held from its first packet on.
#[test]
fn default_deny_keeps_out_all_but_the_node() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "policy-deny")?;
    let deny = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "deny"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    });
    let ports = json!([{"port": 80, "targetPort": 8080}]);
    let selector = json!({"app": "served"});
    apply(
        &namespace,
        &[
            deny,
            server("served", "served", all_ports()),
            server("client", "client", all_ports()),
            service("served", &json!({"selector": selector, "ports": ports})),
        ],
    )?;
    // By its readiness probe, which its node asks.
    ready(&namespace, &["served", "client"])?;
    let address = text(&namespace, "pod/served", "/status/podIP")?;
    let own = namespace.inside("served")?;
    let client = namespace.inside("client")?;
    let (direct, by_service) = (
        url("http", &address, 8080),
        url("http", &cluster_ip(&namespace, "served")?, 80),
    );
    eventually(MINUTE, "it reaches itself", || {
        ensure!(own.requests(&direct, 1)?.failures == 0);
        Ok(())
    })?;
    ensure!(
        client.requests(&direct, 1)?.failures == 1,
        "the pod is open"
    );
    ensure!(
        client.requests(&by_service, 1)?.failures == 1,
        "its Service is open"
    );
    let allow = |name: &str, app: &str, spec: Value| {
        let mut object = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name},
            "spec": {"podSelector": {"matchLabels": {"app": app}}},
        });
        for (key, value) in spec.as_object().into_iter().flatten() {
            object["spec"][key] = value.clone();
        }
        object
    };
    let of = |app: &str| json!([{"podSelector": {"matchLabels": {"app": app}}}]);
    apply(
        &namespace,
        &[
            allow(
                "in",
                "served",
                json!({"policyTypes": ["Ingress"], "ingress": [{"from": of("client"), "ports": [{"port": "http"}]}]}),
            ),
            allow(
                "out",
                "client",
                json!({"policyTypes": ["Egress"], "egress": [{"to": of("served"), "ports": [{"port": 8080}]}]}),
            ),
        ],
    )?;
    eventually(MINUTE, "by the Service, judged by its backend", || {
        ensure!(client.requests(&by_service, 1)?.failures == 0);
        Ok(())
    })?;
    ensure!(client.requests(&direct, 1)?.failures == 0);
    // One that speaks with its first instruction, to a pod that would answer.
    let mut first = server("first", "first", json!([]));
    let container = &mut first["spec"]["containers"][0];
    container["args"] = json!(["load", "--url", direct, "--count", "1"]);
    let removed = container
        .as_object_mut()
        .context("a container")?
        .remove("readinessProbe");
    ensure!(removed.is_some());
    first["spec"]["restartPolicy"] = json!("Never");
    apply(&namespace, &[first])?;
    eventually(MINUTE, "its load is over", || {
        let phase = text(&namespace, "pod/first", "/status/phase")?;
        ensure!(phase == "Succeeded" || phase == "Failed", "{phase}");
        Ok(())
    })?;
    let told = namespace.kubectl(&["logs", "first"])?.ok()?;
    let report = vetch_tests::load::Report::parse(&told)?;
    ensure!(report.failures == 1, "it got through: {told}");
    Ok(())
}
