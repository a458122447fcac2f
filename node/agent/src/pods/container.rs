//! From a container of the pod's spec to what the runtime is asked for.

mod mounts;

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, Pod};
use vetch_runtime::{ContainerId, ContainerSpec, Device, ImageStatus, Mount, Resources};

use super::env::expand_by;
use super::security::Effective;
use super::spec;

pub use mounts::{
    Source as WantedSource, Wanted as WantedMount, devices, is_recursive_readonly,
    wanted as wanted_mounts,
};

/// Labels as CRI clients have them.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub const POD_UID: &str = "io.kubernetes.pod.uid";
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";

/// Annotations of a container: what is needed to report its end.
pub const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
/// The file on the node that is mounted at terminationMessagePath.
pub const MESSAGE_PATH: &str = "vetch.io/termination-message-file";
/// What a status reports as imageID.
pub const IMAGE_REF: &str = "vetch.io/image-ref";

/// The requests and limits the container was given, as JSON.
pub const RESOURCES: &str = "vetch.io/resources";

pub fn pod_labels(pod: &Pod) -> BTreeMap<String, String> {
    [
        (POD_NAME, spec::name(pod)),
        (POD_NAMESPACE, spec::namespace(pod)),
        (POD_UID, spec::uid(pod)),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// The parts a container is made of, all found out already.
pub struct Parts {
    pub attempt: u32,
    pub image: ImageStatus,
    pub env: Vec<(String, String)>,
    pub mounts: Vec<Mount>,
    pub devices: Vec<Device>,
    pub security: Effective,
    pub resources: Resources,
    /// The container whose PID namespace it joins.
    pub target: Option<ContainerId>,
    /// Of the termination message, where one is mounted.
    pub message_file: Option<PathBuf>,
}

pub fn container_spec(pod: &Pod, container: &Container, parts: Parts) -> ContainerSpec {
    let expanded = |words: &Option<Vec<String>>| {
        let words = words.iter().flatten();
        words.map(|word| expand_by(word, &parts.env)).collect()
    };
    let mut labels = pod_labels(pod);
    labels.insert(CONTAINER_NAME.to_owned(), container.name.clone());
    let policy = container.termination_message_policy.clone();
    let image_ref = parts.image.repo_digests.first().unwrap_or(&parts.image.id);
    let mut annotations = BTreeMap::from([
        (IMAGE_REF.to_owned(), image_ref.clone()),
        (
            MESSAGE_POLICY.to_owned(),
            policy.unwrap_or_else(|| "File".to_owned()),
        ),
    ]);
    let resources = container.resources.clone().unwrap_or_default();
    // Names and quantities always have a JSON form.
    let resources = serde_json::to_string(&resources).unwrap_or_default();
    annotations.insert(RESOURCES.to_owned(), resources);
    if let Some(file) = &parts.message_file {
        annotations.insert(MESSAGE_PATH.to_owned(), file.display().to_string());
    }
    let lifecycle = container.lifecycle.as_ref();
    let unmasked = parts.security.unmasked_proc;
    ContainerSpec {
        name: container.name.clone(),
        attempt: parts.attempt,
        image_id: parts.image.id.clone(),
        image: container.image.clone().unwrap_or_default(),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone(),
        mounts: parts.mounts,
        devices: parts.devices,
        run_as_user: parts.security.run_as_user,
        run_as_user_name: None,
        run_as_group: parts.security.run_as_group,
        supplemental_groups: parts.security.supplemental_groups,
        only_given_groups: parts.security.only_given_groups,
        capabilities_add: parts.security.capabilities_add,
        capabilities_drop: parts.security.capabilities_drop,
        capabilities_ambient: Vec::new(),
        privileged: parts.security.privileged,
        no_new_privs: parts.security.no_new_privs,
        readonly_rootfs: parts.security.readonly_rootfs,
        masked_paths: unmasked.then(Vec::new),
        readonly_paths: unmasked.then(Vec::new),
        seccomp: parts.security.seccomp,
        apparmor: parts.security.apparmor,
        tty: container.tty.unwrap_or(false),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        pid_target: parts.target.filter(|_| spec::isolates_processes(pod)),
        resources: parts.resources,
        labels,
        annotations,
        log_path: PathBuf::from(&container.name).join(format!("{}.log", parts.attempt)),
        stop_signal: lifecycle.and_then(|lifecycle| lifecycle.stop_signal.clone()),
        env: parts.env,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_whole_container() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u"},
            "spec": {"containers": [{
                "name": "app", "image": "echo:v1", "command": ["run", "$(MODE)"], "args": ["$$(MODE)", "$(NO)"],
                "workingDir": "/w", "tty": true, "stdin": true, "stdinOnce": true,
                "terminationMessagePolicy": "FallbackToLogsOnError", "lifecycle": {"stopSignal": "SIGINT"},
                "resources": {"limits": {"cpu": "1"}},
            }]},
        }))
        .unwrap();
        let parts = Parts {
            attempt: 2,
            image: ImageStatus {
                id: "sha256:1".into(),
                repo_tags: vec![],
                repo_digests: vec!["echo@sha256:2".into()],
                size_bytes: 0,
                entrypoint: vec![],
                cmd: vec![],
                env: vec![],
                working_dir: String::new(),
                user: String::new(),
                stop_signal: None,
            },
            env: vec![("MODE".into(), "fast".into())],
            mounts: vec![],
            devices: vec![],
            security: Effective::default(),
            resources: Resources::default(),
            target: Some(ContainerId("t".into())),
            message_file: Some("/m".into()),
        };
        let made = container_spec(&pod, &spec::containers(&pod)[0], parts);
        assert_eq!(made.command, ["run", "fast"]);
        assert_eq!(made.args, ["$(MODE)", "$(NO)"]);
        assert_eq!(made.log_path, PathBuf::from("app/2.log"));
        assert_eq!(made.image_id, "sha256:1");
        assert_eq!(made.stop_signal.as_deref(), Some("SIGINT"));
        assert!(made.tty && made.stdin && made.stdin_once);
        assert_eq!(made.labels[CONTAINER_NAME], "app");
        assert_eq!(made.labels[POD_UID], "u");
        assert_eq!(made.annotations[IMAGE_REF], "echo@sha256:2");
        assert_eq!(made.annotations[MESSAGE_PATH], "/m");
        assert_eq!(made.pid_target, Some(ContainerId("t".into())));
        assert_eq!(made.annotations[RESOURCES], r#"{"limits":{"cpu":"1"}}"#);
    }
}
