use std::collections::BTreeSet;

use k8s_openapi::api::discovery::v1::EndpointPort;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;

use super::*;
use crate::endpoint_slice::testing;

fn endpoint(number: usize, zone: &str, ready: bool) -> Endpoint {
    Endpoint {
        zone: (!zone.is_empty()).then(|| zone.to_owned()),
        ..testing::endpoint(number, ready)
    }
}

fn groups(endpoints: Vec<Endpoint>) -> BTreeMap<PortSet, Group> {
    let ports: Vec<EndpointPort> = Vec::new();
    [(PortSet::of(&ports), Group { ports, endpoints })].into()
}

fn half(zones: &[&str]) -> Shares {
    let share = 1.0 / zones.len() as f64;
    zones
        .iter()
        .map(|zone| ((*zone).to_owned(), share))
        .collect()
}

/// The only zone an endpoint is for.
fn only(endpoint: &Endpoint) -> Option<&str> {
    let zones = endpoint.hints.as_ref()?.for_zones.as_deref()?;
    assert_eq!(zones.len(), 1, "{endpoint:?}");
    Some(&zones[0].name)
}

fn zones(groups: &BTreeMap<PortSet, Group>) -> Vec<Option<&str>> {
    let endpoints = groups.values().flat_map(|group| &group.endpoints);
    endpoints.map(only).collect()
}

fn slice(groups: &BTreeMap<PortSet, Group>) -> Arc<EndpointSlice> {
    let endpoints = groups.values().flat_map(|group| group.endpoints.clone());
    Arc::new(EndpointSlice {
        endpoints: Some(endpoints.collect()),
        ..EndpointSlice::default()
    })
}

#[test]
fn which_services_ask() {
    let table: [(&[(&str, &str)], bool); 6] = [
        (&[], false),
        (&[(MODE, "Auto")], true),
        (&[(MODE, "auto")], true),
        (&[(MODE, "Disabled")], false),
        (&[(HINTS, "Auto")], true),
        (&[(MODE, "Auto"), (HINTS, "Disabled")], false),
    ];
    for (annotations, wanted) in table {
        let annotations: BTreeMap<&str, &str> = annotations.iter().copied().collect();
        let service = json!({"metadata": {"annotations": annotations}});
        let service = serde_json::from_value(service).expect("a service");
        assert_eq!(is_auto(&service), wanted, "{annotations:?}");
    }
}

#[test]
fn a_zone_with_many_gives_to_one_with_few() {
    let all = || {
        let ready = (0..4).map(|number| endpoint(number, "a", true));
        ready.chain([endpoint(4, "a", false)]).collect()
    };
    let mut first = groups(all());
    hint(&mut first, &[], Some(&half(&["a", "b"]))).expect("hints");
    let (a, b) = (Some("a"), Some("b"));
    assert_eq!(zones(&first), [b, b, a, a, None]);

    // Where they were, they stay, and another one takes the place of one that goes.
    let mut before = groups(all());
    for (number, zone) in [(1, "b"), (3, "b"), (2, "gone")] {
        let endpoints = &mut before.values_mut().next().expect("a group").endpoints;
        let zone = ForZone { name: zone.into() };
        endpoints[number].hints = Some(EndpointHints {
            for_zones: Some(vec![zone]),
            for_nodes: None,
        });
    }
    let existing = [slice(&before)];
    let mut again = groups(all());
    hint(&mut again, &existing, Some(&half(&["a", "b"]))).expect("hints");
    assert_eq!(zones(&again), [a, b, a, b, None]);
    let mut fewer: Vec<Endpoint> = all();
    fewer[3] = endpoint(9, "a", true);
    let mut fewer = groups(fewer);
    hint(&mut fewer, &existing, Some(&half(&["a", "b"]))).expect("hints");
    assert_eq!(zones(&fewer), [b, b, a, a, None]);
}

#[test]
fn no_endpoint_has_a_hint_where_one_cannot() {
    let shares = half(&["a", "b"]);
    let ready = |zones: &[&str]| -> Vec<Endpoint> {
        let all = zones.iter().enumerate();
        all.map(|(number, zone)| endpoint(number, zone, true))
            .collect()
    };
    for (endpoints, shares, why) in [
        (ready(&["a", "b"]), None, Unhinted::Nodes),
        (ready(&["a", "", "b", "b"]), Some(&shares), Unhinted::Zone),
        (
            vec![endpoint(0, "a", true), endpoint(1, "b", false)],
            Some(&shares),
            Unhinted::Endpoints {
                endpoints: 1,
                zones: 2,
            },
        ),
    ] {
        let mut groups = groups(endpoints);
        assert_eq!(hint(&mut groups, &[], shares), Err(why));
        assert!(zones(&groups).iter().all(Option::is_none));
    }
}

/// Every ready endpoint has exactly one zone, one of those where clients are; no other endpoint has any; and what is
/// hinted once stays as it is.
#[test]
fn each_ready_endpoint_has_one_zone() {
    let mut rng = StdRng::seed_from_u64(2);
    let names = ["a", "b", "c", "d"];
    let mut given = 0;
    for _ in 0..2000 {
        let count = rng.random_range(2..=3);
        let shares = half(&names[..count]);
        let endpoints: Vec<Endpoint> = (0..rng.random_range(2..60))
            .map(|number| {
                let zone = names[rng.random_range(0..=count)];
                endpoint(number, zone, rng.random_bool(0.8))
            })
            .collect();
        let mut first = groups(endpoints.clone());
        if hint(&mut first, &[], Some(&shares)).is_err() {
            continue;
        }
        given += 1;
        let known: BTreeSet<&str> = shares.keys().map(String::as_str).collect();
        for (own, zone) in endpoints.iter().zip(zones(&first)) {
            assert_eq!(zone.is_some(), is_ready(own), "{own:?}");
            assert!(zone.is_none_or(|zone| known.contains(zone)), "{zone:?}");
        }
        let mut again = groups(endpoints);
        hint(&mut again, &[slice(&first)], Some(&shares)).expect("hints");
        assert_eq!(again, first);
    }
    assert!(given > 1000, "only {given} services could have hints");
}

#[test]
fn people_hear_when_hints_begin_and_end() {
    let enabled = |family: &str| {
        let words = format!("Topology Aware Hints has been enabled, addressType: {family}");
        Note::normal("TopologyAwareHintsEnabled", words)
    };
    let disabled = |words: &str| Note::warning("TopologyAwareHintsDisabled", words.to_owned());
    let refused = || Outcome::Refused(Unhinted::Zone);
    let zone = "One or more endpoints do not have a zone specified, addressType: IPv4";
    let (v4, v6) = (Family::V4, Family::V6);
    for (had, outcomes, wanted) in [
        (false, vec![(v4, Outcome::Unasked)], (false, vec![])),
        (
            false,
            vec![(v4, Outcome::Given), (v6, Outcome::Given)],
            (true, vec![enabled("IPv4")]),
        ),
        (true, vec![(v4, Outcome::Given)], (true, vec![])),
        (
            true,
            vec![(v4, Outcome::Unasked), (v6, Outcome::Unasked)],
            (
                false,
                vec![disabled(
                    "Topology Aware Hints has been disabled, addressType: IPv4",
                )],
            ),
        ),
        (true, vec![(v4, refused())], (false, vec![disabled(zone)])),
        (false, vec![(v4, refused())], (false, vec![disabled(zone)])),
    ] {
        assert_eq!(told(had, &outcomes), wanted, "{had} {outcomes:?}");
    }
}
