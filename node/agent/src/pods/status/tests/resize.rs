use vetch_runtime::ContainerId;

use super::*;
use crate::pods::resize::Told;

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
