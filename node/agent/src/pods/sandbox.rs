//! From a pod to the sandbox the runtime is asked for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;
use vetch_runtime::{Owner, SandboxSpec, UserNamespace};

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
pub fn sandbox_spec(pod: &Pod, attempt: u32, hostname: String, log_root: &Path) -> SandboxSpec {
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
        user_namespace: (own.host_users == Some(false)).then_some(UserNamespace::Own),
        qos,
        cgroup_parent: None,
        resources: resources::pod(pod, qos),
        sysctls: sysctls
            .map(|sysctl| (sysctl.name.clone(), sysctl.value.clone()))
            .collect(),
        labels,
        // Nobody asks the runtime for them, and some are large.
        annotations: BTreeMap::new(),
        log_directory: log_directory(log_root, pod),
    }
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
            let spec = sandbox_spec(&pod, 0, "web".into(), Path::new("/logs"));
            assert_eq!(spec.user_namespace, want, "{host_users}");
        }
    }
}
