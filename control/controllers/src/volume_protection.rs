//! Claims and volumes that are being deleted stay until nobody uses them: kube-controller-manager's
//! persistentvolumeclaim-protection-controller and persistentvolume-protection-controller.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use vetch_volumes::claim::is_of_pod;
use vetch_volumes::volume;

use crate::error::{Attempt as _, Result, found};
use crate::informer::{Change, Informer};
use crate::informers::Informers;
use crate::key::{ObjectKey, namespace_of};
use crate::pod;
use crate::queue::Queue;
use crate::volume_key::VolumeKey as Key;
use crate::worker::{Next, Reconcile};

const CLAIM: &str = "kubernetes.io/pvc-protection";
const VOLUME: &str = "kubernetes.io/pv-protection";

pub struct VolumeProtection {
    client: Client,
    claims: Arc<Informer<PersistentVolumeClaim>>,
    pods: Arc<Informer<Pod>>,
    volumes: Arc<Informer<PersistentVolume>>,
}

impl VolumeProtection {
    pub fn new(client: Client, informers: &Informers, queue: &Arc<Queue<Key>>) -> VolumeProtection {
        let keys = queue.clone();
        informers
            .persistent_volume_claims
            .listen(move |change: &Change<PersistentVolumeClaim>| {
                if let Some(claim) = &change.new {
                    keys.add(Key::Claim(ObjectKey::of(claim.as_ref())));
                }
            });
        let keys = queue.clone();
        informers
            .persistent_volumes
            .listen(move |change: &Change<PersistentVolume>| {
                if let Some(volume) = &change.new {
                    keys.add(Key::Volume(ObjectKey::of(volume.as_ref())));
                }
            });
        let keys = queue.clone();
        informers.pods.listen(move |change: &Change<Pod>| {
            let Some(gone) = change.old.as_ref().filter(|_| change.new.is_none()) else {
                return;
            };
            for name in pod::claims(gone) {
                let key = ObjectKey::new(namespace_of(gone.as_ref()), &name);
                keys.add(Key::Claim(key));
            }
        });
        VolumeProtection {
            client,
            claims: informers.persistent_volume_claims.clone(),
            pods: informers.pods.clone(),
            volumes: informers.persistent_volumes.clone(),
        }
    }

    async fn claim(&self, key: &ObjectKey) -> Result<()> {
        let Some(claim) = self.claims.get(key) else {
            return Ok(());
        };
        let uses = |pod: &Pod| uses(pod, &claim);
        let Some(step) = step(&claim.metadata, CLAIM, || {
            !self.pods.select(&key.namespace, uses).is_empty()
        }) else {
            return Ok(());
        };
        // A watch that is behind must not cost a pod its volume.
        if step == Step::Remove && self.is_used(&claim).await? {
            return Ok(());
        }
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &key.namespace);
        let patch = patch(&claim.metadata, CLAIM, step);
        let patched = api
            .patch(&key.name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        found(patched).during(|| format!("write finalizers of claim {key}"))?;
        Ok(())
    }

    async fn is_used(&self, claim: &PersistentVolumeClaim) -> Result<bool> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace_of(claim));
        let listed = api.list(&ListParams::default()).await;
        let listed = listed.during(|| format!("list pods of {}", namespace_of(claim)))?;
        Ok(listed.items.iter().any(|pod| uses(pod, claim)))
    }

    async fn volume(&self, key: &ObjectKey) -> Result<()> {
        let Some(own) = self.volumes.get(key) else {
            return Ok(());
        };
        let Some(step) = step(&own.metadata, VOLUME, || volume::phase(&own) == "Bound") else {
            return Ok(());
        };
        let api: Api<PersistentVolume> = Api::all(self.client.clone());
        let patch = patch(&own.metadata, VOLUME, step);
        let patched = api
            .patch(&key.name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        found(patched).during(|| format!("write finalizers of volume {key}"))?;
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Add,
    Remove,
}

fn step(metadata: &ObjectMeta, finalizer: &str, is_used: impl Fn() -> bool) -> Option<Step> {
    let held = metadata
        .finalizers
        .iter()
        .flatten()
        .any(|own| own == finalizer);
    match (metadata.deletion_timestamp.is_some(), held) {
        (false, false) => Some(Step::Add),
        (true, true) if !is_used() => Some(Step::Remove),
        _ => None,
    }
}

fn patch(metadata: &ObjectMeta, finalizer: &str, step: Step) -> Value {
    let mut finalizers = metadata.finalizers.clone().unwrap_or_default();
    finalizers.retain(|own| own != finalizer);
    if step == Step::Add {
        finalizers.push(finalizer.to_owned());
    }
    json!({"metadata": {
        "uid": metadata.uid, "resourceVersion": metadata.resource_version, "finalizers": finalizers,
    }})
}

/// A pod without a node does not: no node starts one whose claim is being deleted. One that has ended does until
/// it is deleted, for its node may not have let go.
fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    if pod::node_name(pod).is_none() || pod.metadata.namespace != claim.metadata.namespace {
        return false;
    }
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    volumes.into_iter().any(|volume| {
        let named = vetch_volumes::claim::name_of(pod, volume).as_deref() == Some(name);
        named && (volume.persistent_volume_claim.is_some() || is_of_pod(claim, pod))
    })
}

impl Reconcile for VolumeProtection {
    type Key = Key;

    const NAME: &'static str = "volume-protection";

    async fn reconcile(&self, key: &Key) -> Result<Next> {
        match key {
            Key::Claim(key) => self.claim(key).await?,
            Key::Volume(key) => self.volume(key).await?,
        }
        Ok(Next::OnChange)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(metadata: Value) -> ObjectMeta {
        serde_json::from_value(metadata).expect("metadata")
    }

    #[test]
    fn finalizers_come_at_once_and_go_with_the_last_user() {
        let going = |finalizers: Value| json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": finalizers});
        for (own, used, wanted) in [
            (json!({}), false, Some(Step::Add)),
            (json!({"finalizers": [CLAIM]}), false, None),
            (going(json!([CLAIM])), true, None),
            (going(json!([CLAIM])), false, Some(Step::Remove)),
            (going(json!(["a/b"])), false, None),
        ] {
            assert_eq!(
                step(&metadata(own.clone()), CLAIM, || used),
                wanted,
                "{own}"
            );
        }
        let own = metadata(json!({"finalizers": ["a/b", CLAIM]}));
        assert_eq!(
            patch(&own, CLAIM, Step::Remove)["metadata"]["finalizers"],
            json!(["a/b"])
        );
    }

    #[test]
    fn who_uses_a_claim() {
        let claim = |owner: &str| -> PersistentVolumeClaim {
            let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": owner, "controller": true});
            serde_json::from_value(json!({"metadata": {
                "name": "p-v", "namespace": "n", "ownerReferences": [owner],
            }}))
            .expect("a claim")
        };
        let pod = |node: Value, volume: Value| -> Pod {
            serde_json::from_value(json!({
                "metadata": {"name": "p", "namespace": "n", "uid": "u"},
                "spec": {"nodeName": node, "containers": [], "volumes": [volume]},
            }))
            .expect("a pod")
        };
        let named = json!({"name": "v", "persistentVolumeClaim": {"claimName": "p-v"}});
        let made = json!({"name": "v", "ephemeral": {}});
        for (node, volume, owner, wanted) in [
            (json!("a"), named.clone(), "x", true),
            (Value::Null, named, "x", false),
            (json!("a"), made.clone(), "u", true),
            (json!("a"), made, "x", false),
            (json!("a"), json!({"name": "v", "emptyDir": {}}), "u", false),
        ] {
            assert_eq!(
                uses(&pod(node.clone(), volume.clone()), &claim(owner)),
                wanted,
                "{node} {volume} {owner}"
            );
        }
    }
}
