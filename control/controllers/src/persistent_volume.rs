//! The volume binder: claims get volumes and volumes claims, by the rules of kube-controller-manager's
//! persistentvolume-binder-controller; what is released is reclaimed, and directories of nodes are made for claims.

mod claim;
mod provision;
mod volume;
mod write;

use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::{Api, Client};
use vetch_volumes::{claim as claims, volume as volumes};

use self::claim::ClaimStep;
use self::volume::VolumeStep;
use crate::error::{Attempt as _, Result, found};
use crate::events::{Note, Recorder};
use crate::informer::{Change, Informer};
use crate::informers::Informers;
use crate::key::{ObjectKey, is_deleted, uid_of};
use crate::pod;
use crate::queue::Queue;
use crate::volume_key::VolumeKey as Key;
use crate::worker::{Next, Reconcile};

const NAME: &str = "persistentvolume-controller";

pub struct VolumeBinder {
    client: Client,
    events: Recorder,
    /// Where nodes have the directories that are made for claims.
    directory: PathBuf,
    claims: Arc<Informer<PersistentVolumeClaim>>,
    classes: Arc<Informer<StorageClass>>,
    nodes: Arc<Informer<Node>>,
    pods: Arc<Informer<Pod>>,
    volumes: Arc<Informer<PersistentVolume>>,
}

impl VolumeBinder {
    pub fn new(
        client: Client,
        directory: PathBuf,
        events: &Recorder,
        informers: &Informers,
        queue: &Arc<Queue<Key>>,
    ) -> VolumeBinder {
        listen(informers, queue);
        VolumeBinder {
            client,
            events: events.of(NAME),
            directory,
            claims: informers.persistent_volume_claims.clone(),
            classes: informers.storage_classes.clone(),
            nodes: informers.nodes.clone(),
            pods: informers.pods.clone(),
            volumes: informers.persistent_volumes.clone(),
        }
    }

    async fn claim(&self, key: &ObjectKey) -> Result<Next> {
        let Some(claim) = self.claims.get(key) else {
            return Ok(Next::OnChange);
        };
        let known = claim::Known {
            volumes: &self.volumes.all(),
            classes: &self.classes.all(),
            waiting: self.waiting_pods(&claim),
        };
        match claim::decide(&claim, &known) {
            ClaimStep::Bind(volume) => self.bind(&claim, &volume).await?,
            ClaimStep::Pending(note) => {
                self.tell(claim.as_ref(), note);
                self.set_claim_status(&claim, "Pending", None).await?;
            }
            ClaimStep::Lost(note) => {
                if claims::phase(&claim) != "Lost" {
                    self.tell(claim.as_ref(), Some(note));
                }
                self.set_claim_status(&claim, "Lost", None).await?;
            }
            ClaimStep::Class(name) => self.set_class(&claim, &name).await?,
            ClaimStep::Provision(class) => return self.provision(&claim, &class).await,
        }
        Ok(Next::OnChange)
    }

    /// Pods that use the claim and have no node yet.
    fn waiting_pods(&self, claim: &PersistentVolumeClaim) -> Vec<String> {
        let name = claim.metadata.name.as_deref().unwrap_or_default();
        let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
        let waits = |own: &Pod| {
            pod::node_name(own).is_none()
                && pod::is_active(own)
                && pod::claims(own).any(|own| own == name)
        };
        let waiting = self.pods.select(namespace, waits);
        let names = waiting.iter().filter_map(|own| own.metadata.name.clone());
        names.collect()
    }

    async fn volume(&self, key: &ObjectKey) -> Result<Next> {
        let Some(volume) = self.volumes.get(key) else {
            return Ok(Next::OnChange);
        };
        if volume::is_orphan(&volume, |node| {
            self.nodes.get(&ObjectKey::new("", node)).is_some()
        }) {
            self.let_go(&volume).await?;
        }
        let claim = self.claim_of(&volume).await?;
        match volume::decide(&volume, claim.as_deref()) {
            VolumeStep::Phase(phase) => self.set_phase(&volume, phase, "").await?,
            VolumeStep::Refuse(note) => {
                if let Some(claim) = &claim {
                    self.tell(claim.as_ref(), Some(note.clone()));
                }
                self.tell(volume.as_ref(), Some(note));
            }
            VolumeStep::Fail(note) => {
                let message = note.message.clone();
                if volumes::phase(&volume) != "Failed" {
                    self.tell(volume.as_ref(), Some(note));
                }
                self.set_phase(&volume, "Failed", &message).await?;
            }
            VolumeStep::Unbind => self.unbind(&volume).await?,
            VolumeStep::Delete => {
                self.set_phase(&volume, "Released", "").await?;
                self.delete(&volume).await?;
            }
            VolumeStep::Nothing => {}
        }
        Ok(Next::OnChange)
    }

    /// The claim that the volume is kept for. That it is gone, or another by its name, is asked of the server:
    /// a watch that is behind must not cost a volume.
    async fn claim_of(
        &self,
        volume: &PersistentVolume,
    ) -> Result<Option<Arc<PersistentVolumeClaim>>> {
        let Some(wanted) = volumes::claim_ref(volume) else {
            return Ok(None);
        };
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let (namespace, name, uid) = (
            text(&wanted.namespace),
            text(&wanted.name),
            text(&wanted.uid),
        );
        // Kept for whoever comes.
        if uid.is_empty() {
            return Ok(None);
        }
        let is_it = |claim: &PersistentVolumeClaim| uid_of(claim) == uid;
        let cached = self.claims.get(&ObjectKey::new(&namespace, &name));
        if let Some(claim) = cached.filter(|claim| is_it(claim)) {
            return Ok(Some(claim));
        }
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &namespace);
        let read = found(api.get(&name).await);
        let read = read.during(|| format!("read claim {namespace}/{name}"))?;
        Ok(read.filter(is_it).map(Arc::new))
    }

    fn tell<K: kube::Resource<DynamicType = ()>>(&self, about: &K, note: Option<Note>) {
        if let Some(note) = note {
            self.events.record(about, note);
        }
    }
}

impl Reconcile for VolumeBinder {
    type Key = Key;

    const NAME: &'static str = "persistentvolume-binder";
    // Two claims must not choose at once from the same volumes.
    const WORKERS: usize = 1;

    async fn reconcile(&self, key: &Key) -> Result<Next> {
        match key {
            Key::Claim(key) => self.claim(key).await,
            Key::Volume(key) => self.volume(key).await,
        }
    }
}

fn listen(informers: &Informers, queue: &Arc<Queue<Key>>) {
    let keys = queue.clone();
    informers
        .persistent_volume_claims
        .listen(move |change: &Change<PersistentVolumeClaim>| {
            for claim in change.each() {
                keys.add(Key::Claim(ObjectKey::of(claim.as_ref())));
                let name = claims::volume_name(claim);
                if !name.is_empty() {
                    keys.add(Key::Volume(ObjectKey::new("", name)));
                }
            }
        });
    // Volumes that name a claim hear when it comes and goes, whatever it names itself.
    let (keys, all) = (queue.clone(), informers.persistent_volumes.clone());
    informers
        .persistent_volume_claims
        .listen(move |change: &Change<PersistentVolumeClaim>| {
            let Some(claim) = change.latest().filter(|_| change.is_about_life()) else {
                return;
            };
            let named = |volume: &PersistentVolume| {
                volumes::claim_ref(volume).is_some_and(|own| {
                    own.name == claim.metadata.name && own.namespace == claim.metadata.namespace
                })
            };
            for volume in all.select("", named) {
                keys.add(Key::Volume(ObjectKey::of(volume.as_ref())));
            }
        });
    let (keys, all) = (queue.clone(), informers.persistent_volume_claims.clone());
    informers
        .persistent_volumes
        .listen(move |change: &Change<PersistentVolume>| {
            for volume in change.each() {
                keys.add(Key::Volume(ObjectKey::of(volume.as_ref())));
                if let Some(own) = volumes::claim_ref(volume) {
                    let text = |field: &Option<String>| field.clone().unwrap_or_default();
                    keys.add(Key::Claim(ObjectKey::new(
                        &text(&own.namespace),
                        &text(&own.name),
                    )));
                }
            }
            // One that is free may be what somebody waits for.
            let free = change
                .new
                .as_ref()
                .filter(|own| volumes::phase(own) == "Available" && !is_deleted(own.as_ref()));
            if let Some(free) = free {
                let class = volumes::class(free);
                wake(&keys, &all, |claim| {
                    claims::class(claim).unwrap_or_default() == class
                        || claims::volume_name(claim) == volumes::name(free)
                });
            }
        });
    let (keys, all) = (queue.clone(), informers.persistent_volume_claims.clone());
    informers
        .storage_classes
        .listen(move |change: &Change<StorageClass>| {
            let name = change
                .latest()
                .and_then(|class| class.metadata.name.clone())
                .unwrap_or_default();
            wake(&keys, &all, |claim| {
                claims::class(claim).is_none_or(|own| own == name)
            });
        });
    let (keys, all) = (queue.clone(), informers.persistent_volumes.clone());
    informers.nodes.listen(move |change: &Change<Node>| {
        if change.new.is_none() {
            for volume in all.select("", |own| is_deleted(own)) {
                keys.add(Key::Volume(ObjectKey::of(volume.as_ref())));
            }
        }
    });
}

/// Claims that have no volume yet.
fn wake(
    keys: &Queue<Key>,
    claims: &Informer<PersistentVolumeClaim>,
    wanted: impl Fn(&PersistentVolumeClaim) -> bool,
) {
    for claim in claims.all() {
        if !claims::is_bound(&claim) && wanted(&claim) {
            keys.add(Key::Claim(ObjectKey::of(claim.as_ref())));
        }
    }
}
