//! All containers begin anew.

use super::*;

/// An init container, a sidecar whose end with 88 restarts all, and an app.
fn watched() -> Value {
    json!({
        "restartPolicy": "Never",
        "initContainers": [
            {"name": "i", "image": "echo:v1"},
            {"name": "s", "image": "echo:v1", "restartPolicy": "Always", "restartPolicyRules": [
                {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [88]}},
            ]},
        ],
        "containers": [{"name": "app", "image": "echo:v1"}],
    })
}

fn planned(containers: Vec<ContainerStatus>, change: fn(&mut Case)) -> Plan {
    let mut case = Case::new(watched(), containers);
    change(&mut case);
    case.plan()
}

#[test]
fn all_are_taken_away_and_the_one_that_began_it_last() {
    let killed = "Stopping container app: container s ended, and all are restarted with it";
    let (i, s) = (|| exited("i", 0, 0), |code| exited("s", 0, code));
    let app = |state| container("app", 0, state);
    for (containers, want) in [
        // Another end of it is an ordinary one.
        (vec![i(), s(1), app(Running)], vec!["start s".to_owned()]),
        (
            vec![i(), s(88), app(Running)],
            vec!["reset i-0".to_owned(), format!("kill app-0: {killed}")],
        ),
        (
            vec![i(), s(88), exited("app", 0, 0)],
            vec!["reset i-0".into(), "reset app-0".into()],
        ),
        (vec![s(88), app(Created)], vec!["reset app-0".to_owned()]),
        (vec![s(88)], vec!["reset s-0".to_owned()]),
        (vec![], vec!["start i".to_owned()]),
    ] {
        let plan = planned(containers.clone(), |_| {});
        assert_eq!(words(&plan), want, "{containers:?}");
        assert!(!plan.ended, "{containers:?}");
    }
}

#[test]
fn nothing_is_begun_twice_and_what_starts_is_waited_for() {
    let busy = planned(
        vec![
            exited("i", 0, 0),
            exited("s", 0, 88),
            container("app", 0, Running),
        ],
        |case| {
            case.busy.sweeps.insert("i-0".into());
            case.busy.kills.insert(ContainerId("app-0".into()));
        },
    );
    assert_eq!(words(&busy), [""; 0]);
    let starting = planned(vec![exited("s", 0, 88)], |case| {
        case.busy.start = Some("app".into());
    });
    assert_eq!(words(&starting), [""; 0]);
}

#[test]
fn a_pod_that_restarts_often_backs_off() {
    let plan = planned(vec![exited("s", 0, 88)], |case| {
        let key = crash_key(&crate::pods::spec::init_containers(&case.pod)[1]);
        let finished = at(1);
        case.crashes.next(&key, finished, at(2));
        case.now = at(5);
    });
    assert_eq!(words(&plan), [""; 0]);
    assert_eq!(plan.wake_at, Some(at(11)));
    assert_eq!(plan.waiting["s"].reason, "CrashLoopBackOff");
}

#[test]
fn the_first_rule_that_fits_is_the_one() {
    let rules = |first: &str, second: &str| {
        let rule = |action: &str| json!({"action": action, "exitCodes": {"operator": "NotIn", "values": [0]}});
        json!({"restartPolicy": "Never", "containers": [
            {"name": "a", "image": "echo:v1", "restartPolicy": "Never",
             "restartPolicyRules": [rule(first), rule(second)]},
            {"name": "b", "image": "echo:v1"},
        ]})
    };
    for (first, second, want) in [
        ("Restart", "RestartAllContainers", "start a"),
        ("RestartAllContainers", "Restart", "reset b-0"),
    ] {
        let case = Case::new(
            rules(first, second),
            vec![exited("a", 0, 3), exited("b", 0, 0)],
        );
        assert_eq!(words(&case.plan()), [want], "{first}");
    }
    let deleted = |case: &mut Case| {
        let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(1));
        case.pod.metadata.deletion_timestamp = Some(now);
    };
    let mut case = Case::new(
        rules("RestartAllContainers", "Restart"),
        vec![exited("a", 0, 3)],
    );
    deleted(&mut case);
    assert!(
        !words(&case.plan())
            .iter()
            .any(|word| word.starts_with("reset"))
    );
}
