//! The node's conditions, in the kubelet's words.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::NodeCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::pressure::Pressure;

/// Ours: what limits have no effect here.
pub const MISSING_CONTROLLERS: &str = "CgroupControllersMissing";

/// Ours: what keeps containers from devices here is less than it should be.
pub const MISSING_DEVICES: &str = "DeviceCgroupMissing";

/// Ours: a table of the programs that balance Services is nearly full.
pub const TABLES_PRESSURE: &str = "ServiceTablesPressure";

/// What the conditions say.
#[derive(Clone, Debug, Default)]
pub struct Health<'a> {
    pub pressure: Pressure,
    /// Why pods cannot be given a network; `None` when they can.
    pub network_problem: Option<&'a str>,
    pub shutting_down: bool,
    pub missing_controllers: &'a [String],
    /// Why containers have no device cgroup; `None` when they have.
    pub device_problem: Option<&'a str>,
    /// Which tables of the service programs are nearly full; `None` when none is.
    pub table_pressure: Option<&'a str>,
}

/// What one says, and the reason of the event that tells of its change; ours
/// has none.
struct Word {
    type_: &'static str,
    status: bool,
    reason: &'static str,
    message: String,
}

/// `before` are those that were reported; one that says the same since then
/// keeps the time of its last transition.
pub fn conditions(
    health: &Health<'_>,
    before: &[NodeCondition],
    now: Timestamp,
) -> Vec<NodeCondition> {
    words(health)
        .into_iter()
        .map(|word| {
            let status = if word.status { "True" } else { "False" };
            let since = before
                .iter()
                .find(|old| old.type_ == word.type_ && old.status == status)
                .and_then(|old| old.last_transition_time.clone());
            NodeCondition {
                type_: word.type_.into(),
                status: status.into(),
                reason: Some(word.reason.into()),
                message: Some(word.message),
                last_heartbeat_time: Some(Time(now)),
                last_transition_time: Some(since.unwrap_or(Time(now))),
            }
        })
        .collect()
}

fn words(health: &Health<'_>) -> [Word; 7] {
    let Pressure { memory, disk, pids } = health.pressure;
    let word = |type_,
                status,
                (yes, no): (&'static str, &'static str),
                (then, otherwise): (&str, &str)| Word {
        type_,
        status,
        reason: if status { yes } else { no },
        message: if status { then } else { otherwise }.to_owned(),
    };
    [
        word(
            "MemoryPressure",
            memory,
            ("KubeletHasInsufficientMemory", "KubeletHasSufficientMemory"),
            (
                "kubelet has insufficient memory available",
                "kubelet has sufficient memory available",
            ),
        ),
        word(
            "DiskPressure",
            disk,
            ("KubeletHasDiskPressure", "KubeletHasNoDiskPressure"),
            ("kubelet has disk pressure", "kubelet has no disk pressure"),
        ),
        word(
            "PIDPressure",
            pids,
            ("KubeletHasInsufficientPID", "KubeletHasSufficientPID"),
            (
                "kubelet has insufficient PID available",
                "kubelet has sufficient PID available",
            ),
        ),
        controllers(health.missing_controllers),
        devices(health.device_problem),
        tables(health.table_pressure),
        ready(health.network_problem, health.shutting_down),
    ]
}

fn ready(network_problem: Option<&str>, shutting_down: bool) -> Word {
    let network = network_problem.map(|problem| {
        format!(
            "container runtime network not ready: NetworkReady=false \
             reason:NetworkPluginNotReady message:{problem}"
        )
    });
    let shutdown = shutting_down.then(|| "node is shutting down".to_owned());
    let problems: Vec<String> = network.into_iter().chain(shutdown).collect();
    let message = match problems.as_slice() {
        [] => "kubelet is posting ready status".to_owned(),
        [one] => one.clone(),
        // As Kubernetes writes several errors.
        all => format!("[{}]", all.join(", ")),
    };
    Word {
        type_: "Ready",
        status: problems.is_empty(),
        reason: match problems.is_empty() {
            true => "KubeletReady",
            false => "KubeletNotReady",
        },
        message,
    }
}

fn controllers(missing: &[String]) -> Word {
    let (status, reason, message) = if missing.is_empty() {
        (
            false,
            "CgroupControllersPresent",
            "requests and limits of pods are enforced".to_owned(),
        )
    } else {
        (
            true,
            "CgroupControllersMissing",
            format!(
                "cgroup v2 controllers missing here: {}; requests and limits that need them have no effect",
                missing.join(", ")
            ),
        )
    };
    Word {
        type_: MISSING_CONTROLLERS,
        status,
        reason,
        message,
    }
}

fn devices(problem: Option<&str>) -> Word {
    let (status, reason, message) = match problem {
        None => (
            false,
            "DeviceCgroupPresent",
            "containers that are not privileged use no device but the usual ones".to_owned(),
        ),
        Some(problem) => (
            true,
            "DeviceCgroupMissing",
            format!(
                "containers are kept from devices by the flags of their mounts alone: {problem}"
            ),
        ),
    };
    Word {
        type_: MISSING_DEVICES,
        status,
        reason,
        message,
    }
}

fn tables(pressure: Option<&str>) -> Word {
    let (status, reason, message) = match pressure {
        None => (
            false,
            "TablesHaveRoom",
            "the tables of the service programs have room".to_owned(),
        ),
        Some(tables) => (
            true,
            "TablesNearlyFull",
            format!("tables of the service programs are nearly full: {tables}"),
        ),
    };
    Word {
        type_: TABLES_PRESSURE,
        status,
        reason,
        message,
    }
}

/// The reasons of the events that tell what differs between two reports.
pub fn changes(before: &[NodeCondition], after: &[NodeCondition]) -> Vec<&'static str> {
    after
        .iter()
        .filter(|new| {
            !before
                .iter()
                .any(|old| old.type_ == new.type_ && old.status == new.status)
        })
        .filter_map(|new| {
            Some(match (new.type_.as_str(), new.status.as_str()) {
                ("MemoryPressure", "True") => "NodeHasInsufficientMemory",
                ("MemoryPressure", _) => "NodeHasSufficientMemory",
                ("DiskPressure", "True") => "NodeHasDiskPressure",
                ("DiskPressure", _) => "NodeHasNoDiskPressure",
                ("PIDPressure", "True") => "NodeHasInsufficientPID",
                ("PIDPressure", _) => "NodeHasSufficientPID",
                ("Ready", "True") => "NodeReady",
                ("Ready", _) => "NodeNotReady",
                _ => return None,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests;
