use serde_json::{Value, json};
use vetch_runtime::{ContainerId, ContainerState as State, ContainerStatus as SeenStatus};

use super::*;
use crate::pods::probe::{Kind, Results};
use crate::pods::resize::Told;
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
fn ephemeral_containers_beside_the_others() {
    let mut spec = app(json!({}));
    spec["restartPolicy"] = json!("Always");
    spec["ephemeralContainers"] = json!([
        {"name": "z", "image": "echo:v1"}, {"name": "failed", "image": "echo:v1"}, {"name": "held", "image": "echo:v1"},
    ]);
    let mut case = Case::new(
        spec,
        vec![
            container("app", 0, State::Running),
            container("z", 0, State::Running),
            exited("failed", 0, 128),
        ],
    );
    case.waiting = ["failed", "held"]
        .map(|name| (name.to_owned(), Waiting::new("RunContainerError", "words")))
        .into();
    let status = case.json();
    let states = |status: &Value| -> Vec<(String, String)> {
        let list = status["ephemeralContainerStatuses"].as_array().unwrap();
        list.iter()
            .map(|own| {
                let state = own["state"].as_object().unwrap();
                assert_eq!((&own["ready"], own.get("started")), (&json!(false), None));
                (
                    own["name"].as_str().unwrap().to_owned(),
                    state.keys().cloned().collect(),
                )
            })
            .collect()
    };
    let owned = |list: [(&str, &str); 3]| list.map(|(a, b)| (a.to_owned(), b.to_owned()));
    // By name. The one that failed is not going to be started again.
    assert_eq!(
        states(&status),
        owned([
            ("failed", "terminated"),
            ("held", "waiting"),
            ("z", "running")
        ])
    );
    assert_eq!(status["phase"], "Running");
    assert_eq!(status["conditions"][2]["status"], "True");

    // After a restart of the machine nothing is known of those that ran.
    case.previous = case.build();
    case.seen = Seen::default();
    case.waiting.clear();
    let status = case.json();
    assert_eq!(
        states(&status),
        owned([
            ("failed", "terminated"),
            ("held", "waiting"),
            ("z", "terminated")
        ])
    );
    let lost = &status["ephemeralContainerStatuses"][2];
    assert_eq!(
        lost["state"]["terminated"]["reason"],
        "ContainerStatusUnknown"
    );
    assert_eq!(lost["restartCount"], 0);
}

#[test]
fn a_pod_is_not_over_while_an_ephemeral_container_runs() {
    let mut spec = app(json!({}));
    spec["restartPolicy"] = json!("Never");
    spec["ephemeralContainers"] = json!([{"name": "debugger", "image": "echo:v1"}]);
    for (debugger, phase) in [
        (container("debugger", 0, State::Running), "Running"),
        (exited("debugger", 0, 1), "Succeeded"),
    ] {
        let case = Case::new(spec.clone(), vec![exited("app", 0, 0), debugger]);
        assert_eq!(case.build().phase.as_deref(), Some(phase));
    }
    let never_ran = Case::new(spec, vec![exited("app", 0, 0)]);
    assert_eq!(never_ran.build().phase.as_deref(), Some("Succeeded"));
}

#[test]
fn a_resize_is_told_while_it_lasts() {
    let size = |cpu: &str| json!({"requests": {"cpu": cpu}});
    let mut running = container("app", 0, State::Running);
    let given = size("1").to_string();
    running
        .annotations
        .insert(crate::pods::container::RESOURCES.into(), given);
    let mut case = Case::new(app(json!({"resources": size("2")})), vec![running.clone()]);
    case.resizing.pending = Some(Told {
        reason: "Deferred",
        message: "words".into(),
        generation: Some(3),
    });
    case.resizing.in_progress = Some(Told {
        generation: Some(1),
        ..Told::default()
    });
    let status = case.json();
    let container = &status["containerStatuses"][0];
    assert_eq!(container["allocatedResources"], json!({"cpu": "2"}));
    assert_eq!(container["resources"], size("1"));
    let since = "1970-01-01T01:23:20Z";
    assert_eq!(
        status["conditions"].as_array().unwrap()[..2],
        [
            json!({"type": "PodResizePending", "status": "True", "reason": "Deferred", "message": "words",
                "observedGeneration": 3, "lastTransitionTime": since}),
            json!({"type": "PodResizeInProgress", "status": "True", "observedGeneration": 1, "lastTransitionTime": since}),
        ]
    );

    // In the same words it is the same; of what has ended only the allocation counts.
    running.annotations.insert(
        crate::pods::container::RESOURCES.into(),
        size("2000m").to_string(),
    );
    for latest in [running, exited("app", 0, 1)] {
        case.seen = seen(vec![latest]);
        assert_eq!(case.json()["containerStatuses"][0]["resources"], size("2"));
    }
}

#[test]
fn a_container_that_was_ended_for_a_resize_ends_no_pod() {
    let mut spec = app(json!({}));
    spec["restartPolicy"] = json!("OnFailure");
    let mut case = Case::new(spec, vec![exited("app", 0, 0)]);
    assert_eq!(case.json()["phase"], "Succeeded");
    case.resizing.restarted.insert(ContainerId("app-0".into()));
    let status = case.json();
    assert_eq!(status["phase"], "Running");
    let container = &status["containerStatuses"][0];
    assert_eq!(container["state"]["waiting"]["reason"], "ContainerCreating");
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 0);
}

#[test]
fn before_the_first_start() {
    let mut case = Case::new(app(json!({})), vec![]);
    let status = case.json();
    assert_eq!(status["phase"], "Pending");
    let state = |status: &Value| status["containerStatuses"][0]["state"].clone();
    assert_eq!(
        state(&status),
        json!({"waiting": {"reason": "ContainerCreating"}})
    );
    let words = "containers with unready status: [app]";
    assert_eq!(status["conditions"][2]["message"], words);
    assert_eq!(status["conditions"][2]["reason"], "ContainersNotReady");

    let waiting = Waiting::new("ErrImagePull", "words");
    case.waiting.insert("app".into(), waiting);
    assert_eq!(
        state(&case.json()),
        json!({"waiting": {"reason": "ErrImagePull", "message": "words"}})
    );
}

#[test]
fn a_crash_loop() {
    let containers = vec![
        container("app", 0, State::Exited),
        container("app", 1, State::Exited),
    ];
    let mut case = Case::new(app(json!({})), containers);
    case.messages
        .insert(ContainerId("app-1".into()), "out of cheese".into());
    let ended = |attempt: i64, message: Option<&str>| {
        let mut ended = json!({"terminated": {
            "containerID": format!("vetch://app-{attempt}"), "exitCode": 1, "reason": "Error",
            "startedAt": Time(at(100 * attempt)), "finishedAt": Time(at(100 * attempt + 1)),
        }});
        if let Some(message) = message {
            ended["terminated"]["message"] = json!(message);
        }
        ended
    };
    let status = case.json();
    assert_eq!(status["phase"], "Running");
    let container = &status["containerStatuses"][0];
    assert_eq!(container["state"], ended(1, Some("out of cheese")));
    assert_eq!(container["lastState"], ended(0, None));
    assert_eq!(container["restartCount"], 1);

    let waiting = Waiting::new("CrashLoopBackOff", "back-off 10s");
    case.waiting.insert("app".into(), waiting);
    let container = case.json()["containerStatuses"][0].clone();
    assert_eq!(
        container["state"],
        json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}})
    );
    assert_eq!(container["lastState"], ended(1, Some("out of cheese")));

    // Of what the runtime no longer has, the last status tells.
    case.previous = case.build();
    case.seen = seen(vec![]);
    let again = case.json()["containerStatuses"][0].clone();
    assert_eq!(again["lastState"], container["lastState"]);
    assert_eq!(again["restartCount"], 1);
}

#[test]
fn started_and_ready_by_probes() {
    let probes = json!({"startupProbe": {"tcpSocket": {"port": 1}}, "readinessProbe": {"tcpSocket": {"port": 1}}});
    for (startup, readiness, started, ready) in [
        (None, None, false, false),
        (Some(false), None, false, false),
        (Some(true), None, true, false),
        (Some(true), Some(false), true, false),
        (Some(true), Some(true), true, true),
        (None, Some(true), false, false),
    ] {
        let mut case = Case::new(
            app(probes.clone()),
            vec![container("app", 0, State::Running)],
        );
        let mut results = Results::default();
        for (kind, result) in [(Kind::Startup, startup), (Kind::Readiness, readiness)] {
            if let Some(result) = result {
                results.set(kind, result);
            }
        }
        case.results.insert(ContainerId("app-0".into()), results);
        let status = case.json();
        let container = &status["containerStatuses"][0];
        let got = (&container["started"], &container["ready"]);
        assert_eq!(
            got,
            (&json!(started), &json!(ready)),
            "{startup:?} {readiness:?}"
        );
        let wanted = if ready { "True" } else { "False" };
        assert_eq!(status["conditions"][2]["status"], wanted);
    }
}

#[test]
fn init_containers() {
    let spec = json!({
        "initContainers": [{"name": "i1", "image": "echo:v1"}, {"name": "i2", "image": "echo:v1"}],
        "containers": [{"name": "app", "image": "echo:v1"}],
    });
    let case = Case::new(
        spec.clone(),
        vec![exited("i1", 0, 0), container("i2", 0, State::Running)],
    );
    let status = case.json();
    assert_eq!(status["phase"], "Pending");
    let init = &status["initContainerStatuses"];
    assert_eq!(
        (&init[0]["ready"], &init[1]["ready"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(
        status["containerStatuses"][0]["state"],
        json!({"waiting": {"reason": "PodInitializing"}})
    );
    assert_eq!(
        status["conditions"][1]["message"],
        "containers with incomplete status: [i2]"
    );
    // Removed since, and the pod went on.
    let case = Case::new(spec, vec![container("app", 0, State::Running)]);
    let status = case.json();
    assert_eq!(status["phase"], "Running");
    let ended = &status["initContainerStatuses"][0]["state"]["terminated"];
    assert_eq!(
        (&ended["reason"], &ended["exitCode"]),
        (&json!("Completed"), &json!(0))
    );
}

#[test]
fn the_end_of_a_pod() {
    for (policy, code, terminal, phase, reason) in [
        ("Never", 0, false, "Succeeded", "PodCompleted"),
        ("Never", 7, false, "Failed", "PodFailed"),
        ("Always", 0, true, "Succeeded", "PodCompleted"),
        ("Always", 143, true, "Failed", "PodFailed"),
    ] {
        let mut spec = app(json!({}));
        spec["restartPolicy"] = json!(policy);
        let mut case = Case::new(spec, vec![exited("app", 0, code)]);
        case.terminal = terminal;
        let status = case.json();
        assert_eq!(status["phase"], phase, "{policy} {code}");
        let ready = ("Ready".to_owned(), "False".to_owned(), reason.to_owned());
        assert!(conditions(&status).contains(&ready), "{status}");
    }
}

#[test]
fn a_terminal_phase_is_never_left() {
    let mut case = Case::new(app(json!({})), vec![container("app", 0, State::Running)]);
    case.previous.phase = Some("Failed".into());
    case.previous.reason = Some("Evicted".into());
    let status = case.json();
    assert_eq!(
        (&status["phase"], &status["reason"]),
        (&json!("Failed"), &json!("Evicted"))
    );
}

#[test]
fn a_verdict_is_told_when_all_has_ended() {
    let mut case = Case::new(app(json!({})), vec![container("app", 0, State::Running)]);
    case.verdict = Some(Verdict {
        reason: "DeadlineExceeded".into(),
        message: "words".into(),
    });
    let status = case.json();
    assert_eq!(
        (&status["phase"], &status["reason"]),
        (&json!("Running"), &Value::Null)
    );
    case.seen = seen(vec![exited("app", 0, 0)]);
    case.terminal = true;
    let status = case.json();
    assert_eq!(
        (&status["phase"], &status["reason"], &status["message"]),
        (
            &json!("Failed"),
            &json!("DeadlineExceeded"),
            &json!("words")
        )
    );
}

#[test]
fn a_container_whose_hook_runs_is_not_running_yet() {
    let mut case = Case::new(app(json!({})), vec![container("app", 0, State::Running)]);
    case.held = Some("app");
    assert_eq!(
        case.json()["containerStatuses"][0]["state"],
        json!({"waiting": {"reason": "ContainerCreating"}})
    );
}

#[test]
fn containers_that_were_lost() {
    // The supervisor died.
    let case = Case::new(app(json!({})), vec![container("app", 2, State::Unknown)]);
    let status = case.json();
    let ended = &status["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(
        (&ended["reason"], &ended["exitCode"]),
        (&json!("ContainerStatusUnknown"), &json!(137))
    );
    // The machine was restarted: the runtime has nothing of it.
    let mut case = Case::new(app(json!({})), vec![container("app", 2, State::Running)]);
    case.previous = case.build();
    case.seen = seen(vec![]);
    for _ in 0..2 {
        let status = case.json();
        let container = &status["containerStatuses"][0];
        assert_eq!(status["phase"], "Running");
        assert_eq!(container["restartCount"], 3);
        assert_eq!(
            container["lastState"]["terminated"]["reason"],
            "ContainerStatusUnknown"
        );
        case.previous = case.build();
    }
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

#[test]
fn a_pod_that_the_node_ends_says_so_while_it_ends() {
    let running = vec![container("app", 0, State::Running)];
    let mut case = Case::new(app(json!({})), running);
    let kind = "DisruptionTarget".to_owned();
    let has = |case: &Case| {
        let all = conditions(&case.json());
        all.into_iter().find(|(own, _, _)| *own == kind)
    };
    assert_eq!(has(&case), None);
    case.verdict = Some(Verdict {
        reason: "Evicted".to_owned(),
        message: "The node was low on resource: memory. ".to_owned(),
    });
    case.disruption = Some("The node was low on resource: memory. ");
    let told = (
        kind.clone(),
        "True".to_owned(),
        "TerminationByKubelet".to_owned(),
    );
    assert_eq!(has(&case), Some(told.clone()));
    assert_eq!(case.json()["phase"], "Running");
    case.terminal = true;
    assert_eq!(has(&case), Some(told));
    assert_eq!(case.json()["phase"], "Failed");
    assert_eq!(case.json()["reason"], "Evicted");
}

#[test]
fn a_pod_whose_containers_begin_anew() {
    let rule =
        json!([{"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [7]}}]);
    let spec = json!({"restartPolicy": "Never", "containers": [
        {"name": "app", "image": "echo:v1", "restartPolicy": "Never", "restartPolicyRules": rule},
        {"name": "b", "image": "echo:v1"},
    ]});
    let restarting = |status: &Value| {
        let all = conditions(status);
        let found = all
            .into_iter()
            .find(|(kind, ..)| kind == "AllContainersRestarting");
        found.map(|(_, status, reason)| (status, reason))
    };
    let says = |status: &str, reason: &str| Some((status.to_owned(), reason.to_owned()));
    let mut case = Case::new(
        spec,
        vec![exited("app", 0, 7), container("b", 0, State::Running)],
    );
    let status = case.json();
    assert_eq!(
        (restarting(&status), &status["phase"]),
        (
            says("True", "RestartAllContainersStarted"),
            &json!("Running")
        )
    );
    // All have ended, and some are gone.
    for left in [
        vec![exited("app", 0, 7), exited("b", 0, 137)],
        vec![exited("app", 0, 7)],
        vec![],
    ] {
        case.seen = seen(left.clone());
        case.previous = case.build();
        let status = case.json();
        assert_eq!(status["phase"], "Running", "{left:?}");
        let holds = if left.is_empty() { "False" } else { "True" };
        assert_eq!(restarting(&status).unwrap().0, holds, "{left:?}");
    }
    let status = case.json();
    let b = &status["containerStatuses"][1];
    assert_eq!(b["state"]["waiting"]["reason"], "ContainerCreating");
    assert_eq!(b["lastState"]["terminated"]["exitCode"], 137);
    // Another end is a usual one, and nothing begins anew on the way out.
    case.previous = PodStatus::default();
    case.seen = seen(vec![exited("app", 0, 1), exited("b", 0, 0)]);
    let status = case.json();
    assert_eq!(
        (restarting(&status), &status["phase"]),
        (says("False", "PodFailed"), &json!("Failed"))
    );
    let plain = Case::new(app(json!({})), vec![]).json();
    assert_eq!(restarting(&plain), None);
}
