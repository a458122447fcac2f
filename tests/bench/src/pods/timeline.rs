//! When each step of a pod's life was first seen. No IO, no clock.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodStatus};

/// What an event about a pod shows, in the order of its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Scheduled,
    Sandbox,
    Running,
    Ready,
    Gone,
}

/// One event of the watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Since whatever moment all times of a run count from.
    pub at: Duration,
    pub pod: String,
    pub steps: Vec<Step>,
}

/// The steps that this state of a pod shows as done.
pub fn shown(pod: &Pod) -> Vec<Step> {
    let status = pod.status.as_ref();
    let on = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let mut steps = Vec::new();
    if on.is_some_and(|node| !node.is_empty()) || is_true(status, "PodScheduled") {
        steps.push(Step::Scheduled);
    }
    if is_true(status, "PodReadyToStartContainers") {
        steps.push(Step::Sandbox);
    }
    if all_run(pod) {
        steps.push(Step::Running);
    }
    if is_true(status, "Ready") {
        steps.push(Step::Ready);
    }
    steps
}

fn is_true(status: Option<&PodStatus>, condition: &str) -> bool {
    status
        .and_then(|status| status.conditions.as_ref())
        .is_some_and(|all| {
            all.iter()
                .any(|c| c.type_ == condition && c.status == "True")
        })
}

fn all_run(pod: &Pod) -> bool {
    let wanted = pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
    let running = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref())
        .into_iter()
        .flatten()
        .filter(|container| {
            let state = container.state.as_ref();
            state.is_some_and(|state| state.running.is_some())
        })
        .count();
    wanted > 0 && running == wanted
}

/// The first moment each step was seen at, if it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline(BTreeMap<Step, Duration>);

impl Timeline {
    pub fn at(&self, step: Step) -> Option<Duration> {
        self.0.get(&step).copied()
    }

    /// Milliseconds from one step to another, below zero when it was seen earlier.
    pub fn between(&self, from: Step, to: Step) -> Option<f64> {
        Some(milliseconds(self.at(from)?, self.at(to)?))
    }

    /// Milliseconds from a moment of the client's own to a step.
    pub fn since(&self, moment: Duration, to: Step) -> Option<f64> {
        Some(milliseconds(moment, self.at(to)?))
    }
}

pub fn milliseconds(from: Duration, to: Duration) -> f64 {
    (to.as_secs_f64() - from.as_secs_f64()) * 1e3
}

/// The timelines of pods, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timelines(BTreeMap<String, Timeline>);

impl Timelines {
    /// Takes an event in; in whatever order and however often they come, the earliest counts.
    pub fn see(&mut self, sight: &Sight) {
        let timeline = self.0.entry(sight.pod.clone()).or_default();
        for step in &sight.steps {
            let first = timeline.0.entry(*step).or_insert(sight.at);
            *first = sight.at.min(*first);
        }
    }

    /// Of a pod never heard of it is empty.
    pub fn of(&self, pod: &str) -> Timeline {
        self.0.get(pod).cloned().unwrap_or_default()
    }

    pub fn has(&self, pod: &str, step: Step) -> bool {
        let timeline = self.0.get(pod);
        timeline.is_some_and(|timeline| timeline.0.contains_key(&step))
    }
}

#[cfg(test)]
mod tests;
