//! Resize in place: what a pod's containers are asked for, granted and given.
//!
//! | word | what | where it is kept |
//! |---|---|---|
//! | wanted | the pod's spec, as the API server has it | there |
//! | allocated | what the node has granted of it (`allocation`) | the pod's directory |
//! | given | what a container was started with, or changed to | by the runtime, with the container |
//!
//! A change of the spec is granted as a whole or not at all (`decide`). The
//! worker carries the pod with its allocated resources, so that whatever makes
//! sandboxes and containers knows no others. What runs and was given something
//! else is changed where it is, in an order in which the pod never has less than
//! its containers (`actuate`), or started anew where its policy says so. The
//! rules and the words are the kubelet's of 1.36 (KEP-1287).

mod actuate;
mod allocation;
mod decide;
mod words;

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, ResourceRequirements};
use vetch_runtime::{ContainerId, ContainerStatus};

use super::container::RESOURCES;
use super::quantity::{self, ResourceList};

pub use actuate::{Actuation, Lowered, Step, actuation, all_words};
pub use allocation::Allocation;
pub use decide::{Answer, decide};
pub use words::message;

/// What there is to tell of a resize: the conditions PodResizePending and
/// PodResizeInProgress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resizing {
    /// The node does not grant what is wanted, now or ever.
    pub pending: Option<Told>,
    /// Granted, and not given to all containers yet; with a reason, it failed.
    pub in_progress: Option<Told>,
    /// Ended to be started anew with other resources, however they ended.
    pub restarted: BTreeSet<ContainerId>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub reason: &'static str,
    pub message: String,
    /// Of the spec it is about.
    pub generation: Option<i64>,
}

const RESIZABLE: [&str; 2] = ["cpu", "memory"];

/// `None` of a container that an earlier daemon made without saying it.
pub fn given(status: &ContainerStatus) -> Option<ResourceRequirements> {
    serde_json::from_str(status.annotations.get(RESOURCES)?).ok()
}

/// Whether the container has to be started anew for what it is allocated.
pub fn needs_restart(container: &Container, status: &ContainerStatus) -> bool {
    let Some(given) = given(status) else {
        return false;
    };
    let wanted = container.resources.clone().unwrap_or_default();
    let policies = container.resize_policy.iter().flatten();
    policies
        .filter(|policy| policy.restart_policy == "RestartContainer")
        .any(|policy| differs(&given, &wanted, &policy.resource_name))
}

/// By amount: texts may differ.
pub fn same(one: &ResourceRequirements, other: &ResourceRequirements) -> bool {
    RESIZABLE
        .into_iter()
        .all(|resource| !differs(one, other, resource))
}

fn differs(one: &ResourceRequirements, other: &ResourceRequirements, resource: &str) -> bool {
    let amount = |list: &Option<ResourceList>| {
        let found = list.as_ref()?.get(resource)?;
        quantity::nanos(found)
    };
    amount(&one.requests) != amount(&other.requests) || amount(&one.limits) != amount(&other.limits)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use vetch_runtime::ContainerState;

    use super::*;
    use crate::pods::testing;

    #[test]
    fn who_is_started_anew() {
        let policy = |resource: &str, policy: &str| json!({"resourceName": resource, "restartPolicy": policy});
        let cpu = json!([
            policy("cpu", "RestartContainer"),
            policy("memory", "NotRequired")
        ]);
        let small = json!({"requests": {"cpu": "20m", "memory": "35Mi"}});
        for (policies, given, wanted, want) in [
            (
                &json!(null),
                Some(&small),
                json!({"requests": {"cpu": "30m"}}),
                false,
            ),
            (
                &cpu,
                Some(&small),
                json!({"requests": {"cpu": "25m", "memory": "35Mi"}}),
                true,
            ),
            (
                &cpu,
                Some(&small),
                json!({"requests": {"cpu": "20m", "memory": "40Mi"}}),
                false,
            ),
            (
                &cpu,
                Some(&small),
                json!({"requests": {"cpu": "20m", "memory": "35Mi"}, "limits": {"cpu": "1"}}),
                true,
            ),
            // The same in other words.
            (
                &cpu,
                Some(&small),
                json!({"requests": {"cpu": "0.02", "memory": "35Mi"}}),
                false,
            ),
            // Nobody knows what it has: no reason to end it.
            (&cpu, None, json!({"requests": {"cpu": "25m"}}), false),
        ] {
            let container: Container = serde_json::from_value(
                json!({"name": "c", "resizePolicy": policies, "resources": wanted}),
            )
            .unwrap();
            let mut status = testing::container("c", 0, ContainerState::Running);
            if let Some(given) = given {
                let text = Value::to_string(given);
                status.annotations.insert(RESOURCES.to_owned(), text);
            }
            assert_eq!(needs_restart(&container, &status), want, "{wanted}");
        }
    }
}
