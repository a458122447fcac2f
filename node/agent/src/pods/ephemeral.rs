//! Ephemeral containers, those that are added to a pod that runs: the API has a type of its own for them, to a node
//! they are containers that may have a target.

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod};

use super::spec;

fn all(pod: &Pod) -> impl Iterator<Item = &EphemeralContainer> {
    spec::spec(pod).ephemeral_containers.iter().flatten()
}

/// In the order of the spec.
pub fn containers(pod: &Pod) -> Vec<Container> {
    all(pod).cloned().map(as_container).collect()
}

pub fn is_one(pod: &Pod, name: &str) -> bool {
    all(pod).any(|own| own.name == name)
}

/// The container whose processes the ephemeral one of this name wants to see.
pub fn target<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let own = all(pod).find(|own| own.name == name)?;
    let target = own.target_container_name.as_deref();
    target.filter(|target| !target.is_empty())
}

/// Without a rest, so that a field a later API adds is not forgotten.
fn as_container(own: EphemeralContainer) -> Container {
    let EphemeralContainer {
        args,
        command,
        env,
        env_from,
        image,
        image_pull_policy,
        lifecycle,
        liveness_probe,
        name,
        ports,
        readiness_probe,
        resize_policy,
        resources,
        restart_policy,
        restart_policy_rules,
        security_context,
        startup_probe,
        stdin,
        stdin_once,
        target_container_name: _,
        termination_message_path,
        termination_message_policy,
        tty,
        volume_devices,
        volume_mounts,
        working_dir,
    } = own;
    Container {
        args,
        command,
        env,
        env_from,
        image,
        image_pull_policy,
        lifecycle,
        liveness_probe,
        name,
        ports,
        readiness_probe,
        resize_policy,
        resources,
        restart_policy,
        restart_policy_rules,
        security_context,
        startup_probe,
        stdin,
        stdin_once,
        termination_message_path,
        termination_message_policy,
        tty,
        volume_devices,
        volume_mounts,
        working_dir,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pods::testing::pod;

    #[test]
    fn their_targets() {
        let pod = pod(
            json!({"containers": [{"name": "app"}], "ephemeralContainers": [
                {"name": "one", "image": "echo:v1", "targetContainerName": "app"},
                {"name": "two", "targetContainerName": ""}, {"name": "three"},
            ]}),
        );
        for (name, ephemeral, wanted) in [
            ("one", true, Some("app")),
            ("two", true, None),
            ("three", true, None),
            ("app", false, None),
        ] {
            let found = (is_one(&pod, name), target(&pod, name));
            assert_eq!(found, (ephemeral, wanted), "{name}");
        }
        let container = spec::any_container(&pod, "one").unwrap();
        assert_eq!(container.image.as_deref(), Some("echo:v1"));
        assert!(spec::container(&pod, "one").is_none());
    }
}
