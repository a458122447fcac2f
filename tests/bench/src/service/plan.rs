//! Who is measured, under which conditions and in which order. Pure.

use clap::ValueEnum;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use vetch_bench_record::Figure;
use vetch_bench_rules::Mode;

use super::objects::Path;
use super::options::Proxy;

/// How many of the services are dialled; the others are there to be passed by.
pub const DIALLED: u32 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Placement {
    SameNode,
    AcrossNodes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Frontend {
    #[value(name = "ClusterIP")]
    ClusterIp,
    /// The one of the servers' node
    #[value(name = "NodePort")]
    NodePort,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Measure {
    /// Requests per second over connections that stay
    Keepalive,
    /// Connections per second, a request each
    Connect,
    /// MiB per second
    Stream,
    /// UDP round trips per second
    Udp,
    /// Of keepalive and connect (those that are measured), at a fixed rate that all hold
    Latency,
    /// From an EndpointSlice write acknowledged to the first connection that follows it
    Effect,
    /// From the start of the proxy's daemon, with all Services in the API and nothing in the kernel,
    /// until it serves them all
    Program,
    /// CPU time of the proxy's daemon for one endpoint update
    Update,
    /// Of the proxy's daemon beside what it has without Services, and of its maps
    Memory,
}

/// What a vetch-load client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Keepalive,
    Connect,
    Stream,
    Udp,
}

/// Whose samples they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    Direct,
    /// The proxy that runs in the cluster, by the name it has in the report.
    Cluster(String),
    /// Generated rules.
    Rules(Mode),
    KubeProxy(Mode),
}

/// What one group of samples has in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions {
    pub placement: Placement,
    pub frontend: Frontend,
    pub services: u32,
    pub endpoints: u32,
}

impl Placement {
    pub fn as_str(self) -> &'static str {
        match self {
            Placement::SameNode => "same-node",
            Placement::AcrossNodes => "across-nodes",
        }
    }
}

impl Frontend {
    pub fn as_str(self) -> &'static str {
        match self {
            Frontend::ClusterIp => "ClusterIP",
            Frontend::NodePort => "NodePort",
        }
    }
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Keepalive => "keepalive",
            Kind::Connect => "connect",
            Kind::Stream => "stream",
            Kind::Udp => "udp",
        }
    }

    pub fn unit(self) -> &'static str {
        match self {
            Kind::Keepalive => "requests/s",
            Kind::Connect => "connections/s",
            Kind::Stream => "MiB/s",
            Kind::Udp => "round trips/s",
        }
    }

    pub fn of(measure: Measure) -> Option<Kind> {
        match measure {
            Measure::Keepalive => Some(Kind::Keepalive),
            Measure::Connect => Some(Kind::Connect),
            Measure::Stream => Some(Kind::Stream),
            Measure::Udp => Some(Kind::Udp),
            _ => None,
        }
    }

    /// Latency is of requests.
    pub fn has_latency(self) -> bool {
        matches!(self, Kind::Keepalive | Kind::Connect)
    }
}

impl Subject {
    pub fn of(proxy: Proxy, cluster: &str) -> Subject {
        match proxy {
            Proxy::Vetch => Subject::Cluster(cluster.to_owned()),
            Proxy::Iptables => Subject::Rules(Mode::Iptables),
            Proxy::Nftables => Subject::Rules(Mode::Nftables),
            Proxy::KubeProxyIptables => Subject::KubeProxy(Mode::Iptables),
            Proxy::KubeProxyNftables => Subject::KubeProxy(Mode::Nftables),
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Subject::Direct => "direct",
            Subject::Cluster(name) => name,
            Subject::Rules(Mode::Iptables) => "iptables",
            Subject::Rules(Mode::Nftables) => "nftables",
            Subject::KubeProxy(Mode::Iptables) => "kube-proxy-iptables",
            Subject::KubeProxy(Mode::Nftables) => "kube-proxy-nftables",
        }
    }

    /// Whether it needs the nodes' namespaces.
    pub fn is_local(&self) -> bool {
        matches!(self, Subject::Rules(_) | Subject::KubeProxy(_))
    }

    /// How its packets go: past the host's stack only where the cluster's own proxy may do so.
    pub fn path(&self) -> Path {
        match self {
            Subject::Cluster(_) => Path::Usual,
            Subject::Direct | Subject::Rules(_) | Subject::KubeProxy(_) => Path::Routed,
        }
    }

    /// Whether a program follows the API for it.
    pub fn follows(&self) -> bool {
        matches!(self, Subject::Cluster(_) | Subject::KubeProxy(_))
    }
}

impl Conditions {
    pub fn on(self, figure: Figure) -> Figure {
        figure
            .with("placement", self.placement.as_str())
            .with("frontend", self.frontend.as_str())
            .with("services", self.services)
            .with("endpoints", self.endpoints)
    }
}

/// The subjects' turns in one group of samples: another order in every group of every round, the
/// same for the same seed.
pub fn order(seed: u64, round: usize, group: usize, subjects: usize) -> Vec<usize> {
    let mut turns: Vec<usize> = (0..subjects).collect();
    let own = seed ^ (round as u64).rotate_left(32) ^ group as u64;
    turns.shuffle(&mut StdRng::seed_from_u64(own));
    turns
}

/// The turns of one round, each a group and a subject: side by side, group after group. A subject that
/// is `slow` to bring about has its samples of all groups in one go, between or around the others'.
pub fn turns(seed: u64, round: usize, groups: &[usize], slow: &[bool]) -> Vec<(usize, usize)> {
    let turn = |group: usize| order(seed, round, group, slow.len());
    let Some(first) = groups.first() else {
        return Vec::new();
    };
    let side_by_side = groups.iter().flat_map(|group| {
        let quick = turn(*group).into_iter().filter(|subject| !slow[*subject]);
        quick.map(|subject| (*group, subject))
    });
    let mut side_by_side = Some(side_by_side);
    let mut turns = Vec::new();
    for subject in turn(*first) {
        match slow[subject] {
            true => turns.extend(groups.iter().map(|group| (*group, subject))),
            false => turns.extend(side_by_side.take().into_iter().flatten()),
        }
    }
    turns
}

/// Which of `services` are dialled: at most 16, evenly spread, with the last among them.
pub fn dialled(services: u32) -> Vec<u32> {
    let count = services.min(DIALLED);
    (1..=u64::from(count))
        .map(|turn| (turn * u64::from(services) / u64::from(count)) as u32 - 1)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dialled_are_evenly_spread_with_the_last_among_them() {
        assert_eq!(dialled(1), [0]);
        assert_eq!(dialled(10), (0..10).collect::<Vec<_>>());
        assert_eq!(
            dialled(32),
            (0..16).map(|turn| 2 * turn + 1).collect::<Vec<_>>()
        );
        for services in [17, 100, 1000, 50_000] {
            let all = dialled(services);
            assert_eq!(all.len(), 16);
            assert_eq!(all.last(), Some(&(services - 1)));
            let gaps: Vec<u32> = all.windows(2).map(|pair| pair[1] - pair[0]).collect();
            let (low, high) = (gaps.iter().min().unwrap(), gaps.iter().max().unwrap());
            assert!(high - low <= 1 && *low >= 1, "{services}: {all:?}");
        }
    }

    #[test]
    fn everybody_has_one_turn_and_no_fixed_place() {
        let mut firsts = [0; 4];
        for round in 0..40 {
            for group in 0..3 {
                let turns = order(7, round, group, 4);
                assert_eq!(turns, order(7, round, group, 4), "the seed decides");
                let mut sorted = turns.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, [0, 1, 2, 3]);
                firsts[turns[0]] += 1;
            }
        }
        assert!(
            firsts.iter().all(|count| (15..=45).contains(count)),
            "{firsts:?}"
        );
    }

    #[test]
    fn every_subject_has_one_turn_in_every_group_and_the_slow_in_one_go() {
        for slow in [[false; 4], [false, false, true, true], [true; 4]] {
            for round in 0..20 {
                let turns = turns(7, round, &[4, 6, 9], &slow);
                let mut sorted = turns.clone();
                sorted.sort_unstable();
                let all = [4, 6, 9].map(|group| [0, 1, 2, 3].map(|subject| (group, subject)));
                assert_eq!(sorted, all.concat());
                for subject in (0..4).filter(|subject| slow[*subject]) {
                    let first = turns.iter().position(|turn| turn.1 == subject).unwrap();
                    let own = turns[first..first + 3].iter();
                    assert!(own.clone().all(|turn| turn.1 == subject), "{turns:?}");
                }
                let quick = turns.iter().filter(|turn| !slow[turn.1]);
                assert!(quick.is_sorted_by_key(|turn| turn.0), "{turns:?}");
            }
        }
        assert_eq!(turns(7, 1, &[], &[false, true]), []);
    }

    #[test]
    fn subjects_are_called_what_the_report_looks_for() {
        let names = [
            (Proxy::Vetch, "vetch"),
            (Proxy::Iptables, "iptables"),
            (Proxy::Nftables, "nftables"),
            (Proxy::KubeProxyIptables, "kube-proxy-iptables"),
            (Proxy::KubeProxyNftables, "kube-proxy-nftables"),
        ];
        for (proxy, name) in names {
            assert_eq!(Subject::of(proxy, "vetch").name(), name);
        }
        assert_eq!(Subject::of(Proxy::Vetch, "cilium").name(), "cilium");
    }
}
