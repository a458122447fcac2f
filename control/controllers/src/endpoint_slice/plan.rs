//! Which slices to write so that they say what is desired, with as few writes as that takes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::desired::{Group, PortSet, labels};
use crate::key::{controller_of, is_deleted, name_of, uid_of};
use crate::ownership::controller_reference;
use crate::service::Family;

/// Endpoints in one slice.
pub const MAX_ENDPOINTS: usize = 100;

#[derive(Debug, Default, PartialEq)]
pub struct Changes {
    pub create: Vec<EndpointSlice>,
    pub update: Vec<EndpointSlice>,
    pub delete: Vec<Arc<EndpointSlice>>,
}

/// `existing` are the service's slices of any family; `desired` has an entry a family it supports.
pub fn plan(
    service: &Service,
    existing: &[Arc<EndpointSlice>],
    desired: BTreeMap<Family, BTreeMap<PortSet, Group>>,
) -> Changes {
    let mut changes = Changes::default();
    let supported = |slice: &EndpointSlice| {
        desired
            .keys()
            .any(|family| family.as_str() == slice.address_type)
    };
    changes.delete.extend(
        existing
            .iter()
            .filter(|slice| !supported(slice))
            .map(Arc::clone),
    );
    for (family, groups) in desired {
        let own: Vec<Arc<EndpointSlice>> = existing
            .iter()
            .filter(|slice| slice.address_type == family.as_str())
            .cloned()
            .collect();
        let of_family = plan_family(service, &own, family, groups);
        changes.create.extend(of_family.create);
        changes.update.extend(of_family.update);
        changes.delete.extend(of_family.delete);
    }
    if is_deleted(service) {
        changes.create.clear();
    }
    changes
}

fn plan_family(
    service: &Service,
    existing: &[Arc<EndpointSlice>],
    family: Family,
    desired: BTreeMap<PortSet, Group>,
) -> Changes {
    let mut changes = Changes::default();
    let mut by_ports: HashMap<PortSet, Vec<Arc<EndpointSlice>>> = HashMap::new();
    for slice in existing {
        match controller_of(slice.as_ref()).is_some_and(|owner| owner.uid == uid_of(service)) {
            true => by_ports
                .entry(PortSet::of(slice.ports.as_deref().unwrap_or_default()))
                .or_default()
                .push(slice.clone()),
            // Of an earlier service with the same name.
            false => changes.delete.push(slice.clone()),
        }
    }
    for (ports, group) in desired {
        let slices = by_ports.remove(&ports).unwrap_or_default();
        fill(&mut changes, service, family, slices, group);
    }
    changes.delete.extend(by_ports.into_values().flatten());

    // A service without endpoints keeps one empty slice: it says that there are none.
    if existing.len() == changes.delete.len() && changes.create.is_empty() {
        let placeholder = new_slice(service, family, Group::default());
        match changes.delete.as_slice() {
            [only] if is_placeholder(only, &placeholder, service) => changes.delete.clear(),
            _ => changes.create.push(placeholder),
        }
    }
    reuse(&mut changes, service);
    changes
}

/// One group of ports: keeps endpoints where they are, fills slices that are written anyway, then
/// one slice with room for the rest, then new ones.
fn fill(
    changes: &mut Changes,
    service: &Service,
    family: Family,
    slices: Vec<Arc<EndpointSlice>>,
    group: Group,
) {
    let labels = labels(service);
    let mut missing: BTreeMap<Identity, Endpoint> = group
        .endpoints
        .into_iter()
        .map(|endpoint| (identity(&endpoint), endpoint))
        .collect();
    let (mut written, mut unchanged) = (Vec::new(), Vec::new());
    for slice in slices {
        let old = slice.endpoints.as_deref().unwrap_or_default();
        let (mut kept, mut changed) = (Vec::with_capacity(old.len()), false);
        for endpoint in old {
            if let Some(wanted) = missing.remove(&identity(endpoint)) {
                changed |= wanted != *endpoint;
                kept.push(wanted);
            }
        }
        changed |= kept.len() != old.len();
        if changed && kept.is_empty() {
            changes.delete.push(slice);
        } else if changed || slice.metadata.labels.as_ref() != Some(&labels) {
            let mut updated = slice.as_ref().clone();
            updated.endpoints = Some(kept);
            updated.metadata.labels = Some(labels.clone());
            written.push(updated);
        } else {
            unchanged.push(slice);
        }
    }
    let mut missing = missing.into_values().peekable();
    written.sort_by_key(|slice| std::cmp::Reverse(count(slice)));
    for slice in &mut written {
        let endpoints = slice.endpoints.get_or_insert_default();
        let room = MAX_ENDPOINTS.saturating_sub(endpoints.len());
        endpoints.extend(missing.by_ref().take(room));
    }
    while missing.peek().is_some() {
        let left = missing.len();
        match fullest_with_room(&unchanged, left) {
            Some(at) => {
                let mut slice = unchanged.swap_remove(at).as_ref().clone();
                slice
                    .endpoints
                    .get_or_insert_default()
                    .extend(missing.by_ref());
                written.push(slice);
            }
            None => {
                let endpoints = missing.by_ref().take(MAX_ENDPOINTS).collect();
                let ports = group.ports.clone();
                changes
                    .create
                    .push(new_slice(service, family, Group { ports, endpoints }));
            }
        }
    }
    changes.update.extend(written);
}

fn count(slice: &EndpointSlice) -> usize {
    slice.endpoints.as_ref().map_or(0, Vec::len)
}

fn fullest_with_room(slices: &[Arc<EndpointSlice>], needed: usize) -> Option<usize> {
    let fits = slices
        .iter()
        .enumerate()
        .filter(|(_, slice)| needed < MAX_ENDPOINTS && count(slice) + needed <= MAX_ENDPOINTS);
    fits.max_by_key(|(_, slice)| count(slice)).map(|(at, _)| at)
}

/// What makes two endpoints the same one, whatever else is said of them: namespace and name of the
/// pod, addresses, hostname.
pub type Identity = (Option<String>, Option<String>, Vec<String>, Option<String>);

pub fn identity(endpoint: &Endpoint) -> Identity {
    let reference = endpoint.target_ref.as_ref();
    let mut addresses = endpoint.addresses.clone();
    addresses.sort();
    (
        reference.and_then(|reference| reference.namespace.clone()),
        reference.and_then(|reference| reference.name.clone()),
        addresses,
        endpoint.hostname.clone(),
    )
}

fn new_slice(service: &Service, family: Family, group: Group) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", name_of(service))),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels(service)),
            owner_references: Some(vec![controller_reference(service)]),
            ..ObjectMeta::default()
        },
        address_type: family.as_str().into(),
        ports: Some(group.ports),
        endpoints: Some(group.endpoints),
    }
}

fn is_placeholder(slice: &EndpointSlice, placeholder: &EndpointSlice, service: &Service) -> bool {
    count(slice) == 0
        && slice.ports.as_ref().is_none_or(Vec::is_empty)
        && slice.metadata.labels == placeholder.metadata.labels
        && controller_of(slice).is_some_and(|owner| owner.uid == uid_of(service))
}

/// A slice to be made takes the place of one to be removed: one write instead of two.
fn reuse(changes: &mut Changes, service: &Service) {
    let is_own = |slice: &Arc<EndpointSlice>| {
        controller_of(slice.as_ref()).is_some_and(|owner| owner.uid == uid_of(service))
    };
    while !changes.create.is_empty() {
        let Some(at) = changes.delete.iter().position(is_own) else {
            return;
        };
        let (old, new) = (changes.delete.remove(at), changes.create.remove(0));
        let mut updated = old.as_ref().clone();
        updated.metadata.labels = new.metadata.labels;
        updated.ports = new.ports;
        updated.endpoints = new.endpoints;
        changes.update.push(updated);
    }
}

#[cfg(test)]
mod tests;
