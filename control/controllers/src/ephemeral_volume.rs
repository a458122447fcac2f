//! Claims that live and go with a pod: `volumes[].ephemeral`, by kube-controller-manager's
//! ephemeral-volume-controller. The pod owns them, so that they go with it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use vetch_volumes::claim::{is_of_pod, made_for};

use crate::error::{Attempt as _, Result, is_already_exists};
use crate::events::{Note, Recorder};
use crate::informer::{Change, Informer};
use crate::informers::Informers;
use crate::key::{ObjectKey, is_deleted, name_of, namespace_of, uid_of};
use crate::queue::Queue;
use crate::worker::{Next, Reconcile};

const NAME: &str = "ephemeral_volume";

pub struct EphemeralVolumes {
    client: Client,
    events: Recorder,
    claims: Arc<Informer<PersistentVolumeClaim>>,
    pods: Arc<Informer<Pod>>,
}

impl EphemeralVolumes {
    pub fn new(
        client: Client,
        events: &Recorder,
        informers: &Informers,
        queue: &Arc<Queue<ObjectKey>>,
    ) -> EphemeralVolumes {
        let keys = queue.clone();
        informers.pods.listen(move |change: &Change<Pod>| {
            // Volumes of a pod do not change.
            let new = change.new.as_ref().filter(|_| change.old.is_none());
            if let Some(pod) = new.filter(|pod| ephemeral(pod).next().is_some()) {
                keys.add(ObjectKey::of(pod.as_ref()));
            }
        });
        let keys = queue.clone();
        informers
            .persistent_volume_claims
            .listen(move |change: &Change<PersistentVolumeClaim>| {
                let gone = change.old.as_ref().filter(|_| change.new.is_none());
                let owners = gone
                    .iter()
                    .flat_map(|claim| claim.metadata.owner_references.iter().flatten());
                for owner in owners.filter(|owner| owner.kind == "Pod") {
                    let namespace = gone.map(|claim| namespace_of(claim.as_ref()));
                    keys.add(ObjectKey::new(namespace.unwrap_or_default(), &owner.name));
                }
            });
        EphemeralVolumes {
            client,
            events: events.of(NAME),
            claims: informers.persistent_volume_claims.clone(),
            pods: informers.pods.clone(),
        }
    }

    async fn make(&self, pod: &Pod, volume: &Volume) -> Result<()> {
        let name = made_for(pod, &volume.name);
        let found = self.claims.get(&ObjectKey::new(namespace_of(pod), &name));
        if let Some(found) = found {
            if !is_of_pod(&found, pod) {
                let message = format!(
                    "PVC {}/{name} was not created for pod {}/{} (pod is not owner)",
                    namespace_of(pod),
                    namespace_of(pod),
                    name_of(pod)
                );
                self.events
                    .record(pod, Note::warning("FailedBinding", message));
            }
            return Ok(());
        }
        let Some(claim) = claim(pod, volume, name) else {
            return Ok(());
        };
        let api: Api<PersistentVolumeClaim> =
            Api::namespaced(self.client.clone(), namespace_of(pod));
        match api.create(&PostParams::default(), &claim).await {
            // The cache does not show it yet; its event comes.
            Err(error) if is_already_exists(&error) => Ok(()),
            created => match created.during(|| format!("create claim {}", ObjectKey::of(&claim))) {
                Err(error) if error.is_namespace_terminating() => Ok(()),
                created => created.map(drop),
            },
        }
    }
}

fn ephemeral(pod: &Pod) -> impl Iterator<Item = &Volume> {
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter(|volume| volume.ephemeral.is_some())
}

fn claim(pod: &Pod, volume: &Volume, name: String) -> Option<PersistentVolumeClaim> {
    let template = volume.ephemeral.as_ref()?.volume_claim_template.clone()?;
    let metadata = template.metadata.unwrap_or_default();
    Some(PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: pod.metadata.namespace.clone(),
            labels: metadata.labels,
            annotations: metadata.annotations,
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".into(),
                kind: "Pod".into(),
                name: name_of(pod).to_owned(),
                uid: uid_of(pod).to_owned(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(template.spec),
        ..PersistentVolumeClaim::default()
    })
}

impl Reconcile for EphemeralVolumes {
    type Key = ObjectKey;

    const NAME: &'static str = "ephemeral-volume";

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let Some(pod) = self.pods.get(key).filter(|pod| !is_deleted(pod.as_ref())) else {
            return Ok(Next::OnChange);
        };
        for volume in ephemeral(&pod) {
            self.make(&pod, volume).await?;
        }
        Ok(Next::OnChange)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_as_its_template_says_and_the_pods_own() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u"},
            "spec": {"containers": [], "volumes": [
                {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {
                    "metadata": {"labels": {"tier": "cache"}},
                    "spec": {"accessModes": ["ReadWriteOnce"]},
                }}},
                {"name": "other", "emptyDir": {}},
            ]},
        }))
        .expect("a pod");
        let volumes: Vec<&Volume> = ephemeral(&pod).collect();
        assert_eq!(volumes.len(), 1);
        let claim = claim(&pod, volumes[0], made_for(&pod, "scratch")).expect("a claim");
        assert_eq!(name_of(&claim), "web-scratch");
        assert_eq!(
            claim.metadata.labels,
            Some([("tier".to_owned(), "cache".to_owned())].into())
        );
        assert!(is_of_pod(&claim, &pod));
        let another = Pod {
            metadata: ObjectMeta {
                uid: Some("v".into()),
                ..pod.metadata.clone()
            },
            ..pod.clone()
        };
        assert!(!is_of_pod(&claim, &another));
    }
}
