//! From a run of a container to its log file.

use std::path::{Path, PathBuf};

use vetch_runtime::{ContainerId, ContainerState, ContainerStatus, SandboxId, SandboxStatus};

use super::select::Run;

/// A pod, as the names of its log directory have it.
#[derive(Clone, Copy, Debug)]
pub struct PodRef<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub uid: &'a str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    pub path: PathBuf,
    /// The container that may still write to it.
    pub live: Option<(SandboxId, ContainerId)>,
}

/// By the container's record, or where a record would have put it when it is
/// gone: containers are forgotten before their logs.
pub fn locate(
    run: &Run,
    sandboxes: &[SandboxStatus],
    pod_log_dir: &Path,
    pod: PodRef<'_>,
    container: &str,
) -> Located {
    let id = run
        .container_id
        .split_once("://")
        .map_or(run.container_id.as_str(), |(_, id)| id);
    for sandbox in sandboxes {
        let known = sandbox.containers.iter().find(|known| known.id.0 == id);
        if let Some(known) = known {
            return Located {
                path: sandbox.spec.log_directory.join(&known.log_path),
                live: may_write(known).then(|| (sandbox.id.clone(), known.id.clone())),
            };
        }
    }
    let dir = format!("{}_{}_{}", pod.namespace, pod.name, pod.uid);
    Located {
        path: pod_log_dir
            .join(dir)
            .join(container)
            .join(format!("{}.log", run.attempt)),
        live: None,
    }
}

pub fn may_write(container: &ContainerStatus) -> bool {
    matches!(
        container.state,
        ContainerState::Created | ContainerState::Running
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn records_first_then_names() {
        let sandbox: SandboxStatus = serde_json::from_value(json!({
            "id": "s", "state": "Ready", "created_at": "2026-01-01T00:00:00Z",
            "containers": [
                {
                    "id": "a", "name": "app", "attempt": 3, "state": "Running", "image": "i", "image_id": "i",
                    "created_at": "2026-01-01T00:00:00Z", "log_path": "app/3.log", "labels": {}, "annotations": {},
                },
                {
                    "id": "b", "name": "app", "attempt": 2, "state": "Exited", "image": "i", "image_id": "i",
                    "created_at": "2026-01-01T00:00:00Z", "log_path": "app/2.log", "labels": {}, "annotations": {},
                },
            ],
            "spec": {
                "pod_uid": "u", "name": "web", "namespace": "shop", "attempt": 0, "hostname": "web",
                "host_network": false, "host_ipc": false, "host_pid": false, "share_process_namespace": false,
                "qos": "BestEffort", "resources": {}, "sysctls": {}, "labels": {}, "annotations": {},
                "log_directory": "/elsewhere/shop_web_u",
            },
        }))
        .unwrap();
        let pod = PodRef {
            namespace: "shop",
            name: "web",
            uid: "u",
        };
        let find = |id: &str, attempt| {
            let run = Run {
                container_id: id.into(),
                attempt,
            };
            let found = locate(
                &run,
                std::slice::from_ref(&sandbox),
                Path::new("/logs"),
                pod,
                "app",
            );
            let live = found
                .live
                .map(|(sandbox, container)| format!("{sandbox}/{container}"));
            (found.path.display().to_string(), live)
        };
        let path = |path: &str| path.to_owned();
        assert_eq!(
            find("vetch://a", 0),
            (path("/elsewhere/shop_web_u/app/3.log"), Some("s/a".into()))
        );
        assert_eq!(
            find("vetch://b", 0),
            (path("/elsewhere/shop_web_u/app/2.log"), None)
        );
        assert_eq!(
            find("vetch://gone", 1),
            (path("/logs/shop_web_u/app/1.log"), None)
        );
    }
}
