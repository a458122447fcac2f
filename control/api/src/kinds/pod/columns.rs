//! `kubectl get pods`.

use jiff::Timestamp;
use serde_json::Value;

use crate::print::{AGE, NAME, age, column, name, or_none, since, wide};
use crate::resource::Column;
use crate::value::ValueExt;

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    column(
        "Ready",
        "The aggregate readiness state of this pod for accepting traffic.",
    ),
    column(
        "Status",
        "The aggregate status of the containers in this pod.",
    ),
    column(
        "Restarts",
        "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
    ),
    AGE,
    wide(
        "IP",
        "podIP address allocated to the pod. Routable at least within the cluster. Empty if not yet allocated.",
    ),
    wide(
        "Node",
        "NodeName indicates in which node this pod is scheduled. If empty, this pod is a candidate for scheduling by the scheduler defined in schedulerName.",
    ),
    wide(
        "Nominated Node",
        "nominatedNodeName is set only when this pod preempts other pods on the node, but it cannot be scheduled right away as preemption victims receive their graceful termination periods.",
    ),
    wide(
        "Readiness Gates",
        "If specified, all readiness gates will be evaluated for pod readiness.",
    ),
];

pub(super) fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = summarise(pod);
    let restarts = match summary.last_restart {
        Some(last) if summary.restarts != 0 => {
            format!(
                "{} ({} ago)",
                summary.restarts,
                since(&last.to_string(), now)
            )
        }
        _ => summary.restarts.to_string(),
    };
    vec![
        name(pod),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        age(pod, now),
        or_none(
            match pod.pointer("/status/podIPs/0/ip").and_then(Value::as_str) {
                Some(ip) => ip,
                None => pod.str_at("/status/podIP"),
            },
        ),
        or_none(pod.str_at("/spec/nodeName")),
        or_none(pod.str_at("/status/nominatedNodeName")),
        readiness_gates(pod),
    ]
}

struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

/// Restarts counted so far, and when the last one was.
#[derive(Clone, Copy, Default)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += status.i64_at("/restartCount");
        let finished = status
            .str_at("/lastState/terminated/finishedAt")
            .parse()
            .ok();
        self.last = self.last.max(finished);
    }
}

fn summarise(pod: &Value) -> Summary {
    let mut reason = match pod.str_at("/status/reason") {
        "" => pod.str_at("/status/phase").to_string(),
        reason => reason.to_string(),
    };
    let gated = pod
        .list_at("/status/conditions")
        .iter()
        .any(|c| c.str_at("/type") == "PodScheduled" && c.str_at("/reason") == "SchedulingGated");
    if gated {
        reason = "SchedulingGated".to_string();
    }

    let init_specs = pod.list_at("/spec/initContainers");
    let sidecar = |name: &str| {
        init_specs
            .iter()
            .any(|c| c.str_at("/name") == name && c.str_at("/restartPolicy") == "Always")
    };
    let sidecars = init_specs
        .iter()
        .filter(|c| c.str_at("/restartPolicy") == "Always")
        .count();
    let mut ready = 0;
    let mut restarts = Restarts::default();
    let mut sidecar_restarts = Restarts::default();
    let mut initializing = false;
    for (i, status) in pod
        .list_at("/status/initContainerStatuses")
        .iter()
        .enumerate()
    {
        restarts.add(status);
        let is_sidecar = sidecar(status.str_at("/name"));
        if is_sidecar {
            sidecar_restarts.add(status);
        }
        if status.opt_i64("/state/terminated/exitCode") == Some(0) {
            continue;
        }
        if is_sidecar && status.bool_at("/started") {
            ready += usize::from(status.bool_at("/ready"));
            continue;
        }
        let waiting = status.str_at("/state/waiting/reason");
        reason = if status.has("/state/terminated") {
            format!("Init:{}", ended(status))
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{i}/{}", init_specs.len())
        };
        initializing = true;
        break;
    }

    if !initializing || condition_true(pod, "Initialized") {
        restarts = sidecar_restarts;
        let mut running = false;
        for status in pod.list_at("/status/containerStatuses").iter().rev() {
            restarts.add(status);
            let waiting = status.str_at("/state/waiting/reason");
            if !waiting.is_empty() {
                reason = waiting.to_string();
            } else if status.has("/state/terminated") {
                reason = ended(status);
            } else if status.bool_at("/ready") && status.has("/state/running") {
                running = true;
                ready += 1;
            }
        }
        if reason == "Completed" && running {
            reason = if condition_true(pod, "Ready") {
                "Running"
            } else {
                "NotReady"
            }
            .to_string();
        }
    }

    if pod.has("/metadata/deletionTimestamp") {
        if pod.str_at("/status/reason") == "NodeLost" {
            reason = "Unknown".to_string();
        } else if !matches!(pod.str_at("/status/phase"), "Succeeded" | "Failed") {
            reason = "Terminating".to_string();
        }
    }
    Summary {
        reason,
        ready,
        total: pod.list_at("/spec/containers").len() + sidecars,
        restarts: restarts.count,
        last_restart: restarts.last,
    }
}

/// Why a container ended: its reason, or its signal or exit code.
fn ended(status: &Value) -> String {
    match (
        status.str_at("/state/terminated/reason"),
        status.i64_at("/state/terminated/signal"),
    ) {
        ("", 0) => format!("ExitCode:{}", status.i64_at("/state/terminated/exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_string(),
    }
}

fn condition_true(pod: &Value, kind: &str) -> bool {
    pod.list_at("/status/conditions")
        .iter()
        .any(|c| c.str_at("/type") == kind && c.str_at("/status") == "True")
}

fn readiness_gates(pod: &Value) -> Value {
    let gates = pod.list_at("/spec/readinessGates");
    if gates.is_empty() {
        return "<none>".into();
    }
    let passed = gates
        .iter()
        .filter(|g| condition_true(pod, g.str_at("/conditionType")))
        .count();
    format!("{passed}/{}", gates.len()).into()
}
