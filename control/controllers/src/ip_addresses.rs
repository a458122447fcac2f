//! Keeps Services' addresses and their IPAddresses together. The API server writes both at once; what people take away
//! or add by hand is mended here.

use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::IPAddress;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client};
use serde_json::json;

use crate::error::{Attempt as _, Error, Result, found, is_already_exists};
use crate::events::{Note, Recorder};
use crate::informer::{Change, Informer};
use crate::informers::Informers;
use crate::key::{ObjectKey, name_of};
use crate::queue::Queue;
use crate::worker::{Next, Reconcile};

/// What selects the API server's own; others' are theirs to keep.
pub const MANAGED: &str = "ipaddress.kubernetes.io/managed-by=ipallocator.k8s.io";
const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";

/// A Service and one of its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Held {
    service: ObjectKey,
    address: String,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.address, self.service)
    }
}

pub struct IpAddresses {
    client: Client,
    events: Recorder,
    services: Arc<Informer<Service>>,
    addresses: Arc<Informer<IPAddress>>,
}

impl IpAddresses {
    pub fn new(
        client: Client,
        events: &Recorder,
        informers: &Informers,
        queue: &Arc<Queue<Held>>,
    ) -> IpAddresses {
        let keys = queue.clone();
        informers.services.listen(move |change: &Change<Service>| {
            let before = change.old.as_ref().map(|old| addresses(old));
            if let Some(service) = &change.new
                && before.as_ref() != Some(&addresses(service))
            {
                for address in addresses(service) {
                    let service = ObjectKey::of(service.as_ref());
                    keys.add(Held { service, address });
                }
            }
        });
        let keys = queue.clone();
        informers
            .ip_addresses
            .listen(move |change: &Change<IPAddress>| {
                for own in change.each() {
                    if let Some(service) = parent(own) {
                        let address = name_of(own.as_ref()).to_owned();
                        keys.add(Held { service, address });
                    }
                }
            });
        IpAddresses {
            client,
            events: events.of("ipallocator-repair-controller"),
            services: informers.services.clone(),
            addresses: informers.ip_addresses.clone(),
        }
    }
}

fn addresses(service: &Service) -> Vec<String> {
    let spec = service.spec.as_ref();
    let all = spec.and_then(|spec| spec.cluster_ips.clone());
    let mut all = all.unwrap_or_default();
    // "None" is no address.
    all.retain(|own| own.parse::<std::net::IpAddr>().is_ok());
    all
}

/// The Service an IPAddress of the API server's says it is of.
fn parent(address: &IPAddress) -> Option<ObjectKey> {
    let (key, value) = MANAGED.split_once('=')?;
    let labels = address.metadata.labels.as_ref()?;
    labels.get(key).filter(|own| *own == value)?;
    let parent = &address.spec.parent_ref;
    let core = parent.group.as_deref().unwrap_or_default().is_empty();
    let namespace = parent.namespace.as_deref().unwrap_or_default();
    (core && parent.resource == "services").then(|| ObjectKey::new(namespace, &parent.name))
}

#[derive(Debug, PartialEq, Eq)]
enum Action {
    Nothing,
    Create,
    Delete,
    /// Somebody else's IPAddress has the Service's address.
    Warn,
}

fn decide(held: &Held, service: Option<&Service>, address: Option<&IPAddress>) -> Action {
    let holds = service.is_some_and(|own| addresses(own).contains(&held.address));
    let own = address.map(|own| parent(own).as_ref() == Some(&held.service));
    match (holds, own) {
        (true, None) => Action::Create,
        (true, Some(false)) => Action::Warn,
        (false, Some(true)) => Action::Delete,
        _ => Action::Nothing,
    }
}

fn ip_address(held: &Held) -> Result<IPAddress> {
    let six = held.address.contains(':');
    let (managed, by) = MANAGED.split_once('=').unwrap_or_default();
    let object = json!({
        "metadata": {
            "name": held.address,
            "labels": {managed: by, FAMILY: if six { "IPv6" } else { "IPv4" }},
        },
        "spec": {"parentRef": {
            "resource": "services", "namespace": held.service.namespace, "name": held.service.name,
        }},
    });
    serde_json::from_value(object).map_err(|error| Error::Incomplete(error.to_string()))
}

impl Reconcile for IpAddresses {
    type Key = Held;

    const NAME: &'static str = "ipallocator-repair-controller";

    async fn reconcile(&self, held: &Held) -> Result<Next> {
        let key = ObjectKey::new("", &held.address);
        let (service, address) = (self.services.get(&held.service), self.addresses.get(&key));
        if decide(held, service.as_deref(), address.as_deref()) == Action::Nothing {
            return Ok(Next::OnChange);
        }
        // Two watches show one write one after the other: what counts is what both are now.
        let services: Api<Service> = Api::namespaced(self.client.clone(), &held.service.namespace);
        let api: Api<IPAddress> = Api::all(self.client.clone());
        let service = services.get_opt(&held.service.name).await;
        let service = service.during(|| format!("read service {}", held.service))?;
        let address = api.get_opt(&held.address).await;
        let address = address.during(|| format!("read IPAddress {key}"))?;
        match (
            decide(held, service.as_ref(), address.as_ref()),
            service,
            address,
        ) {
            (Action::Create, ..) => {
                let made = api.create(&PostParams::default(), &ip_address(held)?).await;
                match made {
                    Err(error) if is_already_exists(&error) => {}
                    made => drop(made.during(|| format!("create IPAddress {key}"))?),
                }
            }
            (Action::Delete, _, Some(address)) => {
                let unchanged = Preconditions {
                    uid: address.metadata.uid,
                    resource_version: address.metadata.resource_version,
                };
                let parameters = DeleteParams::default().preconditions(unchanged);
                let deleted = found(api.delete(&held.address, &parameters).await);
                deleted.during(|| format!("delete IPAddress {key}"))?;
            }
            (Action::Warn, Some(service), _) => {
                let message = format!(
                    "Cluster IP {} is assigned to something else than this service; the IPAddress of that name says to what",
                    held.address
                );
                let note = Note::warning("ClusterIPAlreadyAllocated", message);
                self.events.record(&service, note);
            }
            _ => {}
        }
        Ok(Next::OnChange)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(address: &str) -> Held {
        Held {
            service: ObjectKey::new("default", "web"),
            address: address.to_owned(),
        }
    }

    fn service(ips: &[&str]) -> Service {
        let object = json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {"clusterIPs": ips}});
        serde_json::from_value(object).expect("a service")
    }

    #[test]
    fn an_address_and_its_object_go_together() {
        let web = ip_address(&held("10.96.0.9")).expect("an address");
        let mut other = held("10.96.0.9");
        other.service.name = "db".into();
        let db = ip_address(&other).expect("an address");
        let mut mine = web.clone();
        mine.metadata.labels = None;
        let (has, has_not) = (service(&["10.96.0.9"]), service(&["10.96.0.8"]));
        let headless = service(&["None"]);
        for (service, address, wanted) in [
            (Some(&has), Some(&web), Action::Nothing),
            (Some(&has), None, Action::Create),
            (Some(&has), Some(&db), Action::Warn),
            (Some(&has), Some(&mine), Action::Warn),
            (Some(&has_not), Some(&web), Action::Delete),
            (Some(&headless), Some(&web), Action::Delete),
            (None, Some(&web), Action::Delete),
            (None, Some(&db), Action::Nothing),
            (None, Some(&mine), Action::Nothing),
            (None, None, Action::Nothing),
        ] {
            assert_eq!(decide(&held("10.96.0.9"), service, address), wanted);
        }
    }
}
