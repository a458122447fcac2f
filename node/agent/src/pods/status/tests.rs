mod containers;
mod ephemeral;
mod phase;
mod resize;

use serde_json::{Value, json};
use vetch_runtime::{ContainerState as State, ContainerStatus as SeenStatus};

use super::*;
use crate::pods::testing::{at, container, exited, pod, seen};

struct Case {
    pod: Pod,
    previous: PodStatus,
    seen: Seen,
    waiting: BTreeMap<String, Waiting>,
    results: ProbeResults,
    messages: TerminationMessages,
    held: Option<&'static str>,
    resizing: Resizing,
    terminal: bool,
    verdict: Option<Verdict>,
    disruption: Option<&'static str>,
    now: Timestamp,
}

impl Case {
    fn new(spec: Value, containers: Vec<SeenStatus>) -> Case {
        Case {
            pod: pod(spec),
            previous: PodStatus::default(),
            seen: seen(containers),
            waiting: BTreeMap::new(),
            results: ProbeResults::new(),
            messages: TerminationMessages::new(),
            held: None,
            resizing: Resizing::default(),
            terminal: false,
            verdict: None,
            disruption: None,
            now: at(5000),
        }
    }

    fn build(&self) -> PodStatus {
        build(&Inputs {
            pod: &self.pod,
            previous: &self.previous,
            seen: &self.seen,
            waiting: &self.waiting,
            results: &self.results,
            messages: &self.messages,
            held: self.held,
            resizing: &self.resizing,
            pod_ips: &["10.244.0.7".parse().unwrap()],
            node_ips: &["172.30.0.2".parse().unwrap()],
            sandbox_ready: true,
            terminal: self.terminal,
            verdict: self.verdict.as_ref(),
            disruption: self.disruption,
            now: self.now,
        })
    }

    fn json(&self) -> Value {
        serde_json::to_value(self.build()).unwrap()
    }
}

fn app(extra: Value) -> Value {
    let mut container = json!({"name": "app", "image": "echo:v1"});
    for (key, value) in extra.as_object().unwrap() {
        container[key] = value.clone();
    }
    json!({"containers": [container]})
}

/// (status, reason) by type.
fn conditions(status: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = status["conditions"].as_array().unwrap();
    list.iter()
        .map(|c| (text(&c["type"]), text(&c["status"]), text(&c["reason"])))
        .collect()
}

#[test]
fn a_running_pod_as_a_whole() {
    let mut case = Case::new(
        app(json!({"resources": {"requests": {"cpu": "1"}}})),
        vec![container("app", 0, State::Running)],
    );
    case.previous.start_time = Some(Time(at(4000)));
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": "1970-01-01T01:23:20Z", "observedGeneration": 1});
    assert_eq!(
        case.json(),
        json!({
            "phase": "Running",
            "observedGeneration": 1,
            "qosClass": "Burstable",
            "startTime": "1970-01-01T01:06:40Z",
            "hostIP": "172.30.0.2", "hostIPs": [{"ip": "172.30.0.2"}],
            "podIP": "10.244.0.7", "podIPs": [{"ip": "10.244.0.7"}],
            "conditions": [
                condition("PodReadyToStartContainers"), condition("Initialized"), condition("Ready"),
                condition("ContainersReady"), condition("PodScheduled"),
            ],
            "containerStatuses": [{
                "name": "app", "image": "echo:v1", "imageID": "sha256:1", "containerID": "vetch://app-0",
                "ready": true, "started": true, "restartCount": 0, "lastState": {},
                "state": {"running": {"startedAt": "1970-01-01T00:00:00Z"}},
                "allocatedResources": {"cpu": "1"}, "resources": {"requests": {"cpu": "1"}},
            }],
        })
    );
}

#[test]
fn a_condition_keeps_its_time_until_it_changes() {
    let mut case = Case::new(app(json!({})), vec![]);
    case.previous = case.build();
    case.now = at(6000);
    case.seen = seen(vec![container("app", 0, State::Running)]);
    let status = case.json();
    let time = |index: usize| status["conditions"][index]["lastTransitionTime"].clone();
    assert_eq!(time(4), json!(Time(at(5000))));
    assert_eq!(time(2), json!(Time(at(6000))));
}

#[test]
fn readiness_gates() {
    let mut spec = app(json!({}));
    spec["readinessGates"] = json!([{"conditionType": "example.com/lb"}]);
    for (gate, want) in [
        (
            None,
            "corresponding condition of pod readiness gate \"example.com/lb\" does not exist.",
        ),
        (
            Some("False"),
            "the status of pod readiness gate \"example.com/lb\" is not \"True\", but False",
        ),
        (Some("True"), ""),
    ] {
        let mut case = Case::new(spec.clone(), vec![container("app", 0, State::Running)]);
        let list = gate.map(|status| json!([{"type": "example.com/lb", "status": status}]));
        case.pod.status = serde_json::from_value(json!({"conditions": list})).unwrap();
        let status = case.json();
        let message = status["conditions"][2]["message"]
            .as_str()
            .unwrap_or_default();
        assert_eq!(message, want);
    }
}
