//! The conditions the kubelet owns.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Inputs;
use crate::pods::text::{go_list, go_quote};
use crate::pods::{restart, spec};

/// Those that go away when they hold no more.
pub const RESIZING: [&str; 2] = ["PodResizePending", "PodResizeInProgress"];

struct Finding {
    kind: &'static str,
    holds: bool,
    reason: &'static str,
    message: String,
}

impl Finding {
    fn new(kind: &'static str, holds: bool) -> Finding {
        Finding {
            kind,
            holds,
            reason: "",
            message: String::new(),
        }
    }

    fn because(self, reason: &'static str, message: String) -> Finding {
        Finding {
            reason,
            message,
            ..self
        }
    }
}

/// In the kubelet's order. Other parts' conditions are left to them.
pub fn all(inputs: &Inputs<'_>, phase: &str, statuses: &[&ContainerStatus]) -> Vec<PodCondition> {
    let containers_ready = containers_ready(inputs, phase, statuses);
    let findings = [
        Finding::new("PodReadyToStartContainers", inputs.sandbox_ready),
        initialized(inputs, phase, statuses),
        ready(inputs, &containers_ready),
        containers_ready,
        Finding::new("PodScheduled", true),
    ];
    let disrupted = inputs.disruption.map(|message| {
        Finding::new("DisruptionTarget", true).because("TerminationByKubelet", message.to_owned())
    });
    let own = findings
        .into_iter()
        .chain(restarting(inputs, phase))
        .chain(disrupted);
    let own = own.map(|finding| condition(inputs, finding));
    resizing(inputs).into_iter().chain(own).collect()
}

/// Of a pod with such a rule: whether its containers are being taken away to begin anew.
fn restarting(inputs: &Inputs<'_>, phase: &str) -> Option<Finding> {
    if !restart::may_restart_all(inputs.pod) {
        return None;
    }
    let holds = !inputs.terminal && !restart::triggers(inputs.pod, inputs.seen).is_empty();
    let finding = Finding::new("AllContainersRestarting", holds);
    Some(match phase {
        "Succeeded" => finding.because("PodCompleted", String::new()),
        "Failed" => finding.because("PodFailed", String::new()),
        _ if holds => finding.because(
            "RestartAllContainersStarted",
            "container exited with restart policy rule".to_owned(),
        ),
        _ => finding,
    })
}

/// There while there is something to tell, and of the spec that is about.
fn resizing(inputs: &Inputs<'_>) -> Vec<PodCondition> {
    let [pending, in_progress] = RESIZING;
    let told = [
        (pending, &inputs.resizing.pending),
        (in_progress, &inputs.resizing.in_progress),
    ];
    told.into_iter()
        .filter_map(|(kind, told)| {
            let told = told.as_ref()?;
            let finding = Finding::new(kind, true).because(told.reason, told.message.clone());
            Some(PodCondition {
                observed_generation: told.generation,
                ..condition(inputs, finding)
            })
        })
        .collect()
}

fn condition(inputs: &Inputs<'_>, finding: Finding) -> PodCondition {
    let status = if finding.holds { "True" } else { "False" };
    let known = [&inputs.previous.conditions];
    let old = known
        .into_iter()
        .flatten()
        .flatten()
        .find(|condition| condition.type_ == finding.kind);
    // The time of the last change of the status, not of its reason.
    let since = old
        .filter(|old| old.status == status)
        .and_then(|old| old.last_transition_time.clone());
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    PodCondition {
        last_probe_time: None,
        last_transition_time: Some(since.unwrap_or(Time(inputs.now))),
        message: text(&finding.message),
        observed_generation: inputs.pod.metadata.generation,
        reason: text(finding.reason),
        status: status.to_owned(),
        type_: finding.kind.to_owned(),
    }
}

fn containers_ready(inputs: &Inputs<'_>, phase: &str, statuses: &[&ContainerStatus]) -> Finding {
    let finding = Finding::new("ContainersReady", false);
    match phase {
        "Succeeded" => return finding.because("PodCompleted", String::new()),
        "Failed" => return finding.because("PodFailed", String::new()),
        _ => {}
    }
    let sidecars = spec::init_containers(inputs.pod)
        .iter()
        .filter(|container| spec::is_sidecar(container));
    let relevant = sidecars.chain(spec::containers(inputs.pod));
    let message = complaint(relevant, statuses, "unready", |_, status| status.ready);
    if message.is_empty() {
        return Finding::new("ContainersReady", true);
    }
    finding.because("ContainersNotReady", message)
}

fn ready(inputs: &Inputs<'_>, containers: &Finding) -> Finding {
    let finding = Finding::new("Ready", false);
    if !containers.holds {
        return finding.because(containers.reason, containers.message.clone());
    }
    let conditions = inputs
        .pod
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_ref());
    let gates = spec::spec(inputs.pod).readiness_gates.iter().flatten();
    let complaints: Vec<String> = gates
        .filter_map(|gate| {
            let kind = &gate.condition_type;
            let found = conditions
                .into_iter()
                .flatten()
                .find(|condition| condition.type_ == *kind);
            match found {
                None => Some(format!(
                    "corresponding condition of pod readiness gate {} does not exist.",
                    go_quote(kind)
                )),
                Some(found) if found.status != "True" => Some(format!(
                    "the status of pod readiness gate {} is not \"True\", but {}",
                    go_quote(kind),
                    found.status
                )),
                Some(_) => None,
            }
        })
        .collect();
    if complaints.is_empty() {
        return Finding::new("Ready", true);
    }
    finding.because("ReadinessGatesNotReady", complaints.join(", "))
}

fn initialized(inputs: &Inputs<'_>, phase: &str, statuses: &[&ContainerStatus]) -> Finding {
    let done = Finding::new("Initialized", true);
    if phase == "Succeeded" {
        return done.because("PodCompleted", String::new());
    }
    let begun = spec::containers(inputs.pod).iter().any(|container| {
        find(statuses, &container.name).is_some_and(|status| {
            let ran = |state: &Option<k8s_openapi::api::core::v1::ContainerState>| {
                state
                    .as_ref()
                    .is_some_and(|s| s.running.is_some() || s.terminated.is_some())
            };
            ran(&status.state) || ran(&status.last_state)
        })
    });
    if begun {
        return done;
    }
    let init = spec::init_containers(inputs.pod).iter();
    let message = complaint(init, statuses, "incomplete", |container, status| {
        if spec::is_sidecar(container) {
            status.started == Some(true)
        } else {
            status.ready
        }
    });
    if message.is_empty() {
        return done;
    }
    Finding::new("Initialized", false).because("ContainersNotInitialized", message)
}

fn find<'a>(statuses: &[&'a ContainerStatus], name: &str) -> Option<&'a ContainerStatus> {
    statuses.iter().find(|status| status.name == name).copied()
}

/// `containers with unready status: [a b]`, or nothing.
fn complaint<'a>(
    containers: impl Iterator<Item = &'a Container>,
    statuses: &[&ContainerStatus],
    word: &str,
    good: impl Fn(&Container, &ContainerStatus) -> bool,
) -> String {
    let (mut unknown, mut bad) = (Vec::new(), Vec::new());
    for container in containers {
        match find(statuses, &container.name) {
            None => unknown.push(&container.name),
            Some(status) if !good(container, status) => bad.push(&container.name),
            Some(_) => {}
        }
    }
    let mut parts = Vec::new();
    if !unknown.is_empty() {
        parts.push(format!(
            "containers with unknown status: {}",
            go_list(&unknown)
        ));
    }
    if !bad.is_empty() {
        parts.push(format!("containers with {word} status: {}", go_list(&bad)));
    }
    parts.join(", ")
}
