//! Volumes that pods claim: `local` and `hostPath`.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeSpec, Volume};
use rustix::mount::{MountFlags, mount_bind, mount_remount};

use super::ownership::{self, ChangePolicy};
use super::set_up::Inputs;
use super::{Mounted, VolumeError, disk, host_path, is_device, mounts, payload};
use crate::pods::claims::Claimed;
use crate::pods::spec;

/// Blocks on disks.
pub fn set_up(volume: &Volume, claimed: &Claimed, inputs: &Inputs) -> Result<Mounted, VolumeError> {
    let read_only = claimed.read_only;
    let directory = |path| Mounted {
        path,
        read_only,
        block: false,
    };
    let none = PersistentVolumeSpec::default();
    let spec = claimed.volume.spec.as_ref().unwrap_or(&none);
    let block = spec.volume_mode.as_deref() == Some("Block");
    match (block, is_device(&inputs.pod, &volume.name)) {
        (true, false) => return Err(VolumeError::Block(volume.name.clone())),
        (false, true) => return Err(VolumeError::FileSystem(volume.name.clone())),
        _ => {}
    }
    let options = spec.mount_options.as_deref().unwrap_or_default();
    if let Some(source) = &spec.host_path {
        if block {
            return Err(VolumeError::BlockHostPath);
        }
        if !options.is_empty() {
            return Err(VolumeError::MountOptions);
        }
        let path = PathBuf::from(&source.path);
        host_path::check(&path, source.type_.as_deref().unwrap_or_default())?;
        return Ok(directory(path));
    }
    let Some(source) = &spec.local else {
        return Err(VolumeError::Unsupported(kind(&claimed.volume)));
    };
    let path = PathBuf::from(&source.path);
    let is_disk = check_local(&path, block)?;
    if block {
        return Ok(Mounted {
            path,
            read_only,
            block,
        });
    }
    let kind = "kubernetes.io~local-volume";
    let target = inputs.dir.join("volumes").join(kind).join(&volume.name);
    let (flags, others) = split(options);
    let path = if is_disk {
        disk::mount_at(&path, &target, source.fs_type.as_deref(), flags, &others)?;
        target
    } else if let Some(other) = others.into_iter().next() {
        return Err(VolumeError::MountOption(other));
    } else if flags.is_empty() {
        path
    } else {
        bind(&path, &target, flags)?;
        target
    };
    let writes = !read_only && !flags.contains(MountFlags::RDONLY);
    let group = payload::fs_group(&inputs.pod).filter(|_| writes);
    if let Some(group) = group {
        let context = spec::spec(&inputs.pod).security_context.as_ref();
        let policy = context.and_then(|context| context.fs_group_change_policy.as_deref());
        let policy = match policy {
            Some("OnRootMismatch") => ChangePolicy::OnRootMismatch,
            _ => ChangePolicy::Always,
        };
        ownership::hand_over(&path, group, policy)?;
    }
    Ok(directory(path))
}

/// Whether it is a block device, which one of volumeMode Block has to be.
fn check_local(path: &Path, block: bool) -> Result<bool, VolumeError> {
    let refused = |what| {
        Err(VolumeError::Local {
            path: path.to_owned(),
            what,
        })
    };
    match fs::metadata(path).map(|meta| meta.file_type()) {
        Err(_) => refused("does not exist"),
        Ok(found) if found.is_block_device() => Ok(true),
        Ok(_) if block => refused("is no block device, and its volumeMode is Block"),
        Ok(found) if found.is_dir() => Ok(false),
        Ok(_) => refused("is neither a directory nor a block device"),
    }
}

/// Of mount(8): those that every mount can have, and a file system's own.
fn split(options: &[String]) -> (MountFlags, Vec<String>) {
    let (mut flags, mut others) = (MountFlags::empty(), Vec::new());
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
            other => {
                others.push(other.to_owned());
                continue;
            }
        };
    }
    (flags, others)
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
                block: false,
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
                json!({"hostPath": {"path": path("data")}, "volumeMode": "Block"}),
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
    fn a_device_is_one_of_volume_mode_block() {
        let dir = tempfile::tempdir().unwrap();
        let made = |spec: Value| {
            let volume = serde_json::from_value(json!({"name": "data"})).unwrap();
            let pv = json!({"metadata": {"name": "v"}, "spec": spec});
            let claimed = Claimed {
                volume: Arc::new(serde_json::from_value(pv).unwrap()),
                read_only: true,
            };
            let containers =
                json!([{"name": "c", "volumeDevices": [{"name": "data", "devicePath": "/dev/d"}]}]);
            let inputs = inputs(dir.path(), json!({"containers": containers}));
            set_up(&volume, &claimed, &inputs).map_err(|error| error.to_string())
        };
        let here = dir.path().display().to_string();
        for (spec, told) in [
            (
                json!({"local": {"path": here}}),
                "volume data has volumeMode Filesystem, but is specified in volumeDevices"
                    .to_owned(),
            ),
            (
                json!({"local": {"path": here}, "volumeMode": "Block"}),
                format!("local volume {here} is no block device, and its volumeMode is Block"),
            ),
            (
                json!({"hostPath": {"path": here}, "volumeMode": "Block"}),
                "hostPath volumes have no volumeMode Block: local ones have".to_owned(),
            ),
        ] {
            assert_eq!(made(spec.clone()), Err(told), "{spec}");
        }
    }

    #[test]
    fn mount_options_are_flags() {
        let of = |options: &[&str]| {
            let options: Vec<String> = options.iter().map(|own| (*own).to_owned()).collect();
            split(&options)
        };
        assert_eq!(of(&[]), (MountFlags::empty(), vec![]));
        assert_eq!(of(&["rw", "defaults"]), (MountFlags::empty(), vec![]));
        assert_eq!(
            of(&["ro,noexec", "nosuid"]),
            (
                MountFlags::RDONLY | MountFlags::NOEXEC | MountFlags::NOSUID,
                vec![]
            )
        );
        let (flags, others) = of(&["discard,noatime", "data=ordered"]);
        assert_eq!(
            (flags, others.join(" ")),
            (MountFlags::NOATIME, "discard data=ordered".into())
        );
    }
}
