//! Which endpoints of a service-port get new clients, and which keep theirs:
//! the rules of kube-proxy 1.36 (its `CategorizeEndpoints`).

use vetch_ebpf_common::Protocol;

use super::{
    Family,
    slice::{NodeHint, Slice, State},
    weight::{Weight, turns},
};
use crate::model::Backend;

#[cfg(test)]
mod tests;

/// An endpoint under one of its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    pub backend: Backend,
    pub state: State,
    pub local: bool,
    pub node_hint: NodeHint,
    pub zones: &'a [Box<str>],
    pub weight: Weight,
}

/// Which lists a service-port's policies ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub cluster: bool,
    pub local: bool,
    pub serving: bool,
}

/// Sorted. Who gets new clients has as many turns as its weight asks for, and
/// one where all weigh the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    pub cluster: Vec<Backend>,
    pub local: Vec<Backend>,
    /// Each once.
    pub serving: Vec<Backend>,
}

/// The endpoints behind the port of this name, sorted. One that is in two
/// slices, as while it moves from one to the other, counts as the better, with
/// the greater weight.
pub fn candidates<'a>(
    port_name: &str,
    protocol: Protocol,
    family: Family,
    slices: impl Iterator<Item = &'a Slice>,
) -> Vec<Candidate<'a>> {
    let mut candidates = Vec::new();
    for slice in slices {
        for port in &slice.ports {
            if *port.name != *port_name || port.protocol != protocol {
                continue;
            }
            let endpoints = slice
                .endpoints
                .iter()
                .filter(|endpoint| Family::of(endpoint.addr) == family);
            candidates.extend(endpoints.map(|endpoint| Candidate {
                backend: Backend {
                    addr: endpoint.addr,
                    port: port.number,
                },
                state: endpoint.state,
                local: endpoint.local,
                node_hint: endpoint.node_hint,
                zones: &endpoint.zones,
                weight: slice.weight,
            }));
        }
    }
    candidates.sort_by(|a, b| (a.backend, b.state).cmp(&(b.backend, a.state)));
    candidates.dedup_by(|worse, better| {
        let same = worse.backend == better.backend;
        better.local |= same && worse.local;
        if same {
            better.weight = better.weight.max(worse.weight);
        }
        same
    });
    candidates
}

/// `candidates` as they come from [`candidates`].
///
/// Nobody is sent to the cluster's list of a service-port that needs none, but
/// that it is empty would refuse calls that are to be dropped: it gets one
/// endpoint, if there is any. So a change on another node rarely is a change
/// here.
pub fn choose(candidates: &[Candidate], zone: Option<&str>, needs: Needs) -> Lists {
    let backends = |takes: &dyn Fn(&Candidate) -> bool| -> Vec<(Backend, Weight)> {
        let taken = candidates.iter().filter(|candidate| takes(candidate));
        taken.map(|one| (one.backend, one.weight)).collect()
    };
    // Each list decides for itself whether it has to fall back on endpoints
    // that drain.
    let ready_or_draining = |takes: &dyn Fn(&Candidate) -> bool| {
        let ready = backends(&|one| one.state == State::Ready && takes(one));
        if ready.is_empty() {
            turns(&backends(&|one| one.state == State::Draining && takes(one)))
        } else {
            turns(&ready)
        }
    };
    let topology = Topology::of(candidates, zone);
    let mut lists = Lists {
        cluster: ready_or_draining(&|one| topology.takes(one)),
        ..Lists::default()
    };
    if !needs.cluster {
        lists.cluster.truncate(1);
    }
    if needs.local {
        lists.local = ready_or_draining(&|one| one.local);
    }
    if needs.serving {
        let serving = backends(&|one| one.state != State::Down);
        lists.serving = serving.into_iter().map(|(backend, _)| backend).collect();
    }
    lists
}

/// Where clients of this node should be sent by the hints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Topology<'a> {
    Anywhere,
    ThisNode,
    Zone(&'a str),
}

impl<'a> Topology<'a> {
    /// A hint counts only if every ready endpoint has one of its kind and one
    /// of them means us: endpoints without would get no client at all.
    fn of(candidates: &[Candidate], zone: Option<&'a str>) -> Self {
        let ready = || candidates.iter().filter(|one| one.state == State::Ready);
        if ready().all(|one| one.node_hint != NodeHint::None)
            && ready().any(|one| Self::ThisNode.takes(one))
        {
            return Self::ThisNode;
        }
        match zone.map(Self::Zone) {
            Some(zone)
                if ready().all(|one| !one.zones.is_empty())
                    && ready().any(|one| zone.takes(one)) =>
            {
                zone
            }
            _ => Self::Anywhere,
        }
    }

    fn takes(self, candidate: &Candidate) -> bool {
        match self {
            Self::Anywhere => true,
            Self::ThisNode => candidate.node_hint == NodeHint::ThisNode,
            Self::Zone(zone) => candidate.zones.iter().any(|hint| **hint == *zone),
        }
    }
}
