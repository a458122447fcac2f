//! Writing what was decided: each write only where the object differs, at the version that was decided on.

use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolume as Volume, PersistentVolumeClaim as Claim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::{Value, json};
use vetch_volumes::annotations::{
    BETA_STORAGE_PROVISIONER, BIND_COMPLETED, BOUND_BY_CONTROLLER, SELECTED_NODE,
    STORAGE_PROVISIONER,
};
use vetch_volumes::{bound_to, claim, volume};

use super::provision::{self, Failure};
use super::{VolumeBinder, volume as decided};
use crate::error::{Attempt as _, Result, found, is_already_exists};
use crate::events::Note;
use crate::key::{ObjectKey, name_of, namespace_of};
use crate::worker::Next;

/// After a claim's volume could not be made.
const RETRY: Duration = Duration::from_secs(15);

impl VolumeBinder {
    /// First the volume says whose it is, then that it is bound; then the claim does.
    pub(super) async fn bind(&self, own: &Claim, to: &Volume) -> Result<()> {
        let volume = match bound_to(to, own) {
            Some(bound) => self.replace_volume(&bound).await?,
            None => to.clone(),
        };
        self.set_phase(&volume, "Bound", "").await?;
        let claim = match with_volume(own, &volume) {
            Some(bound) => {
                let written = self
                    .claims_of(own)
                    .replace(name_of(own), &PostParams::default(), &bound)
                    .await;
                written.during(|| format!("bind claim {}", ObjectKey::of(own)))?
            }
            None => own.clone(),
        };
        self.set_claim_status(&claim, "Bound", Some(&volume)).await
    }

    /// `of`: the volume whose size and modes it has.
    pub(super) async fn set_claim_status(
        &self,
        own: &Claim,
        phase: &str,
        of: Option<&Volume>,
    ) -> Result<()> {
        let Some(status) = status_patch(own, phase, of) else {
            return Ok(());
        };
        let patch = at_version(&own.metadata, json!({"status": status}));
        let patched = self
            .claims_of(own)
            .patch_status(name_of(own), &PatchParams::default(), &Patch::Merge(patch))
            .await;
        found(patched).during(|| format!("set status of claim {}", ObjectKey::of(own)))?;
        Ok(())
    }

    pub(super) async fn set_class(&self, own: &Claim, class: &str) -> Result<()> {
        let patch = json!({"spec": {"storageClassName": class}});
        self.patch_claim(own, patch).await.map(drop)
    }

    pub(super) async fn set_phase(&self, own: &Volume, phase: &str, message: &str) -> Result<()> {
        let said = own
            .status
            .as_ref()
            .and_then(|status| status.message.as_deref());
        if volume::phase(own) == phase && said.unwrap_or_default() == message {
            return Ok(());
        }
        let message = match message {
            "" => Value::Null,
            message => message.into(),
        };
        let patch = json!({
            "metadata": {"uid": own.metadata.uid},
            "status": {"phase": phase, "message": message, "reason": null},
        });
        let patched = self
            .volumes_api()
            .patch_status(name_of(own), &PatchParams::default(), &Patch::Merge(patch))
            .await;
        found(patched).during(|| format!("set phase of volume {}", name_of(own)))?;
        Ok(())
    }

    /// What people asked for stays: only the uid of the claim that went goes.
    pub(super) async fn unbind(&self, own: &Volume) -> Result<()> {
        let mut free = own.clone();
        let spec = free.spec.get_or_insert_default();
        let annotations = free.metadata.annotations.get_or_insert_default();
        match annotations.remove(BOUND_BY_CONTROLLER) {
            Some(_) => spec.claim_ref = None,
            None => {
                if let Some(kept) = &mut spec.claim_ref {
                    kept.uid = None;
                }
            }
        }
        let free = self.replace_volume(&free).await?;
        self.set_phase(&free, "Available", "").await
    }

    pub(super) async fn delete(&self, own: &Volume) -> Result<()> {
        let preconditions = Preconditions {
            uid: own.metadata.uid.clone(),
            resource_version: None,
        };
        let parameters = DeleteParams::default().preconditions(preconditions);
        let deleted = self.volumes_api().delete(name_of(own), &parameters).await;
        found(deleted).during(|| format!("delete volume {}", name_of(own)))?;
        Ok(())
    }

    /// Nobody is left to remove the directory.
    pub(super) async fn let_go(&self, own: &Volume) -> Result<()> {
        let mut finalizers = own.metadata.finalizers.clone().unwrap_or_default();
        finalizers.retain(|own| own != decided::FINALIZER);
        let patch = at_version(
            &own.metadata,
            json!({"metadata": {"finalizers": finalizers}}),
        );
        let patched = self
            .volumes_api()
            .patch(name_of(own), &PatchParams::default(), &Patch::Merge(patch))
            .await;
        found(patched).during(|| format!("release volume {}", name_of(own)))?;
        Ok(())
    }

    pub(super) async fn provision(&self, own: &Claim, class: &StorageClass) -> Result<Next> {
        let own = &self.set_provisioner(own, &class.provisioner).await?;
        self.set_claim_status(own, "Pending", None).await?;
        if !class.provisioner.starts_with("kubernetes.io/") {
            let message = format!(
                "Waiting for a volume to be created either by the external provisioner '{}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.",
                class.provisioner
            );
            self.tell(own, Some(Note::normal("ExternalProvisioning", message)));
            return Ok(Next::OnChange);
        }
        let (nodes, volumes) = (self.nodes.all(), self.volumes.all());
        let made = provision::check(own, class).and_then(|()| {
            let node = provision::place(own, class, &nodes, &volumes)?;
            provision::volume(own, class, node, &self.directory)
        });
        let made = match made {
            Ok(made) => made,
            Err(failure) => {
                let note = Note::warning("ProvisioningFailed", failure.to_string());
                self.tell(own, Some(note));
                if matches!(failure, Failure::NodeGone(_)) {
                    let none = json!({"metadata": {"annotations": {SELECTED_NODE: null}}});
                    self.patch_claim(own, none).await?;
                }
                return Ok(Next::After(RETRY));
            }
        };
        match self
            .volumes_api()
            .create(&PostParams::default(), &made)
            .await
        {
            // The cache does not show it yet; its event comes.
            Err(error) if is_already_exists(&error) => return Ok(Next::OnChange),
            created => created.during(|| format!("create volume {}", name_of(&made)))?,
        };
        let message = format!(
            "Successfully provisioned volume {} using {}",
            name_of(&made),
            class.provisioner
        );
        self.tell(own, Some(Note::normal("ProvisioningSucceeded", message)));
        Ok(Next::OnChange)
    }

    async fn set_provisioner(&self, own: &Claim, provisioner: &str) -> Result<Claim> {
        let keys = [STORAGE_PROVISIONER, BETA_STORAGE_PROVISIONER];
        if keys
            .iter()
            .all(|key| claim::annotation(own, key) == Some(provisioner))
        {
            return Ok(own.clone());
        }
        let annotations =
            json!({STORAGE_PROVISIONER: provisioner, BETA_STORAGE_PROVISIONER: provisioner});
        let patch = json!({"metadata": {"annotations": annotations}});
        self.patch_claim(own, patch).await
    }

    async fn patch_claim(&self, own: &Claim, patch: Value) -> Result<Claim> {
        let patch = at_version(&own.metadata, patch);
        let patched = self
            .claims_of(own)
            .patch(name_of(own), &PatchParams::default(), &Patch::Merge(patch))
            .await;
        patched.during(|| format!("write claim {}", ObjectKey::of(own)))
    }

    async fn replace_volume(&self, own: &Volume) -> Result<Volume> {
        let written = self
            .volumes_api()
            .replace(name_of(own), &PostParams::default(), own)
            .await;
        written.during(|| format!("write volume {}", name_of(own)))
    }

    fn claims_of(&self, own: &Claim) -> Api<Claim> {
        Api::namespaced(self.client.clone(), namespace_of(own))
    }

    fn volumes_api(&self) -> Api<Volume> {
        Api::all(self.client.clone())
    }
}

/// The patch, refused where somebody else was faster.
fn at_version(
    metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    mut patch: Value,
) -> Value {
    patch["metadata"]["uid"] = metadata.uid.clone().into();
    patch["metadata"]["resourceVersion"] = metadata.resource_version.clone().into();
    patch
}

/// The claim, with the volume's name; None where it says so already.
fn with_volume(own: &Claim, to: &Volume) -> Option<Claim> {
    let named = claim::volume_name(own) == volume::name(to);
    if named && claim::annotation(own, BIND_COMPLETED).is_some() {
        return None;
    }
    let mut bound = own.clone();
    let annotations = bound.metadata.annotations.get_or_insert_default();
    annotations.insert(BIND_COMPLETED.into(), "yes".into());
    if !named {
        annotations.insert(BOUND_BY_CONTROLLER.into(), "yes".into());
        bound.spec.get_or_insert_default().volume_name = Some(volume::name(to).to_owned());
    }
    Some(bound)
}

/// The size that a bound claim shows stays what it was: growing it is somebody else's.
fn status_patch(own: &Claim, phase: &str, of: Option<&Volume>) -> Option<Value> {
    let status = own.status.clone().unwrap_or_default();
    let spec = of.and_then(|of| of.spec.clone()).unwrap_or_default();
    let capacity = match (of, claim::phase(own), &status.capacity) {
        (Some(_), "Bound", Some(known)) => Some(known.clone()),
        _ => spec.capacity,
    };
    let same = status.phase.as_deref() == Some(phase)
        && status.access_modes.clone().unwrap_or_default()
            == spec.access_modes.clone().unwrap_or_default()
        && status.capacity.clone().unwrap_or_default() == capacity.clone().unwrap_or_default();
    (!same).then(|| json!({"phase": phase, "accessModes": spec.access_modes, "capacity": capacity}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object<K: serde::de::DeserializeOwned>(object: Value) -> K {
        serde_json::from_value(object).expect("an object")
    }

    #[test]
    fn a_claim_says_its_volume_once() {
        let volume: Volume = object(json!({"metadata": {"name": "v"}}));
        for (metadata, spec, by_controller) in [
            (json!({}), json!({}), Some(true)),
            (json!({}), json!({"volumeName": "v"}), Some(false)),
            (
                json!({"annotations": {BIND_COMPLETED: "yes"}}),
                json!({"volumeName": "v"}),
                None,
            ),
        ] {
            let own: Claim = object(json!({"metadata": metadata, "spec": spec}));
            let bound = with_volume(&own, &volume);
            let chosen = bound
                .as_ref()
                .map(|own| claim::annotation(own, BOUND_BY_CONTROLLER).is_some());
            assert_eq!(chosen, by_controller, "{metadata} {spec}");
            if let Some(bound) = bound {
                assert!(claim::is_bound(&bound));
                assert_eq!(with_volume(&bound, &volume), None);
            }
        }
    }

    #[test]
    fn a_status_is_written_where_it_differs() {
        let volume: Volume = object(json!({
            "metadata": {"name": "v"},
            "spec": {"capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOnce"]},
        }));
        let own = |status: Value| object::<Claim>(json!({"metadata": {}, "status": status}));
        let full = json!({"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "2Gi"}});
        let grown = json!({"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "3Gi"}});
        let bound = Some(&volume);
        assert_eq!(
            status_patch(&own(json!({"phase": "Pending"})), "Bound", bound),
            Some(full.clone())
        );
        assert_eq!(status_patch(&own(full.clone()), "Bound", bound), None);
        assert_eq!(status_patch(&own(grown), "Bound", bound), None);
        assert_eq!(
            status_patch(&own(json!({"phase": "Pending"})), "Pending", None),
            None
        );
        let lost = json!({"phase": "Lost", "accessModes": null, "capacity": null});
        assert_eq!(status_patch(&own(full), "Lost", None), Some(lost));
    }
}
