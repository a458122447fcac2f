//! Volumes that pods claim: `local` and `hostPath`.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeSpec, Volume};
use rustix::mount::{MountFlags, mount_bind, mount_remount};

use super::ownership::{self, ChangePolicy};
use super::set_up::Inputs;
use super::{Mounted, VolumeError, host_path, mounts, payload};
use crate::pods::claims::Claimed;
use crate::pods::spec;

/// Blocks on disks.
pub fn set_up(volume: &Volume, claimed: &Claimed, inputs: &Inputs) -> Result<Mounted, VolumeError> {
    let read_only = claimed.read_only;
    let none = PersistentVolumeSpec::default();
    let spec = claimed.volume.spec.as_ref().unwrap_or(&none);
    if spec.volume_mode.as_deref() == Some("Block") {
        return Err(VolumeError::Block(volume.name.clone()));
    }
    let options = spec.mount_options.as_deref().unwrap_or_default();
    if let Some(source) = &spec.host_path {
        if !options.is_empty() {
            return Err(VolumeError::MountOptions);
        }
        let path = PathBuf::from(&source.path);
        host_path::check(&path, source.type_.as_deref().unwrap_or_default())?;
        return Ok(Mounted { path, read_only });
    }
    let Some(source) = &spec.local else {
        return Err(VolumeError::Unsupported(kind(&claimed.volume)));
    };
    let path = PathBuf::from(&source.path);
    check_local(&path)?;
    let path = match flags(options)? {
        flags if flags.is_empty() => path,
        flags => {
            let kind = "kubernetes.io~local-volume";
            let target = inputs.dir.join("volumes").join(kind).join(&volume.name);
            bind(&path, &target, flags)?;
            target
        }
    };
    let group = payload::fs_group(&inputs.pod).filter(|_| !read_only);
    if let Some(group) = group {
        let context = spec::spec(&inputs.pod).security_context.as_ref();
        let policy = context.and_then(|context| context.fs_group_change_policy.as_deref());
        let policy = match policy {
            Some("OnRootMismatch") => ChangePolicy::OnRootMismatch,
            _ => ChangePolicy::Always,
        };
        ownership::hand_over(&path, group, policy)?;
    }
    Ok(Mounted { path, read_only })
}

fn check_local(path: &Path) -> Result<(), VolumeError> {
    let refused = |what| {
        Err(VolumeError::Local {
            path: path.to_owned(),
            what,
        })
    };
    match fs::metadata(path).map(|meta| meta.file_type()) {
        Err(_) => refused("does not exist"),
        Ok(found) if found.is_dir() => Ok(()),
        Ok(found) if found.is_block_device() => refused(
            "is a block device, whose filesystem this node does not mount: mount it, and name its directory",
        ),
        Ok(_) => refused("is neither a directory nor a block device"),
    }
}

/// Of mount(8), those that a mount of a directory can have.
fn flags(options: &[String]) -> Result<MountFlags, VolumeError> {
    let mut flags = MountFlags::empty();
    for option in options.iter().flat_map(|option| option.split(',')) {
        flags |= match option.trim() {
            "" | "bind" | "defaults" | "rw" => MountFlags::empty(),
            "ro" => MountFlags::RDONLY,
            "nodev" => MountFlags::NODEV,
            "noexec" => MountFlags::NOEXEC,
            "nosuid" => MountFlags::NOSUID,
            "noatime" => MountFlags::NOATIME,
            "nodiratime" => MountFlags::NODIRATIME,
            "relatime" => MountFlags::RELATIME,
            other => return Err(VolumeError::MountOption(other.to_owned())),
        };
    }
    Ok(flags)
}

/// One that is there stays.
fn bind(path: &Path, target: &Path, flags: MountFlags) -> Result<(), VolumeError> {
    if mounts::is_mount_point(target) {
        return Ok(());
    }
    fs::create_dir_all(target).map_err(VolumeError::io("making", target))?;
    mount_bind(path, target).map_err(VolumeError::io("mounting at", target))?;
    let remounted = mount_remount(target, MountFlags::BIND | flags, c"");
    remounted.map_err(|error| {
        // Never with fewer restrictions than were asked for.
        let _ = mounts::detach(target);
        VolumeError::io("remounting", target)(error)
    })
}

/// For people: which kind it is that is not supported.
fn kind(volume: &PersistentVolume) -> &'static str {
    let Some(spec) = &volume.spec else {
        return "such";
    };
    let kinds = [
        (spec.csi.is_some(), "csi"),
        (spec.nfs.is_some(), "nfs"),
        (spec.iscsi.is_some(), "iscsi"),
        (spec.fc.is_some(), "fc"),
        (spec.cephfs.is_some(), "cephfs"),
        (spec.rbd.is_some(), "rbd"),
        (spec.flex_volume.is_some(), "flexVolume"),
    ];
    let found = kinds.iter().find(|(is, _)| *is);
    found.map_or("such", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::pods::volumes::set_up::testing::inputs;

    fn made(dir: &Path, spec: Value, read_only: bool) -> Result<Mounted, String> {
        let volume = serde_json::from_value(json!({"name": "data"})).unwrap();
        let pv = json!({"metadata": {"name": "v"}, "spec": spec});
        let claimed = Claimed {
            volume: Arc::new(serde_json::from_value(pv).unwrap()),
            read_only,
        };
        let inputs = inputs(&dir.join("pod"), json!({"containers": []}));
        set_up(&volume, &claimed, &inputs).map_err(|error| error.to_string())
    }

    #[test]
    fn what_a_claim_may_be_of() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("data")).unwrap();
        fs::write(path("file"), "").unwrap();
        let at = |name: &str, read_only| {
            Ok(Mounted {
                path: path(name),
                read_only,
            })
        };
        let shown = |name: &str| path(name).display().to_string();
        for (spec, read_only, wanted) in [
            (
                json!({"local": {"path": path("data")}}),
                false,
                at("data", false),
            ),
            (
                json!({"local": {"path": path("data")}}),
                true,
                at("data", true),
            ),
            (
                json!({"local": {"path": path("none")}}),
                false,
                Err(format!("local volume {} does not exist", shown("none"))),
            ),
            (
                json!({"local": {"path": path("file")}}),
                false,
                Err(format!(
                    "local volume {} is neither a directory nor a block device",
                    shown("file")
                )),
            ),
            (
                json!({"hostPath": {"path": path("new"), "type": "DirectoryOrCreate"}}),
                false,
                at("new", false),
            ),
            (
                json!({"hostPath": {"path": path("new"), "type": ""}, "mountOptions": ["ro"]}),
                false,
                Err("Mount options are not supported for this volume type".to_owned()),
            ),
            (
                json!({"local": {"path": path("data")}, "mountOptions": ["size=1"]}),
                false,
                Err("mount option \"size=1\" is not one of a directory's mount".to_owned()),
            ),
            (
                json!({"local": {"path": path("data")}, "volumeMode": "Block"}),
                false,
                Err(
                    "volume data has volumeMode Block, but is specified in volumeMounts".to_owned(),
                ),
            ),
            (
                json!({"nfs": {"server": "s", "path": "/p"}}),
                false,
                Err("nfs volumes are not supported by this node".to_owned()),
            ),
        ] {
            assert_eq!(made(dir.path(), spec.clone(), read_only), wanted, "{spec}");
        }
        assert!(path("new").is_dir());
    }

    #[test]
    fn mount_options_are_flags() {
        let of = |options: &[&str]| {
            let options: Vec<String> = options.iter().map(|own| (*own).to_owned()).collect();
            flags(&options).ok()
        };
        assert_eq!(of(&[]), Some(MountFlags::empty()));
        assert_eq!(of(&["rw", "defaults"]), Some(MountFlags::empty()));
        assert_eq!(
            of(&["ro,noexec", "nosuid"]),
            Some(MountFlags::RDONLY | MountFlags::NOEXEC | MountFlags::NOSUID)
        );
        assert_eq!(of(&["discard"]), None);
    }
}
