//! What is told of each container.

use vetch_runtime::ContainerId;

use super::*;
use crate::pods::probe::{Kind, Results};

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
