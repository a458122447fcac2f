//! The slices that say what Endpoints say: one a subset and address family.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, Endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::MANAGER;
use crate::endpoint_slice::desired::{Group, PortSet};
use crate::endpoint_slice::plan::{Changes, Identity, identity};
use crate::endpoint_slice::{MANAGED_BY, SERVICE_NAME};
use crate::endpoints::subsets::repack;
use crate::events::Note;
use crate::key::name_of;
use crate::ownership::controller_reference;
use crate::service::{Family, LAST_CHANGE};

/// Addresses of one subset that are mirrored.
const MAX_ADDRESSES: usize = 1000;
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

pub fn plan(endpoints: &Endpoints, existing: &[Arc<EndpointSlice>]) -> (Changes, Vec<Note>) {
    let (desired, notes) = desired(endpoints);
    let mut by_group: HashMap<(String, PortSet), Vec<Arc<EndpointSlice>>> = HashMap::new();
    for slice in existing {
        let ports = PortSet::of(slice.ports.as_deref().unwrap_or_default());
        by_group
            .entry((slice.address_type.clone(), ports))
            .or_default()
            .push(slice.clone());
    }
    let mut changes = Changes::default();
    for ((family, ports), group) in desired {
        let slices = by_group
            .remove(&(family.as_str().to_owned(), ports))
            .unwrap_or_default();
        let wanted = slice(endpoints, family, group);
        let mut slices = slices.into_iter();
        match slices.next() {
            None => changes.create.push(wanted),
            Some(old) if is_equal(&old, &wanted) => {}
            Some(old) => {
                let mut updated = old.as_ref().clone();
                updated.metadata.labels = wanted.metadata.labels;
                updated.metadata.annotations = wanted.metadata.annotations;
                updated.metadata.owner_references = wanted.metadata.owner_references;
                updated.endpoints = wanted.endpoints;
                changes.update.push(updated);
            }
        }
        changes.delete.extend(slices);
    }
    changes.delete.extend(by_group.into_values().flatten());
    (changes, notes)
}

/// Groups with at least one endpoint, and what could not be mirrored.
fn desired(endpoints: &Endpoints) -> (BTreeMap<(Family, PortSet), Group>, Vec<Note>) {
    let mut groups: BTreeMap<(Family, PortSet), Group> = BTreeMap::new();
    let (mut invalid, mut skipped) = (0, 0);
    for subset in repack(endpoints.subsets.as_deref().unwrap_or_default()) {
        let ports: Vec<EndpointPort> = subset
            .ports
            .iter()
            .flatten()
            .map(|port| EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(port.port),
                protocol: port.protocol.clone(),
                app_protocol: port.app_protocol.clone(),
            })
            .collect();
        let ready = subset.addresses.iter().flatten().map(|own| (own, true));
        let waiting = subset.not_ready_addresses.iter().flatten();
        let all: Vec<(&EndpointAddress, bool)> =
            ready.chain(waiting.map(|own| (own, false))).collect();
        let mut added = 0;
        for (address, ready) in &all {
            if added == MAX_ADDRESSES {
                break;
            }
            let Some(family) = Family::of(&address.ip) else {
                invalid += 1;
                continue;
            };
            added += 1;
            let group = groups
                .entry((family, PortSet::of(&ports)))
                .or_insert_with(|| Group {
                    ports: ports.clone(),
                    endpoints: Vec::new(),
                });
            group.endpoints.push(endpoint(address, *ready));
        }
        skipped += all.len() - added;
    }
    let mut notes = Vec::new();
    if invalid > 0 {
        let message =
            format!("Skipped {invalid} invalid IP addresses when mirroring to EndpointSlices");
        notes.push(Note::warning("InvalidIPAddress", message));
    }
    if skipped > invalid {
        let message = format!(
            "A max of {MAX_ADDRESSES} addresses can be mirrored to EndpointSlices per Endpoints subset. {skipped} addresses were skipped"
        );
        notes.push(Note::warning("TooManyAddressesToMirror", message));
    }
    (groups, notes)
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn slice(endpoints: &Endpoints, family: Family, group: Group) -> EndpointSlice {
    let meta = &endpoints.metadata;
    let mut labels = meta.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.into(), name_of(endpoints).to_owned());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    let mut annotations = meta.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| ![LAST_CHANGE, LAST_APPLIED].contains(&key.as_str()));
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", name_of(endpoints))),
            namespace: meta.namespace.clone(),
            labels: Some(labels),
            annotations: (!annotations.is_empty()).then_some(annotations),
            owner_references: Some(vec![controller_reference(endpoints)]),
            ..ObjectMeta::default()
        },
        address_type: family.as_str().into(),
        ports: Some(group.ports),
        endpoints: Some(group.endpoints),
    }
}

fn is_equal(old: &EndpointSlice, wanted: &EndpointSlice) -> bool {
    fn set(slice: &EndpointSlice) -> BTreeMap<Identity, &Endpoint> {
        let endpoints = slice.endpoints.iter().flatten();
        endpoints.map(|own| (identity(own), own)).collect()
    }
    let (one, other) = (&old.metadata, &wanted.metadata);
    one.labels == other.labels
        && one.annotations == other.annotations
        && one.owner_references == other.owner_references
        && set(old) == set(wanted)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn endpoints(subsets: Value) -> Endpoints {
        serde_json::from_value(json!({
            "metadata": {
                "namespace": "d", "name": "db", "uid": "u", "labels": {"team": "a"},
                "annotations": {"note": "x", LAST_APPLIED: "{}"},
            },
            "subsets": subsets,
        }))
        .expect("endpoints")
    }

    fn stored(slices: &[EndpointSlice]) -> Vec<Arc<EndpointSlice>> {
        let named = slices.iter().enumerate().map(|(number, slice)| {
            let mut slice = slice.clone();
            slice.metadata.name = Some(format!("db-{number}"));
            Arc::new(slice)
        });
        named.collect()
    }

    #[test]
    fn a_slice_a_subset_and_family() {
        let own = endpoints(json!([{
            "addresses": [{"ip": "10.1.0.1", "hostname": "one"}, {"ip": "fd00::1"}],
            "notReadyAddresses": [{"ip": "10.1.0.2"}],
            "ports": [{"port": 5432, "name": "sql"}],
        }]));
        let (changes, notes) = plan(&own, &[]);
        assert_eq!((changes.create.len(), notes.len()), (2, 0));
        let slice = serde_json::to_value(&changes.create[0]).expect("json");
        assert_eq!(slice["addressType"], "IPv4");
        assert_eq!(
            slice["endpoints"],
            json!([
                {"addresses": ["10.1.0.1"], "conditions": {"ready": true}, "hostname": "one"},
                {"addresses": ["10.1.0.2"], "conditions": {"ready": false}},
            ])
        );
        assert_eq!(
            slice["metadata"],
            json!({
                "namespace": "d", "generateName": "db-", "annotations": {"note": "x"},
                "labels": {"team": "a", SERVICE_NAME: "db", MANAGED_BY: MANAGER},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Endpoints", "name": "db", "uid": "u",
                    "controller": true, "blockOwnerDeletion": true}],
            })
        );
        assert_eq!(changes.create[1].address_type, "IPv6");
        let (again, _) = plan(&own, &stored(&changes.create));
        assert_eq!(again, Changes::default());
    }

    #[test]
    fn changes_stay_in_their_slice_and_the_rest_goes() {
        let before = endpoints(json!([
            {"addresses": [{"ip": "10.1.0.1"}], "ports": [{"port": 1}]},
            {"addresses": [{"ip": "10.1.0.1"}, {"ip": "10.1.0.2"}], "ports": [{"port": 2}]},
        ]));
        let slices = stored(&plan(&before, &[]).0.create);
        assert_eq!(slices.len(), 2, "10.1.0.1 serves both ports, 10.1.0.2 one");
        let after = endpoints(json!([{"addresses": [{"ip": "10.1.0.3"}], "ports": [{"port": 2}]}]));
        let (changes, _) = plan(&after, &slices);
        let counts = (
            changes.create.len(),
            changes.update.len(),
            changes.delete.len(),
        );
        assert_eq!(counts, (0, 1, 1));
        assert_eq!(
            changes.update[0].endpoints.as_ref().expect("endpoints")[0].addresses,
            ["10.1.0.3"]
        );
    }

    #[test]
    fn what_cannot_be_mirrored_is_said() {
        let many: Vec<Value> = (0..1002)
            .map(|number| json!({"ip": format!("10.1.{}.{}", number / 256, number % 256)}))
            .chain([json!({"ip": "name"})])
            .collect();
        let (changes, notes) = plan(&endpoints(json!([{"addresses": many}])), &[]);
        let count = changes.create[0].endpoints.as_ref().map(Vec::len);
        assert_eq!(count, Some(1000));
        assert_eq!(notes[0].reason, "TooManyAddressesToMirror");
        assert!(
            notes[0].message.ends_with("3 addresses were skipped"),
            "{notes:?}"
        );
        let (_, notes) = plan(&endpoints(json!([{"addresses": [{"ip": "name"}]}])), &[]);
        assert_eq!((notes.len(), notes[0].reason), (1, "InvalidIPAddress"));
    }
}
