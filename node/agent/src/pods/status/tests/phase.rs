//! When a pod is over, and why.

use super::*;

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
