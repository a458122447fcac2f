//! EndpointSlices for Endpoints that people write by hand, for services without a selector.

mod plan;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, Client};

use self::plan::plan;
use crate::endpoint_slice::{plan::Changes, slice_changed, slices_of, write::write};
use crate::endpoints::LEADER;
use crate::error::Result;
use crate::events::Recorder;
use crate::informer::{Change, Informer};
use crate::informers::Informers;
use crate::key::{ObjectKey, is_deleted};
use crate::pending::Pending;
use crate::queue::Queue;
use crate::worker::{Next, Reconcile};

pub const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";

pub struct EndpointSliceMirroring {
    client: Client,
    events: Recorder,
    services: Arc<Informer<Service>>,
    endpoints: Arc<Informer<Endpoints>>,
    slices: Arc<Informer<EndpointSlice>>,
    pending: Arc<Pending>,
}

impl EndpointSliceMirroring {
    pub fn new(
        client: Client,
        events: &Recorder,
        informers: &Informers,
        queue: &Arc<Queue<ObjectKey>>,
    ) -> EndpointSliceMirroring {
        let pending = Arc::new(Pending::default());
        let keys = queue.clone();
        informers
            .endpoints
            .listen(move |change: &Change<Endpoints>| {
                if let Some(endpoints) = change.latest() {
                    keys.add(ObjectKey::of(endpoints.as_ref()));
                }
            });
        let keys = queue.clone();
        informers.services.listen(move |change: &Change<Service>| {
            if let Some(service) = change.latest() {
                keys.add(ObjectKey::of(service.as_ref()));
            }
        });
        let (keys, seen) = (queue.clone(), pending.clone());
        informers
            .endpoint_slices
            .listen(move |change: &Change<EndpointSlice>| {
                slice_changed(change, MANAGER, &seen, &keys);
            });
        EndpointSliceMirroring {
            client,
            events: events.of("endpoint-slice-mirroring-controller"),
            services: informers.services.clone(),
            endpoints: informers.endpoints.clone(),
            slices: informers.endpoint_slices.clone(),
            pending,
        }
    }
}

/// Endpoints that want slices: neither marked nor a lock.
fn is_mirrored(endpoints: &Endpoints) -> bool {
    let meta = &endpoints.metadata;
    let labels = meta.labels.as_ref();
    let skipped = labels
        .and_then(|labels| labels.get(SKIP))
        .is_some_and(|skip| skip == "true");
    let annotations = meta.annotations.as_ref();
    let lock = annotations.is_some_and(|annotations| annotations.contains_key(LEADER));
    !skipped && !lock && !is_deleted(endpoints)
}

fn has_selector(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.and_then(|spec| spec.selector.as_ref())
        .is_some_and(|selector| !selector.is_empty())
}

impl Reconcile for EndpointSliceMirroring {
    type Key = ObjectKey;

    const NAME: &'static str = "endpointslicemirroring";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        if !self
            .pending
            .is_visible(key, |mark| self.slices.has_passed(mark))
        {
            return Ok(Next::After(Duration::from_secs(1)));
        }
        let existing = slices_of(&self.slices, key, MANAGER, &self.pending);
        let service = self.services.get(key).filter(|own| !has_selector(own));
        let endpoints = self.endpoints.get(key).filter(|own| is_mirrored(own));
        let changes = match (&endpoints, service) {
            (Some(endpoints), Some(_)) => {
                let (changes, notes) = plan(endpoints, &existing);
                for note in notes {
                    self.events.record(endpoints.as_ref(), note);
                }
                changes
            }
            _ => Changes {
                delete: existing,
                ..Changes::default()
            },
        };
        let api = Api::namespaced(self.client.clone(), &key.namespace);
        write(&api, &self.slices, &self.pending, key, changes).await?;
        Ok(Next::OnChange)
    }
}
