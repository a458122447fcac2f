//! From what containers were given to what they are allocated: the writes, in
//! their order.
//!
//! The pod grows first and shrinks last, and of its containers those that give
//! something back come first: at no time have containers more than their pod.

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use vetch_runtime::{ContainerId, ContainerState, ContainerStatus, Resources};

use super::{given, needs_restart, same};
use crate::pods::resources::{self, MemoryQos};
use crate::pods::seen::Seen;
use crate::pods::spec;

#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Pod(Resources),
    Container {
        id: ContainerId,
        resources: Resources,
        given: ResourceRequirements,
    },
}

/// A memory limit that becomes less. Where more than it is in use nothing is
/// written: the kernel would end the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lowered {
    /// `None` for the pod as a whole.
    pub container: Option<(String, ContainerId)>,
    pub limit: i64,
}

impl Lowered {
    /// Why not, if `usage` forbids it.
    pub fn refusal(&self, usage: u64) -> Option<String> {
        let limit = u64::try_from(self.limit).unwrap_or(0);
        if usage < limit {
            return None;
        }
        let whose = match &self.container {
            Some((name, _)) => format!("container {name:?}"),
            None => "pod".to_owned(),
        };
        Some(format!(
            "attempting to set {whose} memory limit ({limit}) below current usage ({usage})"
        ))
    }
}

/// Errors in one text, as Kubernetes' aggregates have it.
pub fn all_words(words: &[String]) -> String {
    match words {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Actuation {
    pub steps: Vec<Step>,
    pub lowered: Vec<Lowered>,
    /// Something has not what it is allocated, as far as is known.
    pub outstanding: bool,
}

/// `pod` has its allocated resources.
pub fn actuation(pod: &Pod, seen: &Seen, qos: Option<&MemoryQos>) -> Actuation {
    let Some(sandbox) = seen.sandbox() else {
        return Actuation::default();
    };
    let has = &sandbox.spec.resources;
    let shall = resources::pod(pod, resources::class(pod), qos);
    let most = larger(has, &shall);

    let running: Vec<(&Container, &ContainerStatus)> = spec::all_containers(pod)
        .filter_map(|container| {
            let status = seen.current(&container.name)?;
            (status.state == ContainerState::Running).then_some((container, status))
        })
        .collect();
    let restarts = running
        .iter()
        .any(|(container, status)| needs_restart(container, status));
    let mut changes: Vec<Change> = running
        .iter()
        .filter(|(container, status)| !needs_restart(container, status))
        .filter_map(|(container, status)| Change::of(pod, container, status, qos))
        .collect();
    changes.sort_by_key(|change| !change.gives_back);

    let mut all = Actuation {
        outstanding: restarts || changes.iter().any(|change| change.known),
        ..Actuation::default()
    };
    // Who has the pod's limits follows them, before the pod says that it has them.
    if !alike(has, &shall) {
        let own: Vec<_> = changes.iter().map(|change| change.id.clone()).collect();
        let inherited = running.iter().filter(|(container, status)| {
            resources::inherits(pod, container)
                && given(status).is_some()
                && !needs_restart(container, status)
                && !own.contains(&status.id)
        });
        all.steps
            .extend(inherited.map(|(container, status)| Step::Container {
                id: status.id.clone(),
                resources: resources::container(pod, container, qos),
                given: container.resources.clone().unwrap_or_default(),
            }));
    }
    if !alike(&most, has) {
        all.steps.push(Step::Pod(most.clone()));
    }
    for change in changes {
        all.lowered.extend(change.lowered);
        all.steps.push(change.step);
    }
    if !alike(has, &shall) {
        all.outstanding = true;
    }
    // One that is to be started anew has what it has until it has ended.
    if !alike(&shall, &most) && !restarts {
        let lowered = lowered_limit(most.memory_max, shall.memory_max);
        all.lowered.extend(lowered.map(|limit| Lowered {
            container: None,
            limit,
        }));
        all.steps.push(Step::Pod(shall));
    } else if alike(has, &shall) && protection(has) != protection(&shall) {
        // By other requests, or by another setting of the node's: no limit waits for it.
        all.steps.push(Step::Pod(shall));
    }
    all
}

struct Change {
    id: ContainerId,
    step: Step,
    lowered: Option<Lowered>,
    gives_back: bool,
    known: bool,
}

impl Change {
    /// `None` when the container has it.
    fn of(
        pod: &Pod,
        container: &Container,
        status: &ContainerStatus,
        qos: Option<&MemoryQos>,
    ) -> Option<Change> {
        let wanted = container.resources.clone().unwrap_or_default();
        let given = given(status);
        if given.as_ref().is_some_and(|given| same(given, &wanted)) {
            return None;
        }
        let shall = resources::container(pod, container, qos);
        let has = given.as_ref().map(|given| {
            let before = Container {
                resources: Some(given.clone()),
                ..Container::default()
            };
            resources::container(pod, &before, qos)
        });
        let had_memory = has.as_ref().and_then(|has| has.memory_max);
        let lowered = lowered_limit(had_memory, shall.memory_max).map(|limit| Lowered {
            container: Some((container.name.clone(), status.id.clone())),
            limit,
        });
        Some(Change {
            lowered,
            gives_back: has.is_some_and(|has| !alike(&larger(&has, &shall), &shall)),
            known: given.is_some(),
            id: status.id.clone(),
            step: Step::Container {
                id: status.id.clone(),
                resources: shall,
                given: wanted,
            },
        })
    }
}

fn lowered_limit(has: Option<i64>, shall: Option<i64>) -> Option<i64> {
    shall.filter(|shall| has.is_none_or(|has| *shall < has))
}

/// Of each value the one that gives more; no limit is the most. Memory is protected as `other` has it.
fn larger(one: &Resources, other: &Resources) -> Resources {
    let quota = |(quota, period): (i64, u64)| i128::from(quota) * 1_000_000 / i128::from(period);
    let cpu_max = one.cpu_max.zip(other.cpu_max).map(|(one, other)| {
        if quota(one) < quota(other) {
            other
        } else {
            one
        }
    });
    let memory_max = one.memory_max.zip(other.memory_max);
    Resources {
        cpu_weight: one.cpu_weight.max(other.cpu_weight),
        cpu_max,
        memory_max: memory_max.map(|(one, other)| one.max(other)),
        memory_min: other.memory_min,
        memory_low: other.memory_low,
        memory_high: other.memory_high,
        ..Resources::default()
    }
}

/// Of its memory.
fn protection(resources: &Resources) -> [Option<i64>; 2] {
    [resources.memory_min, resources.memory_low]
}

/// In all limits that are updated.
fn alike(one: &Resources, other: &Resources) -> bool {
    (one.cpu_weight, one.cpu_max, one.memory_max)
        == (other.cpu_weight, other.cpu_max, other.memory_max)
}

#[cfg(test)]
mod tests;
