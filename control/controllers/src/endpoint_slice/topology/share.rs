//! How many endpoints each zone should have, and how many have to be for another zone than their own.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use vetch_api::quantity::Quantity;

use crate::endpoint_slice::ZONE;
use crate::node::{Ready, ready};

/// How much more than its fair part of all clients an endpoint may get.
const OVERLOAD: f64 = 0.2;
/// What rounding makes of a whole number is none more.
const ROUNDING: f64 = 1e-9;
/// Nodes that run no workloads.
const EXCLUDED: [&str; 2] = [
    "node-role.kubernetes.io/control-plane",
    "node-role.kubernetes.io/master",
];

/// Each zone's part of the CPU of all nodes; together 1.
pub type Shares = BTreeMap<String, f64>;

/// Why endpoints are hinted for no zone.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Unhinted {
    #[error(
        "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes"
    )]
    Nodes,
    #[error("Insufficient number of endpoints ({endpoints} endpoints, {zones} zones)")]
    Endpoints { endpoints: usize, zones: usize },
    #[error(
        "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold ({endpoints} endpoints, {zones} zones)"
    )]
    Overload { endpoints: usize, zones: usize },
    #[error("One or more endpoints do not have a zone specified")]
    Zone,
}

/// Zone and thousandths of a CPU of a node that counts.
pub fn capacity(node: &Node) -> Option<(&str, i64)> {
    let labels = node.metadata.labels.as_ref();
    let label = |key: &str| labels.and_then(|labels| labels.get(key));
    if EXCLUDED.iter().any(|key| label(key).is_some()) || ready(node) != Ready::True {
        return None;
    }
    let status = node.status.as_ref();
    let allocatable = status.and_then(|status| status.allocatable.as_ref());
    let cpu = allocatable.and_then(|all| Quantity::parse(&all.get("cpu")?.0).ok());
    Some((
        label(ZONE).map_or("", String::as_str),
        cpu.map_or(0, |cpu| cpu.milli_value()),
    ))
}

/// `None` where a node has no zone or no CPU, and where there is nothing to choose.
pub fn shares(nodes: &[Arc<Node>]) -> Option<Shares> {
    let mut zones: BTreeMap<&str, f64> = BTreeMap::new();
    for (zone, cpu) in nodes.iter().filter_map(|node| capacity(node)) {
        if zone.is_empty() || cpu <= 0 {
            return None;
        }
        *zones.entry(zone).or_default() += cpu as f64;
    }
    let all: f64 = zones.values().sum();
    let shares = zones
        .iter()
        .map(|(zone, cpu)| ((*zone).to_owned(), cpu / all));
    (zones.len() >= 2).then(|| shares.collect())
}

/// Endpoints that are for another zone than theirs, by the zone they are in and the one they are for.
#[derive(Debug, Default, PartialEq)]
pub struct Moves {
    pub give: BTreeMap<String, usize>,
    pub receive: BTreeMap<String, usize>,
}

impl Moves {
    /// One of them, if there is one between these two.
    pub fn take(&mut self, from: &str, to: &str) -> bool {
        let left = |all: &BTreeMap<String, usize>, zone: &str| all.contains_key(zone);
        if !left(&self.give, from) || !left(&self.receive, to) {
            return false;
        }
        for (all, zone) in [(&mut self.give, from), (&mut self.receive, to)] {
            all.entry(zone.to_owned()).and_modify(|count| *count -= 1);
            all.retain(|_, count| *count > 0);
        }
        true
    }
}

struct Zone {
    /// Endpoints that are for it.
    count: usize,
    /// Fewer would have too many clients each.
    least: usize,
    target: f64,
}

impl Zone {
    fn surplus(&self) -> f64 {
        self.count as f64 - self.target
    }
}

/// `own`: how many ready endpoints are in each zone.
pub fn moves(own: &BTreeMap<String, usize>, shares: &Shares) -> Result<Moves, Unhinted> {
    let endpoints: usize = own.values().sum();
    let zones = shares.len();
    if zones > endpoints {
        return Err(Unhinted::Endpoints { endpoints, zones });
    }
    let mut all: BTreeMap<&str, Zone> = BTreeMap::new();
    for (name, share) in shares {
        let fair = share * endpoints as f64;
        let least = (fair / (1.0 + OVERLOAD) - ROUNDING).ceil();
        let zone = Zone {
            count: own.get(name).copied().unwrap_or_default(),
            least: least as usize,
            target: fair.max(least),
        };
        all.insert(name, zone);
    }
    if all.values().map(|zone| zone.least).sum::<usize>() > endpoints {
        return Err(Unhinted::Overload { endpoints, zones });
    }
    // Where no node counts there are no clients.
    for (name, count) in own {
        all.entry(name).or_insert(Zone {
            count: *count,
            least: 0,
            target: 0.0,
        });
    }
    let mut moves = Moves::default();
    while let Some((from, to)) = next(&all) {
        for (name, moved, step) in [(from, &mut moves.give, -1), (to, &mut moves.receive, 1)] {
            *moved.entry(name.to_owned()).or_default() += 1;
            all.entry(name)
                .and_modify(|zone| zone.count = zone.count.saturating_add_signed(step));
        }
    }
    Ok(moves)
}

/// From the zone with the most too many to the one with the most too few, until both are as near to their targets as
/// whole endpoints are. A zone below its least gets one in any case, one without clients gives all.
fn next<'a>(all: &BTreeMap<&'a str, Zone>) -> Option<(&'a str, &'a str)> {
    let most = |of: &dyn Fn(&Zone) -> Option<f64>| {
        let all = all
            .iter()
            .filter_map(|(name, zone)| Some((*name, of(zone)?)));
        all.max_by(|(_, one), (_, other)| one.total_cmp(other))
    };
    let needy = most(&|zone| (zone.count < zone.least).then(|| -zone.surplus()));
    let idle = most(&|zone| (zone.target == 0.0 && zone.count > 0).then(|| zone.surplus()));
    let (from, gives) =
        idle.or_else(|| most(&|zone| (zone.count > zone.least).then(|| zone.surplus())))?;
    let (to, takes) =
        needy.or_else(|| most(&|zone| (zone.target > 0.0).then(|| -zone.surplus())))?;
    let worth = gives >= 0.5 && takes >= 0.5 && (gives >= 1.0 || takes >= 1.0);
    (needy.is_some() || idle.is_some() || worth).then_some((from, to))
}

#[cfg(test)]
mod tests;
