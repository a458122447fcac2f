use super::*;

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
