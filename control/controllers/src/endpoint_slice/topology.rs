//! `service.kubernetes.io/topology-mode: Auto`: each zone gets endpoints by its share of the cluster's CPU, so that
//! clients stay in their zone and no endpoint has more than a fifth too many of them (KEP-2433, which 1.36 still has;
//! the annotation goes before spec.trafficDistribution).
//!
//! Where Kubernetes begins anew for each slice it writes anyway, the hints here follow from the endpoints alone; which
//! endpoints of a zone go to another is what was written before, as far as that is still right.

mod share;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, EndpointSlice, ForZone};

pub use self::share::{Shares, Unhinted, capacity, shares};

use self::share::{Moves, moves};
use super::desired::{Group, PortSet};
use super::plan::{Identity, identity};
use crate::events::Note;
use crate::service::Family;

const MODE: &str = "service.kubernetes.io/topology-mode";
/// Its older name, which is the one that counts where both are there.
const HINTS: &str = "service.kubernetes.io/topology-aware-hints";

pub fn is_auto(service: &Service) -> bool {
    let annotations = service.metadata.annotations.as_ref();
    let mode = annotations.and_then(|own| own.get(HINTS).or_else(|| own.get(MODE)));
    mode.is_some_and(|mode| mode == "Auto" || mode == "auto")
}

/// Gives each ready endpoint of one address family the zone it is for, or none any. `existing` are the slices as they
/// are.
pub fn hint(
    groups: &mut BTreeMap<PortSet, Group>,
    existing: &[Arc<EndpointSlice>],
    shares: Option<&Shares>,
) -> Result<(), Unhinted> {
    let shares = shares.ok_or(Unhinted::Nodes)?;
    let all = groups.values_mut().flat_map(|group| &mut group.endpoints);
    let mut ready: Vec<&mut Endpoint> = all.filter(|own| is_ready(own)).collect();
    let mut own: BTreeMap<String, usize> = BTreeMap::new();
    for endpoint in &ready {
        *own.entry(zone(endpoint).to_owned()).or_default() += 1;
    }
    let mut moves = moves(&own, shares)?;
    if own.contains_key("") {
        return Err(Unhinted::Zone);
    }
    let before = hinted(existing);
    let mut to: Vec<Option<String>> = ready
        .iter()
        .map(|own| moves.again(zone(own), before.get(&identity(own))?))
        .collect();
    for (endpoint, to) in ready.iter().zip(&mut to) {
        if to.is_none() {
            *to = moves.first(zone(endpoint));
        }
    }
    for (endpoint, to) in ready.iter_mut().zip(to) {
        let name = to.unwrap_or_else(|| zone(endpoint).to_owned());
        endpoint.hints = Some(EndpointHints {
            for_zones: Some(vec![ForZone { name }]),
            for_nodes: None,
        });
    }
    Ok(())
}

fn is_ready(endpoint: &Endpoint) -> bool {
    let conditions = endpoint.conditions.as_ref();
    conditions.and_then(|own| own.ready) == Some(true)
}

fn zone(endpoint: &Endpoint) -> &str {
    endpoint.zone.as_deref().unwrap_or_default()
}

/// Which zone endpoints are for as the slices are.
fn hinted(slices: &[Arc<EndpointSlice>]) -> HashMap<Identity, &str> {
    let endpoints = slices
        .iter()
        .flat_map(|slice| slice.endpoints.iter().flatten());
    let hinted =
        endpoints.filter_map(
            |endpoint| match endpoint.hints.as_ref()?.for_zones.as_deref()? {
                [only] => Some((identity(endpoint), only.name.as_str())),
                _ => None,
            },
        );
    hinted.collect()
}

/// What came of a family's hints.
#[derive(Debug)]
pub enum Outcome {
    /// Nobody asks for them.
    Unasked,
    Given,
    Refused(Unhinted),
}

/// Whether a service that had hints before (`had`) has them now, and what people are told of that.
pub fn told(mut had: bool, outcomes: &[(Family, Outcome)]) -> (bool, Vec<Note>) {
    let mut notes = Vec::new();
    for (family, outcome) in outcomes {
        let words =
            |what: &dyn std::fmt::Display| format!("{what}, addressType: {}", family.as_str());
        let disabled =
            |why: &dyn std::fmt::Display| Note::warning("TopologyAwareHintsDisabled", words(why));
        match outcome {
            Outcome::Unasked if had => {
                notes.push(disabled(&"Topology Aware Hints has been disabled"));
            }
            Outcome::Given if !had => notes.push(Note::normal(
                "TopologyAwareHintsEnabled",
                words(&"Topology Aware Hints has been enabled"),
            )),
            Outcome::Unasked | Outcome::Given => {}
            Outcome::Refused(why) => notes.push(disabled(why)),
        }
        had = matches!(outcome, Outcome::Given);
    }
    (had, notes)
}

impl Moves {
    /// Where an endpoint of this zone went before, if it is to go there again.
    fn again(&mut self, from: &str, to: &str) -> Option<String> {
        self.take(from, to).then(|| to.to_owned())
    }

    /// Where an endpoint of this zone goes, if one has to.
    fn first(&mut self, from: &str) -> Option<String> {
        let to = self.receive.keys().next()?.clone();
        self.take(from, &to).then_some(to)
    }
}

#[cfg(test)]
mod tests;
