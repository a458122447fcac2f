//! Making a volume's content ready; called again, it brings it up to date.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod, Volume};

use super::empty_dir::Medium;
use super::payload::{self, Material, Payload};
use super::token::Tokens;
use super::{
    Mounted, MountedVolumes, VolumeError, empty_dir, host_path, huge_pages, ownership, persistent,
    writer,
};
use crate::pods::claims::{ClaimError, Claims};
use crate::pods::downward::Surroundings;
use crate::pods::quantity::{self, ResourceList};
use crate::pods::sources::Sources;
use crate::pods::{ephemeral, spec};

/// All that the volumes of a pod are made from, at one moment.
#[derive(Clone)]
pub struct Inputs {
    pub pod: Arc<Pod>,
    /// The pod's directory.
    pub dir: PathBuf,
    pub sources: Sources,
    pub tokens: Tokens,
    /// The volumes behind those that are claimed, but for those that were made before.
    pub claims: Claims,
    pub before: Option<Arc<MountedVolumes>>,
    pub node_ips: Vec<IpAddr>,
    pub pod_ips: Vec<IpAddr>,
    pub allocatable: Arc<ResourceList>,
    pub now: Timestamp,
}

/// The volumes that a container mounts or uses as devices; others are not made, nor are those of images, which
/// the runtime mounts: they are pulled when a container starts (`image.rs`).
pub fn used(pod: &Pod) -> Vec<&Volume> {
    let added = ephemeral::containers(pod);
    let all = || spec::all_containers(pod).chain(&added);
    let mounts = all().flat_map(|container| container.volume_mounts.iter().flatten());
    let devices = all().flat_map(|container| container.volume_devices.iter().flatten());
    let names: BTreeSet<&str> = mounts
        .map(|mount| mount.name.as_str())
        .chain(devices.map(|device| device.name.as_str()))
        .collect();
    let volumes = spec::spec(pod).volumes.iter().flatten();
    volumes
        .filter(|volume| names.contains(volume.name.as_str()) && volume.image.is_none())
        .collect()
}

/// Whether a container uses the volume as a device.
pub fn is_device(pod: &Pod, volume: &str) -> bool {
    let added = ephemeral::containers(pod);
    let mut all = spec::all_containers(pod).chain(&added);
    all.any(|container| {
        let mut devices = container.volume_devices.iter().flatten();
        devices.any(|device| device.name == volume)
    })
}

/// Blocks on disks.
pub fn set_up(volume: &Volume, inputs: &Inputs) -> Result<Mounted, VolumeError> {
    let around = Surroundings {
        pod_ips: &inputs.pod_ips,
        node_ips: &inputs.node_ips,
        allocatable: &inputs.allocatable,
    };
    let material = Material {
        pod: &inputs.pod,
        sources: &inputs.sources,
        around: &around,
        tokens: &inputs.tokens,
    };
    let dir = |kind: &str| {
        let kind = format!("kubernetes.io~{kind}");
        inputs.dir.join("volumes").join(kind).join(&volume.name)
    };
    if let Some(source) = &volume.empty_dir {
        let path = dir("empty-dir");
        let group = payload::fs_group(&inputs.pod);
        empty_dir::make(
            &path,
            medium(source, &inputs.pod, &inputs.allocatable)?,
            group,
        )?;
        return Ok(Mounted {
            path,
            read_only: false,
            block: false,
        });
    }
    if let Some(source) = &volume.host_path {
        let path = PathBuf::from(&source.path);
        host_path::check(&path, source.type_.as_deref().unwrap_or_default())?;
        return Ok(Mounted {
            path,
            read_only: false,
            block: false,
        });
    }
    if volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some() {
        // Once made it stays as it is: its content is the pod's own.
        let before = inputs.before.as_ref();
        if let Some(made) = before.and_then(|before| before.get(&volume.name)) {
            return Ok(made.clone());
        }
        let claimed = inputs.claims.get(&volume.name);
        let unread = || ClaimError::Fetch(volume.name.clone(), "it was not read yet".to_owned());
        let claimed = claimed.ok_or_else(unread)?.as_ref().map_err(Clone::clone)?;
        return persistent::set_up(volume, claimed, inputs);
    }
    // What is secret is kept from disks.
    let memory = Medium::Memory(None);
    let (path, medium, payload) = if let Some(source) = &volume.config_map {
        let payload = payload::config_map(source, &material)?;
        (dir("configmap"), Medium::Disk, payload)
    } else if let Some(source) = &volume.secret {
        (dir("secret"), memory, payload::secret(source, &material)?)
    } else if let Some(source) = &volume.downward_api {
        let payload = payload::downward_api(source, &material)?;
        (dir("downward-api"), memory, payload)
    } else if let Some(source) = &volume.projected {
        let payload = payload::projected(source, &material)?;
        (dir("projected"), memory, payload)
    } else {
        return Err(VolumeError::Unsupported(kind(volume)));
    };
    fill(&path, medium, &payload, inputs)?;
    Ok(Mounted {
        path,
        read_only: true,
        block: false,
    })
}

fn fill(
    path: &Path,
    medium: Medium,
    payload: &Payload,
    inputs: &Inputs,
) -> Result<(), VolumeError> {
    let group = payload::fs_group(&inputs.pod);
    empty_dir::make(path, medium, group)?;
    let stamp = format!(
        "{}.{:09}",
        inputs.now.strftime("%Y_%m_%d_%H_%M_%S"),
        rand::random_range(0..1_000_000_000_u32)
    );
    writer::write(path, payload, &stamp, |fresh| match group {
        Some(group) => ownership::give_to_group(fresh, group, true),
        None => Ok(()),
    })?;
    Ok(())
}

fn medium(
    source: &EmptyDirVolumeSource,
    pod: &Pod,
    allocatable: &ResourceList,
) -> Result<Medium, VolumeError> {
    let bytes = |quantity| u64::try_from(quantity::value(quantity)).ok();
    match source.medium.as_deref().unwrap_or_default() {
        "" => Ok(Medium::Disk),
        "Memory" => {
            let own = source
                .size_limit
                .as_ref()
                .and_then(bytes)
                .filter(|size| *size > 0);
            let node = allocatable
                .get("memory")
                .and_then(bytes)
                .filter(|size| *size > 0);
            let size = match (own, node) {
                (Some(own), Some(node)) => Some(own.min(node)),
                (own, node) => own.or(node),
            };
            Ok(Medium::Memory(size))
        }
        other if other.starts_with("HugePages") => {
            huge_pages::size(other, pod).map(Medium::HugePages)
        }
        other => Err(VolumeError::Medium(other.to_owned())),
    }
}

/// For people: which kind it is that is not supported.
fn kind(volume: &Volume) -> &'static str {
    let kinds = [
        (volume.csi.is_some(), "csi"),
        (volume.nfs.is_some(), "nfs"),
        (volume.iscsi.is_some(), "iscsi"),
        (volume.fc.is_some(), "fc"),
        (volume.git_repo.is_some(), "gitRepo"),
    ];
    kinds
        .iter()
        .find(|(is, _)| *is)
        .map_or("such", |(_, name)| name)
}

#[cfg(test)]
pub(super) mod testing {
    use serde_json::{Value, json};

    use super::*;

    pub fn inputs(dir: &Path, spec: Value) -> Inputs {
        let pod: Pod = serde_json::from_value(
            json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec}),
        )
        .unwrap();
        let allocatable = [(
            "memory".to_owned(),
            k8s_openapi::apimachinery::pkg::api::resource::Quantity("1Gi".to_owned()),
        )]
        .into();
        Inputs {
            pod: Arc::new(pod),
            dir: dir.to_owned(),
            sources: Sources::default(),
            tokens: Tokens::default(),
            claims: Claims::new(),
            before: None,
            node_ips: vec!["172.30.0.2".parse().unwrap()],
            pod_ips: vec![],
            allocatable: Arc::new(allocatable),
            now: Timestamp::UNIX_EPOCH,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::testing::inputs;
    use super::*;

    #[test]
    fn only_what_is_mounted_is_made() {
        let inputs = inputs(
            Path::new("/nowhere"),
            json!({
                "initContainers": [{"name": "i", "volumeMounts": [{"name": "a", "mountPath": "/a"}]}],
                "containers": [{"name": "c", "volumeMounts": [
                    {"name": "b", "mountPath": "/b"}, {"name": "img", "mountPath": "/img"},
                ], "volumeDevices": [{"name": "d", "devicePath": "/dev/d"}]}],
                "volumes": [
                    {"name": "a"}, {"name": "b"}, {"name": "unused"}, {"name": "d"},
                    {"name": "img", "image": {"reference": "x:1"}},
                ],
            }),
        );
        let names: Vec<&str> = used(&inputs.pod).iter().map(|v| v.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "d"]);
        assert!(is_device(&inputs.pod, "d") && !is_device(&inputs.pod, "b"));
    }

    #[test]
    fn an_empty_dir_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let inputs = inputs(dir.path(), json!({"containers": []}));
        let volume: Volume =
            serde_json::from_value(json!({"name": "scratch", "emptyDir": {}})).unwrap();
        let mounted = set_up(&volume, &inputs).unwrap();
        let want = dir.path().join("volumes/kubernetes.io~empty-dir/scratch");
        assert_eq!(mounted.path, want);
        std::fs::write(want.join("kept"), "").unwrap();
        set_up(&volume, &inputs).unwrap();
        assert!(want.join("kept").exists());
    }

    #[test]
    fn media() {
        let of = |source: Value| {
            let source = serde_json::from_value(source).unwrap();
            let inputs = inputs(Path::new("/"), json!({"containers": []}));
            medium(&source, &inputs.pod, &inputs.allocatable)
        };
        assert_eq!(of(json!({})).unwrap(), Medium::Disk);
        assert_eq!(
            of(json!({"medium": "Memory"})).unwrap(),
            Medium::Memory(Some(1 << 30))
        );
        assert_eq!(
            of(json!({"medium": "Memory", "sizeLimit": "1Mi"})).unwrap(),
            Medium::Memory(Some(1 << 20))
        );
        assert!(of(json!({"medium": "HugePages"})).is_err());
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let inputs = inputs(Path::new("/nowhere"), json!({"containers": []}));
        let volume: Volume =
            serde_json::from_value(json!({"name": "v", "csi": {"driver": "x"}})).unwrap();
        assert_eq!(
            set_up(&volume, &inputs).unwrap_err().to_string(),
            "csi volumes are not supported by this node"
        );
    }

    #[test]
    fn a_claimed_volume_is_made_once() {
        let mut inputs = inputs(Path::new("/nowhere"), json!({"containers": []}));
        let volume: Volume = serde_json::from_value(
            json!({"name": "v", "persistentVolumeClaim": {"claimName": "x"}}),
        )
        .unwrap();
        let unbound = ClaimError::Unbound("shop/x".into());
        inputs.claims = [("v".to_owned(), Err(unbound.clone()))].into();
        let refused = set_up(&volume, &inputs).unwrap_err();
        assert_eq!(refused.to_string(), unbound.to_string());
        let made = Mounted {
            path: "/srv".into(),
            read_only: false,
            block: false,
        };
        inputs.before = Some(Arc::new([("v".to_owned(), made.clone())].into()));
        assert_eq!(set_up(&volume, &inputs).unwrap(), made);
    }
}
