//! All Services, for the variables that containers get: of each as little as
//! makes those.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use tokio::sync::watch;

/// One with a cluster IP and a port; others make no variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub cluster_ip: Box<str>,
    pub ports: Box<[Port]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub name: Option<Box<str>>,
    pub number: i32,
    /// As Kubernetes writes it.
    pub protocol: Box<str>,
}

/// By namespace and name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ByNamespace(HashMap<Box<str>, BTreeMap<Box<str>, Service>>);

/// Cheap to clone.
#[derive(Clone)]
pub struct Services {
    known: Arc<RwLock<ByNamespace>>,
    /// Whether all were listed once.
    listed: watch::Receiver<bool>,
}

impl Services {
    /// The second part follows the API server until it is dropped.
    pub fn new(client: Client) -> (Services, impl Future<Output = ()> + Send) {
        let known = Arc::new(RwLock::default());
        let (all, listed) = watch::channel(false);
        let mut follower = Follower {
            known: Arc::clone(&known),
            listing: ByNamespace::default(),
            listed: all,
        };
        let api: Api<v1::Service> = Api::all(client);
        let follow = async move {
            let mut events =
                std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
            while let Some(event) = events.next().await {
                // A watch that broke begins anew by itself.
                if let Ok(event) = event {
                    follower.apply(event);
                }
            }
        };
        (Services { known, listed }, follow)
    }

    /// What `look` makes of them, once they have been read, as a container made
    /// before would lack variables; `None` when they are not read in time.
    pub async fn read<T>(
        &self,
        limit: Duration,
        look: impl FnOnce(&ByNamespace) -> T,
    ) -> Option<T> {
        let mut listed = self.listed.clone();
        let ready = tokio::time::timeout(limit, listed.wait_for(|listed| *listed)).await;
        matches!(ready, Ok(Ok(_)))
            .then(|| look(&self.known.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

struct Follower {
    known: Arc<RwLock<ByNamespace>>,
    /// A LIST that is not complete yet.
    listing: ByNamespace,
    listed: watch::Sender<bool>,
}

impl Follower {
    fn apply(&mut self, event: Event<v1::Service>) {
        match event {
            Event::Init => self.listing = ByNamespace::default(),
            Event::InitApply(service) => self.listing.set(&service),
            Event::InitDone => {
                *self.known() = std::mem::take(&mut self.listing);
                self.listed.send_replace(true);
            }
            Event::Apply(service) => self.known().set(&service),
            Event::Delete(service) => self.known().remove(&service),
        }
    }

    fn known(&self) -> std::sync::RwLockWriteGuard<'_, ByNamespace> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ByNamespace {
    /// By name.
    pub fn of(&self, namespace: &str) -> impl Iterator<Item = (&str, &Service)> {
        let services = self.0.get(namespace).into_iter().flatten();
        services.map(|(name, service)| (&**name, service))
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<&Service> {
        self.0.get(namespace)?.get(name)
    }

    fn set(&mut self, object: &v1::Service) {
        let Some(service) = Service::read(object) else {
            return self.remove(object);
        };
        let (namespace, name) = key(object);
        let services = match self.0.get_mut(namespace) {
            Some(services) => services,
            None => self.0.entry(namespace.into()).or_default(),
        };
        services.insert(name.into(), service);
    }

    fn remove(&mut self, object: &v1::Service) {
        let (namespace, name) = key(object);
        if let Some(services) = self.0.get_mut(namespace) {
            services.remove(name);
            if services.is_empty() {
                self.0.remove(namespace);
            }
        }
    }
}

impl Service {
    fn read(object: &v1::Service) -> Option<Self> {
        let spec = object.spec.as_ref()?;
        let cluster_ip = spec.cluster_ip.as_deref()?;
        let ports: Box<[Port]> = spec.ports.iter().flatten().map(Port::read).collect();
        let has_address = !cluster_ip.is_empty() && cluster_ip != "None";
        (has_address && !ports.is_empty()).then(|| Self {
            cluster_ip: cluster_ip.into(),
            ports,
        })
    }
}

impl Port {
    fn read(port: &v1::ServicePort) -> Self {
        let name = port.name.as_deref().filter(|name| !name.is_empty());
        Self {
            name: name.map(Into::into),
            number: port.port,
            protocol: port.protocol.as_deref().unwrap_or("TCP").into(),
        }
    }
}

fn key(object: &v1::Service) -> (&str, &str) {
    let meta = &object.metadata;
    (
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default(),
    )
}

#[cfg(test)]
impl<'a> FromIterator<&'a v1::Service> for ByNamespace {
    fn from_iter<I: IntoIterator<Item = &'a v1::Service>>(objects: I) -> Self {
        let mut services = Self::default();
        for object in objects {
            services.set(object);
        }
        services
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(name: &str, ip: &str) -> v1::Service {
        let object = json!({
            "metadata": {"namespace": "a", "name": name},
            "spec": {"clusterIP": ip, "ports": [{"port": 80}]},
        });
        serde_json::from_value(object).unwrap()
    }

    #[tokio::test]
    async fn they_are_known_after_a_whole_list_and_follow_what_comes() {
        let (listed, receiver) = watch::channel(false);
        let known = Arc::new(RwLock::default());
        let services = Services {
            known: Arc::clone(&known),
            listed: receiver,
        };
        let mut follower = Follower {
            known,
            listing: ByNamespace::default(),
            listed,
        };
        let names = async |services: &Services| -> Option<Vec<String>> {
            let look = |all: &ByNamespace| all.of("a").map(|(name, _)| name.to_owned()).collect();
            services.read(Duration::ZERO, look).await
        };
        let some = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect());

        follower.apply(Event::Init);
        follower.apply(Event::InitApply(object("x", "10.96.0.1")));
        assert_eq!(names(&services).await, None);
        follower.apply(Event::InitApply(object("y", "10.96.0.2")));
        follower.apply(Event::InitDone);
        assert_eq!(names(&services).await, some(&["x", "y"]));
        follower.apply(Event::Apply(object("z", "10.96.0.3")));
        follower.apply(Event::Apply(object("x", "None")));
        follower.apply(Event::Delete(object("y", "10.96.0.2")));
        assert_eq!(names(&services).await, some(&["z"]));
        // Another list: what it does not name is gone when it is whole.
        follower.apply(Event::Init);
        follower.apply(Event::InitApply(object("x", "10.96.0.1")));
        assert_eq!(names(&services).await, some(&["z"]));
        follower.apply(Event::InitDone);
        assert_eq!(names(&services).await, some(&["x"]));
        follower.apply(Event::Delete(object("x", "10.96.0.1")));
        assert_eq!(*services.known.read().unwrap(), ByNamespace::default());
    }
}
