use super::*;

fn row(group: &str, plural: &str) -> &'static Resource {
    vetch_api::find(group, "v1", plural).unwrap()
}

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn options(text: &str) -> Options {
    Options::parse(&Query::default(), text.as_bytes()).unwrap()
}

fn pod(node: &str, phase: &str) -> Value {
    json!({
        "metadata": {"name": "p", "generation": 1},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 30},
        "status": {"phase": phase},
    })
}

fn at_once() -> Value {
    let mut pod = pod("n", "Running");
    pod["spec"]["terminationGracePeriodSeconds"] = 0.into();
    pod
}

/// deletionTimestamp, deletionGracePeriodSeconds, finalizers.
fn marks(outcome: Outcome) -> Option<(String, i64, Value)> {
    match outcome {
        Outcome::Remove => None,
        Outcome::Mark(object) => {
            let metadata = &object["metadata"];
            Some((
                metadata["deletionTimestamp"].as_str().unwrap().to_owned(),
                metadata["deletionGracePeriodSeconds"].as_i64().unwrap(),
                metadata["finalizers"].clone(),
            ))
        }
    }
}

#[test]
fn pods_end_gracefully_where_something_runs() {
    let pods = row("", "pods");
    let at = |text: &str, grace: i64| Some((text.to_owned(), grace, Value::Null));
    for (object, asked, wanted) in [
        (pod("n", "Running"), "", at("2026-01-01T00:00:30Z", 30)),
        (
            pod("n", "Running"),
            r#"{"gracePeriodSeconds": 5}"#,
            at("2026-01-01T00:00:05Z", 5),
        ),
        (
            pod("n", "Running"),
            r#"{"gracePeriodSeconds": -1}"#,
            at("2026-01-01T00:00:01Z", 1),
        ),
        (pod("n", "Running"), r#"{"gracePeriodSeconds": 0}"#, None),
        // What is asked for counts, also of a pod that would end at once.
        (at_once(), "", None),
        (
            at_once(),
            r#"{"gracePeriodSeconds": 30}"#,
            at("2026-01-01T00:00:30Z", 30),
        ),
        (pod("", "Pending"), "", None),
        (pod("", "Pending"), r#"{"gracePeriodSeconds": 60}"#, None),
        (pod("n", "Succeeded"), "", None),
        (pod("n", "Failed"), r#"{"gracePeriodSeconds": 60}"#, None),
    ] {
        assert_eq!(
            marks(decide(pods, &object, &options(asked), now())),
            wanted,
            "{object} {asked}"
        );
    }
}

#[test]
fn grace_is_at_most_the_time_there_is() {
    let pods = row("", "pods");
    let whole = Timestamp::MAX.duration_since(now()).as_secs();
    let endless = |grace: i64| {
        let mut pod = pod("n", "Running");
        pod["spec"]["terminationGracePeriodSeconds"] = grace.into();
        pod
    };
    for (object, asked, grace) in [
        (pod("n", "Running"), Some(whole), whole),
        (pod("n", "Running"), Some(whole + 1), whole),
        (pod("n", "Running"), Some(1_000_000_000_000), whole),
        (pod("n", "Running"), Some(i64::MAX), whole),
        // As the garbage collector deletes: the pod itself says how long.
        (endless(1_000_000_000_000), None, whole),
        (endless(i64::MAX), None, whole),
        (endless(i64::MAX), Some(5), 5),
    ] {
        let asked = asked.map_or(json!({}), |seconds| json!({"gracePeriodSeconds": seconds}));
        let first = decide(pods, &object, &options(&asked.to_string()), now());
        let Outcome::Mark(marked) = first else {
            panic!("{asked}: it is removed at once");
        };
        let until = now() + SignedDuration::from_secs(grace);
        let wanted = Some((timestamp(until), grace, Value::Null));
        assert_eq!(marks(Outcome::Mark(marked.clone())), wanted, "{asked}");
        // Shortened, it ends as though that had been asked for first.
        let second = decide(
            pods,
            &marked,
            &options(r#"{"gracePeriodSeconds": 5}"#),
            now(),
        );
        let wanted = Some(("2026-01-01T00:00:05Z".to_owned(), 5, Value::Null));
        assert_eq!(marks(second), wanted, "{asked}, then 5");
    }
}

#[test]
fn a_second_delete_only_shortens() {
    let pods = row("", "pods");
    let mut object = pod("n", "Running");
    object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:20Z".into();
    object["metadata"]["deletionGracePeriodSeconds"] = 30.into();
    for (asked, wanted) in [
        ("", Some(("2026-01-01T00:00:20Z", 30))),
        (
            r#"{"gracePeriodSeconds": 60}"#,
            Some(("2026-01-01T00:00:20Z", 30)),
        ),
        (
            r#"{"gracePeriodSeconds": 10}"#,
            Some(("2026-01-01T00:00:00Z", 10)),
        ),
        (r#"{"gracePeriodSeconds": 0}"#, None),
    ] {
        let found = marks(decide(pods, &object, &options(asked), now()));
        let found = found.as_ref().map(|(at, grace, _)| (at.as_str(), *grace));
        assert_eq!(found, wanted, "{asked}");
    }
}

#[test]
fn finalizers_hold_an_object_and_carry_the_policy() {
    let deployments = row("apps", "deployments");
    let object = |finalizers: Value| json!({"metadata": {"name": "d", "finalizers": finalizers}});
    for (before, asked, wanted) in [
        (json!([]), "", None),
        (json!(["x/y"]), "", Some(json!(["x/y"]))),
        (
            json!([]),
            r#"{"propagationPolicy": "Foreground"}"#,
            Some(json!(["foregroundDeletion"])),
        ),
        (
            json!(["orphan"]),
            r#"{"propagationPolicy": "Foreground"}"#,
            Some(json!(["foregroundDeletion"])),
        ),
        (
            json!([]),
            r#"{"propagationPolicy": "Orphan"}"#,
            Some(json!(["orphan"])),
        ),
        (
            json!([]),
            r#"{"orphanDependents": true}"#,
            Some(json!(["orphan"])),
        ),
        (
            json!(["foregroundDeletion"]),
            r#"{"propagationPolicy": "Background"}"#,
            None,
        ),
        (
            json!(["foregroundDeletion"]),
            "",
            Some(json!(["foregroundDeletion"])),
        ),
    ] {
        let found = marks(decide(
            deployments,
            &object(before.clone()),
            &options(asked),
            now(),
        ));
        assert_eq!(
            found.map(|(.., finalizers)| finalizers),
            wanted,
            "{before} {asked}"
        );
    }
}

#[test]
fn a_namespace_terminates() {
    let object = json!({"metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
    let Outcome::Mark(marked) = decide(row("", "namespaces"), &object, &options(""), now()) else {
        panic!("a namespace with finalizers stays");
    };
    assert_eq!(marked["status"]["phase"], "Terminating");
    let mut emptied = marked;
    emptied["spec"]["finalizers"] = json!([]);
    assert!(crate::write::is_finished(row("", "namespaces"), &emptied));
}

#[test]
fn preconditions_are_named() {
    let object = Object::new("k".into(), json!({"metadata": {"uid": "u"}}), 7);
    for (asked, told) in [
        (
            r#"{"preconditions": {"uid": "v"}}"#,
            "Operation cannot be fulfilled on pods \"p\": the UID in the precondition (v) does not match the UID in record (u). The object might have been deleted and then recreated",
        ),
        (
            r#"{"preconditions": {"resourceVersion": "6"}}"#,
            "Operation cannot be fulfilled on pods \"p\": the ResourceVersion in the precondition (6) does not match the ResourceVersion in record (7). The object might have been modified",
        ),
    ] {
        assert_eq!(
            options(asked)
                .check(row("", "pods"), "p", &object)
                .unwrap_err()
                .message,
            told
        );
    }
    assert!(
        options(r#"{"preconditions": {"uid": "u", "resourceVersion": "7"}}"#)
            .check(row("", "pods"), "p", &object)
            .is_ok()
    );
}
