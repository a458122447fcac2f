//! Directories that this node made for claims: volumes of the provisioner `kubernetes.io/host-path`.
//!
//! Before the directory is made, the volume gets a finalizer that says this node may have it, and a file here
//! its name. When the volume is deleted and held by nothing else, the directory is removed, if the volume says
//! `Delete`, and then the finalizer. Only what is known here is ever touched, and only on the volume's word.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::PersistentVolume;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::context::Context;
use super::text::api_words;

const FINALIZER: &str = "vetch.dev/host-path";
const NODE: &str = "vetch.dev/node";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const PROVISIONER: &str = "kubernetes.io/host-path";
/// How often volumes are looked at. Each pod that goes is another occasion.
const EVERY: Duration = Duration::from_secs(10);
/// A volume is deleted a moment after its pod.
const SOON: Duration = Duration::from_secs(1);

/// Names of volumes, a file each, beside the pods' directories.
fn known_dir(context: &Context) -> PathBuf {
    context.config.pod_dir.with_file_name("host-path-volumes")
}

/// Says that this node has the volume, before it has. Other volumes are none of it.
pub async fn hold(context: &Context, volume: &PersistentVolume) -> Result<(), String> {
    if !is_made_here(volume, &context.config.node_name) {
        return Ok(());
    }
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let dir = known_dir(context);
    let file = dir.join(name);
    let written = fs::create_dir_all(&dir).and_then(|()| fs::write(&file, ""));
    written.map_err(|error| format!("writing {}: {error}", file.display()))?;
    let mut finalizers = volume.metadata.finalizers.clone().unwrap_or_default();
    if finalizers.iter().any(|own| own == FINALIZER) {
        return Ok(());
    }
    finalizers.push(FINALIZER.to_owned());
    write(context, volume, &finalizers).await
}

async fn write(
    context: &Context,
    volume: &PersistentVolume,
    finalizers: &[String],
) -> Result<(), String> {
    let metadata = &volume.metadata;
    let name = metadata.name.as_deref().unwrap_or_default();
    let patch = json!({"metadata": {
        "uid": metadata.uid, "resourceVersion": metadata.resource_version, "finalizers": finalizers,
    }});
    let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
    let patched = volumes
        .patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await;
    match patched {
        Ok(_) => Ok(()),
        Err(error) => Err(format!(
            "writing finalizers of PV {name}: {}",
            api_words(&error)
        )),
    }
}

/// Looks after them as long as it is polled.
pub async fn keep(context: Arc<Context>) {
    let mut load = context.load();
    loop {
        for name in names(&known_dir(&context)) {
            if let Err(words) = look_at(&context, &name).await {
                tracing::warn!(volume = name, "{words}");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            // Its sender is in the context, which is here.
            _ = load.changed() => tokio::time::sleep(SOON).await,
        }
    }
}

async fn look_at(context: &Context, name: &str) -> Result<(), String> {
    let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
    let forget = || {
        let file = known_dir(context).join(name);
        fs::remove_file(&file).map_err(|error| format!("removing {}: {error}", file.display()))
    };
    let volume = match volumes.get(name).await {
        Ok(volume) => volume,
        // Let go by somebody else: what is left is theirs to decide.
        Err(kube::Error::Api(status)) if status.code == 404 => return forget(),
        Err(error) => {
            tracing::debug!(volume = name, "{}", api_words(&error));
            return Ok(());
        }
    };
    let step = decide(&volume, &context.config.node_name);
    if let Step::Remove(path) = &step {
        let path = path.clone();
        let removed = tokio::task::spawn_blocking(move || remove(&path)).await;
        removed.map_err(|error| error.to_string())??;
    }
    if step == Step::Keep {
        return Ok(());
    }
    let mut finalizers = volume.metadata.finalizers.clone().unwrap_or_default();
    finalizers.retain(|own| own != FINALIZER);
    write(context, &volume, &finalizers).await?;
    forget()
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Keep,
    /// And let go.
    Remove(PathBuf),
    /// Its content stays.
    LetGo,
}

fn decide(volume: &PersistentVolume, node: &str) -> Step {
    let finalizers = volume.metadata.finalizers.as_deref().unwrap_or_default();
    // While it is bound or somebody else needs it, it is held by more than us.
    let ours_alone = finalizers == [FINALIZER];
    if volume.metadata.deletion_timestamp.is_none() || !ours_alone || !is_made_here(volume, node) {
        return Step::Keep;
    }
    let spec = volume.spec.as_ref();
    let policy = spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    let path = spec
        .and_then(|spec| spec.host_path.as_ref())
        .map(|host| Path::new(&host.path));
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    match (policy, path) {
        // As the provisioner names them: no other directory is removed.
        (Some("Delete"), Some(path)) if is_plain(path, name) => Step::Remove(path.to_owned()),
        _ => Step::LetGo,
    }
}

fn is_plain(path: &Path, name: &str) -> bool {
    path.is_absolute()
        && name.starts_with("pvc-")
        && path.file_name().is_some_and(|own| own == name)
}

fn is_made_here(volume: &PersistentVolume, node: &str) -> bool {
    let annotation = |key: &str| {
        let annotations = volume.metadata.annotations.as_ref()?;
        annotations.get(key).map(String::as_str)
    };
    let is_path = volume
        .spec
        .as_ref()
        .is_some_and(|spec| spec.host_path.is_some());
    is_path && annotation(PROVISIONED_BY) == Some(PROVISIONER) && annotation(NODE) == Some(node)
}

/// The standard library follows no symlink on its way down.
fn remove(path: &Path) -> Result<(), String> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("removing {}: {error}", path.display()))
        }
        _ => {
            tracing::info!(path = %path.display(), "removed a volume that was deleted");
            Ok(())
        }
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn volume(deleted: bool, finalizers: Value, policy: &str, path: &str) -> PersistentVolume {
        let mut volume = json!({
            "metadata": {
                "name": "pvc-1", "finalizers": finalizers,
                "annotations": {PROVISIONED_BY: PROVISIONER, NODE: "a"},
            },
            "spec": {"hostPath": {"path": path}, "persistentVolumeReclaimPolicy": policy},
        });
        if deleted {
            volume["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        }
        serde_json::from_value(volume).unwrap()
    }

    #[test]
    fn a_directory_goes_when_its_volume_was_deleted_and_says_so() {
        let own = json!([FINALIZER]);
        let both = json!(["kubernetes.io/pv-protection", FINALIZER]);
        let path = "/srv/pvc-1";
        let remove = Step::Remove(path.into());
        for (what, volume, node, wanted) in [
            (
                "in use",
                volume(false, own.clone(), "Delete", path),
                "a",
                Step::Keep,
            ),
            (
                "held by others",
                volume(true, both, "Delete", path),
                "a",
                Step::Keep,
            ),
            (
                "elsewhere",
                volume(true, own.clone(), "Delete", path),
                "b",
                Step::Keep,
            ),
            (
                "deleted",
                volume(true, own.clone(), "Delete", path),
                "a",
                remove,
            ),
            (
                "to be kept",
                volume(true, own.clone(), "Retain", path),
                "a",
                Step::LetGo,
            ),
            (
                "of another name",
                volume(true, own.clone(), "Delete", "/etc"),
                "a",
                Step::LetGo,
            ),
            (
                "relative",
                volume(true, own, "Delete", "pvc-1"),
                "a",
                Step::LetGo,
            ),
        ] {
            assert_eq!(decide(&volume, node), wanted, "{what}");
        }
    }

    #[test]
    fn what_is_not_there_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pvc-1");
        fs::create_dir_all(path.join("sub")).unwrap();
        fs::write(dir.path().join("kept"), "").unwrap();
        std::os::unix::fs::symlink(dir.path(), path.join("sub/link")).unwrap();
        for _ in 0..2 {
            assert_eq!(remove(&path), Ok(()));
            assert!(!path.exists());
        }
        assert!(dir.path().join("kept").exists());
    }
}
