//! Which of the pod's volumes a container sees, and where.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, VolumeMount};
use vetch_runtime::{Device, DeviceAccess, Propagation};

use crate::pods::env::expand;
use crate::pods::volumes::MountedVolumes;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    #[error("cannot find volume \"{volume}\" to mount into container \"{container}\"")]
    Volume { volume: String, container: String },
    #[error("missing value for \"{0}\"")]
    Expression(String),
    #[error("error SubPath `{0}` must not be an absolute path")]
    AbsoluteSubPath(String),
    #[error("unable to provision SubPath `{0}`: must not contain '..'")]
    SubPath(String),
    #[error("invalid MountPropagation mode: \"{0}\"")]
    Propagation(String),
    #[error("image volume \"{0}\" has no mountPropagation Bidirectional")]
    ImagePropagation(String),
}

/// A volume's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Directory(PathBuf),
    /// An image in the store, by its id. Nobody writes to it.
    Image(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub volume: String,
    pub source: Source,
    /// The part of it that is mounted.
    pub sub_path: Option<PathBuf>,
    pub container_path: PathBuf,
    pub readonly: bool,
    pub recursive_readonly: bool,
    pub propagation: Propagation,
}

/// `images`: ids, by the names of the image volumes that the container mounts.
pub fn wanted(
    container: &Container,
    volumes: &MountedVolumes,
    images: &BTreeMap<String, String>,
    env: &[(String, String)],
) -> Result<Vec<Wanted>, MountError> {
    let mounts = container.volume_mounts.iter().flatten();
    mounts
        .map(|mount| {
            let propagation = propagation(mount)?;
            let (source, read_only) = match (images.get(&mount.name), volumes.get(&mount.name)) {
                (Some(_), _) if propagation == Propagation::Bidirectional => {
                    return Err(MountError::ImagePropagation(mount.name.clone()));
                }
                (Some(image), _) => (Source::Image(image.clone()), true),
                (None, Some(volume)) => (Source::Directory(volume.path.clone()), volume.read_only),
                (None, None) => {
                    return Err(MountError::Volume {
                        volume: mount.name.clone(),
                        container: container.name.clone(),
                    });
                }
            };
            Ok(Wanted {
                volume: mount.name.clone(),
                source,
                sub_path: sub_path(mount, env)?,
                container_path: Path::new("/").join(&mount.mount_path),
                readonly: read_only || mount.read_only.unwrap_or(false),
                recursive_readonly: is_recursive_readonly(mount),
                propagation,
            })
        })
        .collect()
}

/// The container's volumes that are block devices.
pub fn devices(container: &Container, volumes: &MountedVolumes) -> Result<Vec<Device>, MountError> {
    let devices = container.volume_devices.iter().flatten();
    devices
        .map(|device| {
            let volume = volumes.get(&device.name).filter(|volume| volume.block);
            let volume = volume.ok_or_else(|| MountError::Volume {
                volume: device.name.clone(),
                container: container.name.clone(),
            })?;
            Ok(Device {
                host_path: volume.path.clone(),
                container_path: Path::new("/").join(&device.device_path),
                // The kubelet's.
                access: DeviceAccess {
                    read: true,
                    write: !volume.read_only,
                    make: !volume.read_only,
                },
            })
        })
        .collect()
}

/// Whether what is mounted below is read-only too (KEP-3857): wished for where it is possible, it
/// is so, as every kernel that runs here can (5.12).
pub fn is_recursive_readonly(mount: &VolumeMount) -> bool {
    let wish = mount.recursive_read_only.as_deref();
    mount.read_only == Some(true) && matches!(wish, Some("Enabled" | "IfPossible"))
}

fn propagation(mount: &VolumeMount) -> Result<Propagation, MountError> {
    match mount.mount_propagation.as_deref() {
        None | Some("None" | "") => Ok(Propagation::Private),
        Some("HostToContainer") => Ok(Propagation::HostToContainer),
        Some("Bidirectional") => Ok(Propagation::Bidirectional),
        Some(other) => Err(MountError::Propagation(other.to_owned())),
    }
}

fn sub_path(mount: &VolumeMount, env: &[(String, String)]) -> Result<Option<PathBuf>, MountError> {
    let set = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
    let text = match set(&mount.sub_path_expr) {
        Some(expression) => {
            let missing = std::cell::Cell::new(None);
            let text = expand(&expression, |name| {
                let found = env.iter().rev().find(|(known, _)| known == name);
                if found.is_none() {
                    missing.set(Some(name.to_owned()));
                }
                found.map(|(_, value)| value.clone())
            });
            if let Some(name) = missing.take() {
                return Err(MountError::Expression(name));
            }
            text
        }
        None => match set(&mount.sub_path) {
            Some(text) => text,
            None => return Ok(None),
        },
    };
    if text.starts_with('/') {
        return Err(MountError::AbsoluteSubPath(text));
    }
    if text.split('/').any(|part| part == "..") {
        return Err(MountError::SubPath(text));
    }
    Ok((!text.is_empty()).then(|| text.into()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::pods::volumes::Mounted;

    fn make(mount: Value) -> Result<Wanted, MountError> {
        let container =
            serde_json::from_value(json!({"name": "c", "volumeMounts": [mount]})).unwrap();
        let volume = |name: &str, read_only| {
            let path = PathBuf::from(format!("/v/{name}"));
            let made = Mounted {
                path,
                read_only,
                block: false,
            };
            (name.to_owned(), made)
        };
        let volumes = [volume("a", false), volume("cfg", true)].into();
        let images = [("img".to_owned(), "sha256:1".to_owned())].into();
        let env = [("POD".to_owned(), "web".to_owned())];
        wanted(&container, &volumes, &images, &env).map(|mut all| all.remove(0))
    }

    #[test]
    fn devices_of_a_container() {
        let made = |name: &str, read_only, block| {
            let path = PathBuf::from(format!("/dev/{name}"));
            let made = Mounted {
                path,
                read_only,
                block,
            };
            (name.to_owned(), made)
        };
        let volumes = [
            made("sda", false, true),
            made("sdb", true, true),
            made("dir", false, false),
        ];
        let of = |name: &str| {
            let container = serde_json::from_value(json!({
                "name": "c", "volumeDevices": [{"name": name, "devicePath": "/dev/xvda"}],
            }))
            .unwrap();
            devices(&container, &volumes.clone().into()).map(|all| {
                let device = &all[0];
                let host = device.host_path.display().to_string();
                assert_eq!(device.container_path, Path::new("/dev/xvda"));
                (host, device.access.write, device.access.make)
            })
        };
        assert_eq!(of("sda"), Ok(("/dev/sda".into(), true, true)));
        assert_eq!(of("sdb"), Ok(("/dev/sdb".into(), false, false)));
        assert!(of("dir").is_err() && of("none").is_err());
    }

    #[test]
    fn mounts_of_a_container() {
        let base = Wanted {
            volume: "a".into(),
            source: Source::Directory("/v/a".into()),
            sub_path: None,
            container_path: "/m".into(),
            readonly: false,
            recursive_readonly: false,
            propagation: Propagation::Private,
        };
        for (mount, want) in [
            (json!({"name": "a", "mountPath": "/m"}), Ok(base.clone())),
            (json!({"name": "a", "mountPath": "m"}), Ok(base.clone())),
            (
                json!({"name": "a", "mountPath": "/m", "readOnly": true, "mountPropagation": "Bidirectional"}),
                Ok(Wanted {
                    readonly: true,
                    propagation: Propagation::Bidirectional,
                    ..base.clone()
                }),
            ),
            (
                json!({"name": "cfg", "mountPath": "/m", "subPath": "x/y"}),
                Ok(Wanted {
                    volume: "cfg".into(),
                    source: Source::Directory("/v/cfg".into()),
                    sub_path: Some("x/y".into()),
                    readonly: true,
                    ..base.clone()
                }),
            ),
            (
                json!({"name": "a", "mountPath": "/m", "subPathExpr": "logs/$(POD)"}),
                Ok(Wanted {
                    sub_path: Some("logs/web".into()),
                    ..base.clone()
                }),
            ),
            (
                json!({"name": "a", "mountPath": "/m", "subPathExpr": "$(NO)"}),
                Err(MountError::Expression("NO".into())),
            ),
            (
                json!({"name": "a", "mountPath": "/m", "subPath": "/x"}),
                Err(MountError::AbsoluteSubPath("/x".into())),
            ),
            (
                json!({"name": "a", "mountPath": "/m", "subPath": "x/../y"}),
                Err(MountError::SubPath("x/../y".into())),
            ),
            (
                json!({"name": "img", "mountPath": "/m", "subPathExpr": "$(POD)/x"}),
                Ok(Wanted {
                    volume: "img".into(),
                    source: Source::Image("sha256:1".into()),
                    sub_path: Some("web/x".into()),
                    readonly: true,
                    ..base.clone()
                }),
            ),
            (
                json!({"name": "img", "mountPath": "/m", "mountPropagation": "Bidirectional"}),
                Err(MountError::ImagePropagation("img".into())),
            ),
            (
                json!({"name": "img", "mountPath": "/m", "subPath": "../x"}),
                Err(MountError::SubPath("../x".into())),
            ),
            (
                json!({"name": "none", "mountPath": "/m"}),
                Err(MountError::Volume {
                    volume: "none".into(),
                    container: "c".into(),
                }),
            ),
            (
                json!({"name": "a", "mountPath": "/m", "readOnly": true, "recursiveReadOnly": "Enabled"}),
                Ok(Wanted {
                    readonly: true,
                    recursive_readonly: true,
                    ..base.clone()
                }),
            ),
            (
                json!({"name": "a", "mountPath": "/m", "readOnly": true, "recursiveReadOnly": "Disabled"}),
                Ok(Wanted {
                    readonly: true,
                    ..base.clone()
                }),
            ),
        ] {
            assert_eq!(make(mount.clone()), want, "{mount}");
        }
    }
}
