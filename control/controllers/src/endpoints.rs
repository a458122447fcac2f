//! Endpoints of services with a selector, for clients that do not read EndpointSlices.

pub mod subsets;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client};

use self::subsets::{subsets, truncate};
use crate::endpoint_slice::desired::annotated;
use crate::error::{Attempt as _, Result, found};
use crate::events::{Note, Recorder};
use crate::informer::{Change, Informer};
use crate::informers::Informers;
use crate::key::{ObjectKey, is_deleted, revision_of};
use crate::pending::Pending;
use crate::queue::Queue;
use crate::service::trigger::Triggers;
use crate::service::{self, HEADLESS_LABEL, selects, touched};
use crate::worker::{Next, Reconcile};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Endpoints that are a lock, of clients older than leases.
pub const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

pub struct EndpointsController {
    client: Client,
    events: Recorder,
    services: Arc<Informer<Service>>,
    pods: Arc<Informer<Pod>>,
    endpoints: Arc<Informer<Endpoints>>,
    pending: Arc<Pending>,
    triggers: Triggers,
}

impl EndpointsController {
    pub fn new(
        client: Client,
        events: &Recorder,
        informers: &Informers,
        queue: &Arc<Queue<ObjectKey>>,
    ) -> EndpointsController {
        let pending = Arc::new(Pending::default());
        let keys = queue.clone();
        informers.services.listen(move |change: &Change<Service>| {
            if let Some(service) = change.latest() {
                keys.add(ObjectKey::of(service.as_ref()));
            }
        });
        let (keys, services) = (queue.clone(), informers.services.clone());
        informers.pods.listen(move |change: &Change<Pod>| {
            touched(change, &services)
                .into_iter()
                .for_each(|key| keys.add(key));
        });
        let (keys, seen) = (queue.clone(), pending.clone());
        informers
            .endpoints
            .listen(move |change: &Change<Endpoints>| {
                let Some(key) = change.latest().map(|own| ObjectKey::of(own.as_ref())) else {
                    return;
                };
                // New ones are left alone: people write Endpoints before their service, too.
                let wakes = match (&change.old, &change.new) {
                    (_, None) => true,
                    (_, Some(new)) => {
                        is_managed(new) && seen.is_news(&key, revision_of(new.as_ref()))
                    }
                };
                if wakes {
                    keys.add(key);
                }
            });
        EndpointsController {
            client,
            events: events.of("endpoint-controller"),
            services: informers.services.clone(),
            pods: informers.pods.clone(),
            endpoints: informers.endpoints.clone(),
            pending,
            triggers: Triggers::default(),
        }
    }

    /// Endpoints made here whose service went away while nobody looked.
    pub fn leftovers(&self) -> Vec<ObjectKey> {
        self.endpoints
            .all()
            .iter()
            .filter(|own| is_managed(own))
            .map(|own| ObjectKey::of(own.as_ref()))
            .filter(|key| self.services.get(key).is_none())
            .collect()
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        let Some(endpoints) = self.endpoints.get(key) else {
            return Ok(());
        };
        let preconditions = Preconditions {
            uid: endpoints.metadata.uid.clone(),
            resource_version: None,
        };
        let api: Api<Endpoints> = Api::namespaced(self.client.clone(), &key.namespace);
        let parameters = DeleteParams::default().preconditions(preconditions);
        found(api.delete(&key.name, &parameters).await)
            .during(|| format!("delete Endpoints {key}"))?;
        Ok(())
    }

    async fn write(&self, key: &ObjectKey, service: &Service, wanted: Endpoints) -> Result<()> {
        let api: Api<Endpoints> = Api::namespaced(self.client.clone(), &key.namespace);
        let parameters = PostParams::default();
        let is_new = wanted.metadata.resource_version.is_none();
        let written = match is_new {
            true => api.create(&parameters, &wanted).await,
            false => api.replace(&key.name, &parameters, &wanted).await,
        };
        let (reason, attempt) = match is_new {
            true => ("FailedToCreateEndpoint", "create endpoint for service"),
            false => ("FailedToUpdateEndpoint", "update endpoint"),
        };
        match written.during(|| format!("{attempt} {key}")) {
            Ok(written) => self.pending.written(key, self.endpoints.mark(&written)),
            Err(error) if error.is_namespace_terminating() => {}
            Err(error) => {
                if !error.is_conflict() && !is_deleted(service) {
                    let message = format!("Failed to {attempt} {key}: {}", error.words());
                    self.events.record(&wanted, Note::warning(reason, message));
                }
                return Err(error);
            }
        }
        Ok(())
    }
}

fn is_managed(endpoints: &Endpoints) -> bool {
    let labels = endpoints.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(MANAGED_BY))
        .is_some_and(|manager| manager == MANAGER)
}

/// What to write; None: `current` says it already.
fn plan(
    service: &Service,
    current: Option<&Endpoints>,
    pods: &[Arc<Pod>],
    since: Option<Timestamp>,
) -> Option<Endpoints> {
    let mut subsets = subsets(service, pods);
    let truncated = truncate(&mut subsets);
    let labels = labels(service);
    let annotation = |own: &Endpoints| {
        let annotations = own.metadata.annotations.as_ref();
        annotations.is_some_and(|annotations| annotations.contains_key(OVER_CAPACITY))
    };
    if let Some(current) = current
        && current.subsets.as_deref().unwrap_or_default() == subsets
        && current.metadata.labels.as_ref() == Some(&labels)
        && annotation(current) == truncated
    {
        return None;
    }
    let mut wanted = current.cloned().unwrap_or_else(|| Endpoints {
        metadata: ObjectMeta {
            namespace: service.metadata.namespace.clone(),
            name: service.metadata.name.clone(),
            ..ObjectMeta::default()
        },
        subsets: None,
    });
    let meta = &mut wanted.metadata;
    meta.labels = Some(labels);
    let mut annotations = annotated(meta.annotations.take(), since).unwrap_or_default();
    match truncated {
        true => annotations.insert(OVER_CAPACITY.into(), "truncated".into()),
        false => annotations.remove(OVER_CAPACITY),
    };
    meta.annotations = (!annotations.is_empty()).then_some(annotations);
    wanted.subsets = (!subsets.is_empty()).then_some(subsets);
    Some(wanted)
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    match service::has_cluster_ip(service) {
        true => labels.remove(HEADLESS_LABEL),
        false => labels.insert(HEADLESS_LABEL.into(), String::new()),
    };
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    labels
}

impl Reconcile for EndpointsController {
    type Key = ObjectKey;

    const NAME: &'static str = "endpoints";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let Some(service) = self.services.get(key) else {
            self.pending.forget(key);
            self.triggers.forget(key);
            return self.delete(key).await.map(|()| Next::OnChange);
        };
        if service::selector(&service).is_none() {
            return Ok(Next::OnChange);
        }
        if !self
            .pending
            .is_visible(key, |mark| self.endpoints.has_passed(mark))
        {
            return Ok(Next::After(Duration::from_secs(1)));
        }
        let pods = self.pods.select(&key.namespace, |pod| {
            selects(&service, pod.metadata.labels.as_ref())
        });
        let since = self.triggers.since(&service, &pods);
        let current = self.endpoints.get(key);
        if let Some(wanted) = plan(&service, current.as_deref(), &pods, since) {
            self.write(key, &service, wanted).await?;
        }
        Ok(Next::OnChange)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fixture() -> (Service, Vec<Arc<Pod>>) {
        let service = serde_json::from_value(json!({
            "metadata": {"namespace": "d", "name": "web", "labels": {"team": "a"}},
            "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]},
        }));
        let pod = serde_json::from_value(json!({
            "metadata": {"namespace": "d", "name": "p"}, "spec": {"containers": []},
            "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
        }));
        (
            service.expect("a service"),
            vec![Arc::new(pod.expect("a pod"))],
        )
    }

    #[test]
    fn written_once_then_only_when_something_differs() {
        let (mut service, pods) = fixture();
        let since = Some(Timestamp::UNIX_EPOCH);
        let made = plan(&service, None, &pods, since).expect("new");
        let meta = serde_json::to_value(&made.metadata).expect("json");
        assert_eq!(
            meta,
            json!({
                "namespace": "d", "name": "web",
                "labels": {"team": "a", "endpoints.kubernetes.io/managed-by": "endpoint-controller"},
                "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "1970-01-01T00:00:00Z"},
            })
        );
        assert_eq!(plan(&service, Some(&made), &pods, None), None);
        let empty = plan(&service, Some(&made), &[], None).expect("a change");
        assert_eq!((empty.subsets, empty.metadata.annotations), (None, None));
        service.spec.as_mut().expect("a spec").cluster_ip = Some("None".into());
        let headless = plan(&service, Some(&made), &pods, None).expect("a change");
        let labels = headless.metadata.labels.expect("labels");
        assert!(labels.contains_key(HEADLESS_LABEL), "{labels:?}");
    }

    #[test]
    fn too_many_addresses_are_cut_and_said_so() {
        let (service, pods) = fixture();
        let many: Vec<Arc<Pod>> = (0..1001)
            .map(|number| {
                let mut pod = pods[0].as_ref().clone();
                pod.metadata.name = Some(format!("p{number}"));
                let ip = format!("10.0.{}.{}", number / 256, number % 256);
                pod.status.as_mut().expect("a status").pod_ip = Some(ip);
                Arc::new(pod)
            })
            .collect();
        let made = plan(&service, None, &many, None).expect("new");
        let annotations = made.metadata.annotations.clone().expect("annotations");
        assert_eq!(
            annotations.get(OVER_CAPACITY).map(String::as_str),
            Some("truncated")
        );
        let subset = &made.subsets.as_ref().expect("subsets")[0];
        assert_eq!(subset.addresses.as_ref().map(Vec::len), Some(1000));
        assert_eq!(plan(&service, Some(&made), &many, None), None);
    }
}
