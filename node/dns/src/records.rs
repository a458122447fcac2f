//! What the cluster has that names are made of, as the watches said it last.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use k8s_openapi::api::{core, discovery};
use kube::runtime::watcher::Event;

use crate::{
    key::Key,
    mirror::{Change, Mirror},
};

mod service;
mod slice;

pub use service::{Kind, Port, Service};
pub use slice::{Endpoint, Slice, undashed};

#[derive(Debug, Default)]
pub struct Records {
    services: Mirror<Service>,
    slices: Mirror<Slice>,
    namespaces: Namespaces,
    /// Services with their slices. Flat, since most have one only.
    by_service: BTreeSet<(Key, Key)>,
    /// Addresses with the Services that have them.
    cluster_ips: BTreeSet<(IpAddr, Key)>,
    /// Addresses with the slices that have an endpoint there.
    endpoint_ips: BTreeSet<(IpAddr, Key)>,
    changes: u32,
}

/// Which names of namespaces exist.
#[derive(Debug, Default)]
enum Namespaces {
    #[default]
    Awaited,
    Known(HashSet<Box<str>>),
    /// The API server does not tell this node: every namespace may exist.
    Untold,
}

impl Records {
    pub fn service(&mut self, event: &Event<core::v1::Service>) {
        for Change { key, before } in self.services.apply(event, Service::read) {
            let after = self.services.get(borrowed(&key));
            if after == before.as_deref() {
                continue;
            }
            self.changes = self.changes.wrapping_add(1);
            for ip in before.iter().flat_map(|service| service.cluster_ips()) {
                self.cluster_ips.remove(&(*ip, key.clone()));
            }
            for ip in after.into_iter().flat_map(Service::cluster_ips) {
                self.cluster_ips.insert((*ip, key.clone()));
            }
        }
    }

    pub fn slice(&mut self, event: &Event<discovery::v1::EndpointSlice>) {
        for Change { key, before } in self.slices.apply(event, Slice::read) {
            let after = self.slices.get(borrowed(&key));
            if after == before.as_deref() {
                continue;
            }
            self.changes = self.changes.wrapping_add(1);
            if let Some(before) = before {
                for endpoint in &before.endpoints {
                    self.endpoint_ips.remove(&(endpoint.ip, key.clone()));
                }
                if let Some(service) = before.service {
                    self.by_service.remove(&(service, key.clone()));
                }
            }
            if let Some(after) = after {
                for endpoint in &after.endpoints {
                    self.endpoint_ips.insert((endpoint.ip, key.clone()));
                }
                if let Some(service) = &after.service {
                    self.by_service.insert((service.clone(), key));
                }
            }
        }
    }

    /// All namespaces there are; `None` where this node may not know them.
    pub fn namespaces(&mut self, names: Option<HashSet<Box<str>>>) {
        self.namespaces = names.map_or(Namespaces::Untold, Namespaces::Known);
    }

    /// One namespace came or went.
    pub fn namespace(&mut self, name: &str, exists: bool) {
        if let Namespaces::Known(names) = &mut self.namespaces {
            match exists {
                true => names.insert(name.into()),
                false => names.remove(name),
            };
        }
    }

    /// Whether everything was listed once: before that nothing may be concluded
    /// from what is absent.
    pub fn is_complete(&self) -> bool {
        self.services.is_listed()
            && self.slices.is_listed()
            && !matches!(self.namespaces, Namespaces::Awaited)
    }

    /// Grows with every change, and begins anew with the daemon.
    pub fn serial(&self) -> u32 {
        self.changes
    }

    pub fn has_namespace(&self, name: &str) -> bool {
        match &self.namespaces {
            Namespaces::Known(names) => names.contains(name),
            Namespaces::Awaited | Namespaces::Untold => true,
        }
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<(&Key, &Service)> {
        self.services.get_key_value(&format!("{namespace}/{name}"))
    }

    pub fn slices(&self, service: &Key) -> impl Iterator<Item = &Slice> {
        let from = (service.clone(), Key::first());
        let slices = self.by_service.range(from..);
        slices
            .take_while(move |(owner, _)| owner == service)
            .filter_map(|(_, slice)| self.slices.get(borrowed(slice)))
    }

    /// The Service that has this address.
    pub fn with_cluster_ip(&self, ip: IpAddr) -> Option<&Key> {
        let mut found = self.cluster_ips.range((ip, Key::first())..);
        found.next().filter(|(at, _)| *at == ip).map(|(_, key)| key)
    }

    /// The endpoints with this address, each with its Service.
    pub fn with_endpoint_ip(&self, ip: IpAddr) -> impl Iterator<Item = (&Key, &Endpoint)> {
        let found = self.endpoint_ips.range((ip, Key::first())..);
        found
            .take_while(move |(at, _)| *at == ip)
            .filter_map(|(_, slice)| self.slices.get(borrowed(slice)))
            .flat_map(move |slice| {
                let here = slice.endpoints.iter().filter(move |one| one.ip == ip);
                slice
                    .service
                    .iter()
                    .flat_map(move |service| here.clone().map(move |endpoint| (service, endpoint)))
            })
    }
}

fn borrowed(key: &Key) -> &str {
    std::borrow::Borrow::borrow(key)
}
