//! What the node has granted a pod: remembered in the pod's directory, so that
//! no other daemon grants it again.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use serde::{Deserialize, Serialize};

use crate::pods::spec;

const FILE: &str = "allocated.json";

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Allocation {
    /// By the container's name.
    containers: BTreeMap<String, ResourceRequirements>,
    /// What the pod asks for as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<ResourceRequirements>,
}

#[derive(Debug, thiserror::Error)]
pub enum AllocationError {
    #[error("{action} {path}", path = path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is damaged", path = path.display())]
    Damaged {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
}

impl Allocation {
    /// All that the spec asks for.
    pub fn of(pod: &Pod) -> Allocation {
        let containers = spec::all_containers(pod);
        Allocation {
            containers: containers
                .map(|container| (container.name.clone(), resources(container)))
                .collect(),
            pod: spec::spec(pod).resources.clone(),
        }
    }

    /// The pod with these resources instead of what it wants.
    pub fn applied(&self, pod: Arc<Pod>) -> Arc<Pod> {
        if *self == Allocation::of(&pod) {
            return pod;
        }
        let mut changed = Pod::clone(&pod);
        if let Some(spec) = &mut changed.spec {
            let init = spec.init_containers.iter_mut().flatten();
            for container in init.chain(&mut spec.containers) {
                match self.containers.get(&container.name) {
                    Some(own) if *own != resources(container) => {
                        container.resources = Some(own.clone());
                    }
                    _ => {}
                }
            }
            spec.resources.clone_from(&self.pod);
        }
        Arc::new(changed)
    }

    /// `None` when nothing was kept.
    pub fn read(dir: &Path) -> Result<Option<Allocation>, AllocationError> {
        let path = dir.join(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(failed("reading", &path)(source)),
        };
        match serde_json::from_slice(&text) {
            Ok(allocation) => Ok(Some(allocation)),
            Err(source) => Err(AllocationError::Damaged { path, source }),
        }
    }

    /// All or nothing, whatever kills us.
    pub fn write(&self, dir: &Path) -> Result<(), AllocationError> {
        let path = dir.join(FILE);
        let text = serde_json::to_vec(self).map_err(|source| AllocationError::Damaged {
            path: path.clone(),
            source,
        })?;
        std::fs::create_dir_all(dir).map_err(failed("making", dir))?;
        let temporary = path.with_extension("new");
        std::fs::write(&temporary, text).map_err(failed("writing", &temporary))?;
        std::fs::rename(&temporary, &path).map_err(failed("renaming", &path))
    }
}

fn resources(container: &Container) -> ResourceRequirements {
    container.resources.clone().unwrap_or_default()
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> AllocationError {
    let path = path.to_owned();
    move |source| AllocationError::Io {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::pods::testing::pod;

    fn sized(cpu: &str, whole: Option<Value>) -> Arc<Pod> {
        let resources = json!({"requests": {"cpu": cpu}});
        Arc::new(pod(json!({
            "initContainers": [{"name": "i", "resources": resources}],
            "containers": [{"name": "c", "image": "echo:v1", "resources": resources}, {"name": "silent"}],
            "resources": whole,
        })))
    }

    #[test]
    fn a_pod_with_what_it_was_granted() {
        let (granted, wanted) = (
            sized("1", None),
            sized("2", Some(json!({"limits": {"cpu": "3"}}))),
        );
        let allocation = Allocation::of(&granted);
        assert_eq!(allocation.applied(wanted.clone()), granted);
        assert_eq!(allocation.applied(granted.clone()), granted);
        assert_eq!(Allocation::of(&wanted).applied(granted), wanted);
    }

    #[test]
    fn it_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("pod");
        assert_eq!(Allocation::read(&dir).unwrap(), None);
        for pod in [
            sized("1", None),
            sized("2", Some(json!({"limits": {"cpu": "3"}}))),
        ] {
            let allocation = Allocation::of(&pod);
            allocation.write(&dir).unwrap();
            assert_eq!(Allocation::read(&dir).unwrap(), Some(allocation));
        }
        let files: Vec<_> = std::fs::read_dir(&dir).unwrap().collect();
        assert_eq!(files.len(), 1, "{files:?}");
        std::fs::write(dir.join(FILE), "{").unwrap();
        assert!(matches!(
            Allocation::read(&dir),
            Err(AllocationError::Damaged { .. })
        ));
    }
}
