use serde_json::{Value, json};
use vetch_runtime::{ContainerId, ContainerStatus, SandboxState};

use super::*;
use crate::pods::testing;

/// A pod with container `app`, whose status is this.
fn pod(status: Value) -> Pod {
    let mut status = status;
    if let Some(fields) = status.as_object_mut() {
        for (name, value) in [
            ("name", json!("app")),
            ("ready", json!(false)),
            ("image", json!("i")),
            ("imageID", json!("")),
        ] {
            fields.insert(name.into(), value);
        }
        fields.entry("restartCount").or_insert(json!(0));
    }
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "u1"},
        "spec": {
            "containers": [{"name": "app"}, {"name": "late"}],
            "initContainers": [{"name": "setup"}],
        },
        "status": {"containerStatuses": [status]},
    }))
    .unwrap()
}

fn ended(id: &str) -> Value {
    json!({"terminated": {"exitCode": 1, "containerID": id}})
}

fn run(container_id: &str, attempt: u32) -> Result<Run, String> {
    Ok(Run {
        container_id: container_id.into(),
        attempt,
    })
}

fn refused(words: &str) -> Result<Run, String> {
    Err(words.to_owned())
}

#[test]
fn as_the_kubelet_chooses() {
    let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
    let running = json!({"running": {}});
    let crashing = json!({
        "state": waiting("CrashLoopBackOff"), "lastState": ended("vetch://b"), "restartCount": 4,
    });
    let no_previous = "previous terminated container \"app\" in pod \"web\" not found";
    let is_waiting = "container \"app\" in pod \"web\" is waiting to start";
    let table = [
        (
            json!({"state": running, "containerID": "vetch://a"}),
            false,
            run("vetch://a", 0),
        ),
        (
            json!({"state": running, "containerID": "vetch://a"}),
            true,
            refused(no_previous),
        ),
        (
            json!({"state": running, "containerID": "vetch://b", "restartCount": 2, "lastState": ended("vetch://a")}),
            true,
            run("vetch://a", 1),
        ),
        (
            json!({"state": ended("vetch://a")}),
            false,
            run("vetch://a", 0),
        ),
        (
            json!({"state": ended("vetch://a")}),
            true,
            refused(no_previous),
        ),
        (
            json!({"state": ended(""), "lastState": ended("vetch://a"), "restartCount": 1}),
            false,
            run("vetch://a", 0),
        ),
        (
            json!({"state": ended("")}),
            false,
            refused("container \"app\" in pod \"web\" is terminated"),
        ),
        // In back-off the one that ended is both the current and the previous.
        (crashing.clone(), false, run("vetch://b", 4)),
        (crashing, true, run("vetch://b", 4)),
        (
            json!({"state": waiting("ContainerCreating")}),
            false,
            refused(&format!("{is_waiting}: ContainerCreating")),
        ),
        (
            json!({"state": waiting("ErrImagePull")}),
            false,
            refused(&format!("{is_waiting}: image can't be pulled")),
        ),
        (
            json!({"state": waiting("ImagePullBackOff")}),
            false,
            refused(&format!("{is_waiting}: trying and failing to pull image")),
        ),
        (
            json!({"state": waiting("PodInitializing")}),
            true,
            refused(no_previous),
        ),
        (
            json!({}),
            false,
            refused(&format!("{is_waiting} - no logs yet")),
        ),
    ];
    for (status, previous, want) in table {
        let got = from_status(&pod(status.clone()), "app", previous);
        assert_eq!(
            got.map_err(|error| error.to_string()),
            want,
            "{status} {previous}"
        );
    }
}

#[test]
fn containers_that_are_not_there() {
    let pod = pod(json!({}));
    for (container, want) in [
        ("none", "container \"none\" not found in pod \"web\"\n"),
        ("late", "container \"late\" in pod \"web\" is not available"),
        (
            "setup",
            "container \"setup\" in pod \"web\" is not available",
        ),
    ] {
        let got = from_status(&pod, container, false).unwrap_err();
        assert_eq!(got.to_string(), want);
    }
}

fn sandbox(uid: &str, created: i64, containers: &[(&str, u32, ContainerState)]) -> SandboxStatus {
    let containers = containers
        .iter()
        .map(|(id, attempt, state)| ContainerStatus {
            id: ContainerId((*id).to_owned()),
            ..testing::container("app", *attempt, *state)
        });
    let mut sandbox = testing::sandbox(0, SandboxState::Ready, containers.collect());
    sandbox.spec.pod_uid = uid.to_owned();
    sandbox.created_at = testing::at(created);
    sandbox
}

#[test]
fn without_a_status_the_runtime_knows() {
    use ContainerState::*;
    let sandboxes = [
        sandbox("old", 1, &[("x", 9, Running)]),
        sandbox("new", 2, &[("a", 0, Exited), ("b", 1, Exited)]),
        sandbox("new", 3, &[("d", 3, Created), ("c", 2, Running)]),
    ];
    let find = |pod: &str, container: &str, previous| {
        from_runtime(&sandboxes, "shop", pod, container, previous)
            .map(|run| (run.container_id, run.attempt))
    };
    assert_eq!(find("web", "app", false), Some(("vetch://c".into(), 2)));
    assert_eq!(find("web", "app", true), Some(("vetch://b".into(), 1)));
    assert_eq!(find("web", "none", false), None);
    assert_eq!(find("other", "app", false), None);
}
