//! From a pod to the sandbox the runtime is asked for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;
use vetch_runtime::{Owner, Resources, SandboxSpec, UserNamespace};

use super::PodsConfig;
use super::container::pod_labels;
use super::resources;
use super::spec;

/// Where the logs of a pod are.
pub fn log_directory(root: &Path, pod: &Pod) -> PathBuf {
    root.join(format!(
        "{}_{}_{}",
        spec::namespace(pod),
        spec::name(pod),
        spec::uid(pod)
    ))
}

/// `hostname` is what the pod's UTS namespace is given.
pub fn sandbox_spec(pod: &Pod, attempt: u32, hostname: String, config: &PodsConfig) -> SandboxSpec {
    let own = spec::spec(pod);
    let qos = resources::class(pod);
    let meta = &pod.metadata;
    let mut labels: BTreeMap<String, String> = meta.labels.clone().unwrap_or_default();
    labels.extend(pod_labels(pod));
    let sysctls = own
        .security_context
        .iter()
        .flat_map(|context| context.sysctls.iter().flatten());
    SandboxSpec {
        owner: Owner::Node,
        pod_uid: spec::uid(pod).to_owned(),
        name: spec::name(pod).to_owned(),
        namespace: spec::namespace(pod).to_owned(),
        attempt,
        hostname,
        host_network: spec::host_network(pod),
        host_ipc: own.host_ipc.unwrap_or(false),
        host_pid: own.host_pid.unwrap_or(false),
        share_process_namespace: own.share_process_namespace.unwrap_or(false),
        user_namespace: user_namespace(pod),
        qos,
        cgroup_parent: None,
        resources: Resources {
            pids_max: config.pod_max_pids,
            ..resources::pod(pod, qos, config.memory_qos.as_ref())
        },
        sysctls: sysctls
            .map(|sysctl| (sysctl.name.clone(), sysctl.value.clone()))
            .collect(),
        labels,
        // Nobody asks the runtime for them, and some are large.
        annotations: BTreeMap::new(),
        log_directory: log_directory(&config.pod_log_dir, pod),
    }
}

fn user_namespace(pod: &Pod) -> Option<UserNamespace> {
    (spec::spec(pod).host_users == Some(false)).then_some(UserNamespace::Own)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pods::testing::pod;

    #[test]
    fn users_of_its_own() {
        for (host_users, want) in [
            (json!(null), None),
            (json!(true), None),
            (json!(false), Some(UserNamespace::Own)),
        ] {
            let pod = pod(json!({"containers": [], "hostUsers": host_users}));
            assert_eq!(user_namespace(&pod), want, "{host_users}");
        }
    }
}
