//! Reading a pod's spec: defaults filled in, so that no caller repeats them.

use std::borrow::Cow;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Probe};

use super::ephemeral;

/// An empty one stands for a missing spec, which no server sends.
static NO_SPEC: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);

pub fn spec(pod: &Pod) -> &PodSpec {
    pod.spec.as_ref().unwrap_or(&NO_SPEC)
}

pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

pub fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or("default")
}

pub fn phase(pod: &Pod) -> &str {
    let status = pod.status.as_ref();
    status
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Pending")
}

pub fn is_terminal(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

pub fn is_deleted(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

pub fn containers(pod: &Pod) -> &[Container] {
    &spec(pod).containers
}

pub fn init_containers(pod: &Pod) -> &[Container] {
    spec(pod).init_containers.as_deref().unwrap_or_default()
}

/// Those the pod is made of: init containers first, in the order of the spec.
pub fn all_containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    init_containers(pod).iter().chain(containers(pod))
}

pub fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    all_containers(pod).find(|container| container.name == name)
}

/// An ephemeral one as well.
pub fn any_container<'a>(pod: &'a Pod, name: &str) -> Option<Cow<'a, Container>> {
    let added = || ephemeral::containers(pod).into_iter();
    let own = container(pod, name).map(Cow::Borrowed);
    own.or_else(|| added().find(|own| own.name == name).map(Cow::Owned))
}

/// An init container that goes on running beside the others.
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

pub fn host_network(pod: &Pod) -> bool {
    spec(pod).host_network.unwrap_or(false)
}

/// Containers do not see each other's processes.
pub fn isolates_processes(pod: &Pod) -> bool {
    let own = spec(pod);
    own.host_pid != Some(true) && own.share_process_namespace != Some(true)
}

pub fn restart_policy(pod: &Pod) -> &str {
    spec(pod).restart_policy.as_deref().unwrap_or("Always")
}

/// The time the pod's containers have to end, as far as the pod says.
pub fn grace(pod: &Pod) -> Duration {
    let deletion = pod.metadata.deletion_grace_period_seconds;
    let seconds = deletion
        .or(spec(pod).termination_grace_period_seconds)
        .unwrap_or(30);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// What the API server defaults, for pods of servers that do not.
pub fn pull_policy<'a>(policy: Option<&'a str>, image: &str) -> &'a str {
    match policy {
        Some(policy) if !policy.is_empty() => policy,
        _ if has_latest_tag(image) => "Always",
        _ => "IfNotPresent",
    }
}

fn has_latest_tag(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    last.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

/// Seconds of a probe's field, with the API's default.
pub fn probe_seconds(field: Option<i32>, default: u64) -> Duration {
    let seconds = field.and_then(|seconds| u64::try_from(seconds).ok());
    Duration::from_secs(seconds.unwrap_or(default))
}

pub fn probe_period(probe: &Probe) -> Duration {
    probe_seconds(probe.period_seconds.filter(|period| *period > 0), 10)
}

pub fn probe_timeout(probe: &Probe) -> Duration {
    probe_seconds(probe.timeout_seconds.filter(|timeout| *timeout > 0), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pull_policies_by_tag() {
        for (image, policy, want) in [
            ("busybox", None, "Always"),
            ("busybox:latest", None, "Always"),
            ("busybox:1.36", None, "IfNotPresent"),
            ("localhost:5000/busybox", None, "Always"),
            ("localhost:5000/busybox:1", None, "IfNotPresent"),
            ("busybox@sha256:00", None, "IfNotPresent"),
            ("busybox", Some("Never"), "Never"),
            ("busybox:1", Some(""), "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(policy, image), want, "{image} {policy:?}");
        }
    }
}
