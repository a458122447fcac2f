//! The status of a pod as the kubelet reports it: built without IO, written
//! by a task of its own.

mod conditions;
mod container;
mod diff;
mod messages;
mod phase;
pub mod previous;
mod writer;

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, HostIP, Pod, PodIP, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::ephemeral;
use super::probe::ProbeResults;
use super::resize::Resizing;
use super::resources;
use super::restart;
use super::seen::Seen;
use super::spec;

use container::Role;
pub use messages::{TerminationMessages, read as read_termination_message};
pub use writer::StatusWriter;

/// Why a container is not running, as people read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub reason: String,
    pub message: String,
}

impl Waiting {
    pub fn new(reason: &str, message: impl Into<String>) -> Waiting {
        Waiting {
            reason: reason.to_owned(),
            message: message.into(),
        }
    }
}

/// What the node decided about the whole pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub reason: String,
    pub message: String,
}

/// All a status is made of.
pub struct Inputs<'a> {
    pub pod: &'a Pod,
    /// The last one built, or the API server's.
    pub previous: &'a PodStatus,
    pub seen: &'a Seen,
    pub waiting: &'a BTreeMap<String, Waiting>,
    pub results: &'a ProbeResults,
    pub messages: &'a TerminationMessages,
    /// A container whose start is not complete: its postStart hook runs.
    pub held: Option<&'a str>,
    pub resizing: &'a Resizing,
    pub pod_ips: &'a [IpAddr],
    /// The main one first.
    pub node_ips: &'a [IpAddr],
    /// The sandbox exists and has its addresses.
    pub sandbox_ready: bool,
    /// Nothing of the pod will be started again.
    pub terminal: bool,
    /// The pod failed as a whole.
    pub verdict: Option<&'a Verdict>,
    /// Why the node ended it, where the pod has no part in it.
    pub disruption: Option<&'a str>,
    pub now: Timestamp,
}

pub fn build(inputs: &Inputs<'_>) -> PodStatus {
    let pod = inputs.pod;
    let mut init = container::statuses(inputs, spec::init_containers(pod), Role::Init);
    let mut regular = container::statuses(inputs, spec::containers(pod), Role::Regular);
    let added = ephemeral::containers(pod);
    let mut added = container::statuses(inputs, &added, Role::Ephemeral);
    messages::limit([&mut init, &mut regular, &mut added]);
    let phase = phase_of(inputs, &init, &regular, &added);
    let (reason, message) = reason_of(inputs, &phase);
    let all: Vec<&ContainerStatus> = init.iter().chain(&regular).collect();
    let conditions = conditions::all(inputs, &phase, &all);
    // Only those of init containers stand in the order of the spec.
    for list in [&mut regular, &mut added] {
        list.sort_by(|a, b| a.name.cmp(&b.name));
    }
    let host_ips = inputs.node_ips.iter();
    PodStatus {
        conditions: Some(conditions),
        container_statuses: Some(regular),
        ephemeral_container_statuses: (!added.is_empty()).then_some(added),
        init_container_statuses: (!init.is_empty()).then_some(init),
        host_ip: inputs.node_ips.first().map(IpAddr::to_string),
        host_ips: Some(host_ips.map(|ip| HostIP { ip: ip.to_string() }).collect()),
        message,
        observed_generation: pod.metadata.generation,
        phase: Some(phase),
        qos_class: Some(resources::class_name(resources::class(pod)).to_owned()),
        reason,
        start_time: Some(start_time(inputs)),
        ..addresses(inputs)
    }
}

fn start_time(inputs: &Inputs<'_>) -> Time {
    let known = inputs.previous.start_time.clone();
    known.unwrap_or(Time(inputs.now))
}

/// Once a pod has addresses it keeps them, also when its sandbox is gone.
fn addresses(inputs: &Inputs<'_>) -> PodStatus {
    let mut ips: Vec<String> = inputs.pod_ips.iter().map(IpAddr::to_string).collect();
    if ips.is_empty() {
        let known = inputs.previous.pod_ips.iter().flatten();
        ips = known.map(|ip| ip.ip.clone()).collect();
    }
    if ips.is_empty() && spec::host_network(inputs.pod) {
        ips.extend(inputs.node_ips.iter().map(IpAddr::to_string));
    }
    PodStatus {
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect()),
        ..PodStatus::default()
    }
}

fn phase_of(
    inputs: &Inputs<'_>,
    init: &[ContainerStatus],
    regular: &[ContainerStatus],
    added: &[ContainerStatus],
) -> String {
    // Never out of a terminal phase.
    for known in [
        inputs.previous.phase.as_deref(),
        Some(spec::phase(inputs.pod)),
    ] {
        if let Some(phase) = known.filter(|phase| spec::is_terminal(phase)) {
            return phase.to_owned();
        }
    }
    if inputs.verdict.is_some() && inputs.terminal {
        return "Failed".to_owned();
    }
    let found = phase::of(inputs.pod, init, regular, inputs.terminal);
    // One that ended because it shall begin anew, whatever its exit code.
    let restarted = &inputs.resizing.restarted;
    let anew = inputs
        .seen
        .containers()
        .any(|container| restarted.contains(&container.id));
    // A pod that failed as a whole says so when all of it has ended, and none is over while something of it runs.
    let goes_on = inputs.verdict.is_some()
        || added.iter().any(phase::is_running)
        || (begins_anew(inputs) && !inputs.terminal)
        || (anew && !inputs.terminal);
    if goes_on && spec::is_terminal(found) {
        return "Running".to_owned();
    }
    found.to_owned()
}

/// Its containers are taken away, or are on their way back.
fn begins_anew(inputs: &Inputs<'_>) -> bool {
    let pod = inputs.pod;
    let missing = |container: &Container| inputs.seen.latest(&container.name).is_none();
    !restart::triggers(pod, inputs.seen).is_empty()
        || (restart::may_restart_all(pod) && spec::all_containers(pod).any(missing))
}

/// They belong to the phase.
fn reason_of(inputs: &Inputs<'_>, phase: &str) -> (Option<String>, Option<String>) {
    if let Some(verdict) = inputs.verdict.filter(|_| phase == "Failed") {
        return (Some(verdict.reason.clone()), Some(verdict.message.clone()));
    }
    if inputs.previous.phase.as_deref() == Some(phase) {
        return (
            inputs.previous.reason.clone(),
            inputs.previous.message.clone(),
        );
    }
    (None, None)
}

#[cfg(test)]
mod tests;
