//! Ending a pod: in which order its containers are killed, and how long each
//! has. Decisions only.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod};
use vetch_runtime::ContainerStatus;

use super::plan::KillReason;
use super::spec;

/// A container always has time to hear its stop signal, as the kubelet has it.
pub const MIN_GRACE: Duration = Duration::from_secs(2);

/// The time one container has when it alone is killed.
pub fn container_grace(pod: &Pod, container: &Container, reason: KillReason) -> Duration {
    if pod.metadata.deletion_grace_period_seconds.is_some() {
        return spec::grace(pod);
    }
    let probe = match reason {
        KillReason::Liveness => container.liveness_probe.as_ref(),
        KillReason::Startup => container.startup_probe.as_ref(),
        KillReason::Resize | KillReason::RestartAll | KillReason::Other => None,
    };
    let own = probe.and_then(|probe| probe.termination_grace_period_seconds);
    match own.and_then(|seconds| u64::try_from(seconds).ok()) {
        Some(seconds) => Duration::from_secs(seconds),
        None => spec::grace(pod),
    }
}

/// Of the whole pod: at least a second, also when it was deleted by force.
pub fn pod_grace(pod: &Pod) -> Duration {
    spec::grace(pod).max(Duration::from_secs(1))
}

/// What is left for the stop signal after the hook.
pub fn after_hook(grace: Duration, hook: Duration) -> Duration {
    grace.saturating_sub(hook).max(MIN_GRACE)
}

/// The living containers in the order they are stopped: all regular and
/// ephemeral ones at once, then sidecars one by one, the last first.
pub fn turns<'a>(pod: &Pod, alive: &[&'a ContainerStatus]) -> Vec<Vec<&'a ContainerStatus>> {
    let sidecars: Vec<&str> = spec::init_containers(pod)
        .iter()
        .filter(|container| spec::is_sidecar(container))
        .map(|container| container.name.as_str())
        .collect();
    let (late, first): (Vec<&ContainerStatus>, Vec<&ContainerStatus>) = alive
        .iter()
        .partition(|status| sidecars.contains(&status.name.as_str()));
    let mut turns = vec![first];
    for name in sidecars.iter().rev() {
        turns.push(
            late.iter()
                .copied()
                .filter(|status| status.name == *name)
                .collect(),
        );
    }
    turns.retain(|turn| !turn.is_empty());
    turns
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use vetch_runtime::ContainerState;

    use super::*;
    use crate::pods::testing;

    fn pod(metadata: Value, spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    #[test]
    fn how_long_one_container_has() {
        let probe = json!({"terminationGracePeriodSeconds": 3});
        let container = json!({"name": "c", "livenessProbe": probe, "startupProbe": {}});
        for (metadata, spec, reason, want) in [
            (json!({}), json!({}), KillReason::Other, 30),
            (json!({}), json!({}), KillReason::Liveness, 3),
            (
                json!({}),
                json!({"terminationGracePeriodSeconds": 7}),
                KillReason::Startup,
                7,
            ),
            (
                json!({"deletionGracePeriodSeconds": 9}),
                json!({"terminationGracePeriodSeconds": 7}),
                KillReason::Liveness,
                9,
            ),
        ] {
            let mut spec = spec;
            spec["containers"] = json!([container]);
            let pod = pod(metadata.clone(), spec.clone());
            let got = container_grace(&pod, &spec::containers(&pod)[0], reason);
            assert_eq!(got.as_secs(), want, "{metadata} {spec} {reason:?}");
        }
    }

    #[test]
    fn how_long_a_pod_has() {
        for (deletion, own, want) in [
            (json!(null), json!(null), 30),
            (json!(null), json!(5), 5),
            (json!(0), json!(5), 1),
            (json!(9), json!(5), 9),
        ] {
            let pod = pod(
                json!({"deletionGracePeriodSeconds": deletion}),
                json!({"terminationGracePeriodSeconds": own, "containers": []}),
            );
            assert_eq!(pod_grace(&pod).as_secs(), want, "{deletion} {own}");
        }
        let seconds = Duration::from_secs;
        assert_eq!(after_hook(seconds(30), seconds(10)), seconds(20));
        assert_eq!(after_hook(seconds(5), seconds(5)), MIN_GRACE);
    }

    #[test]
    fn sidecars_end_last_and_in_reverse() {
        let pod = pod(
            json!({}),
            json!({
                "initContainers": [{"name": "s1", "restartPolicy": "Always"}, {"name": "i"}, {"name": "s2", "restartPolicy": "Always"}],
                "containers": [{"name": "a"}, {"name": "b"}],
                "ephemeralContainers": [{"name": "d"}],
            }),
        );
        let alive: Vec<ContainerStatus> = ["s1", "s2", "a", "b", "d"]
            .iter()
            .map(|name| testing::container(name, 0, ContainerState::Running))
            .collect();
        let refs: Vec<&ContainerStatus> = alive.iter().collect();
        let names: Vec<Vec<&str>> = turns(&pod, &refs)
            .into_iter()
            .map(|turn| {
                turn.into_iter()
                    .map(|status| status.name.as_str())
                    .collect()
            })
            .collect();
        assert_eq!(names, [vec!["a", "b", "d"], vec!["s2"], vec!["s1"]]);
        assert!(turns(&pod, &[]).is_empty());
    }
}
