use super::*;

#[test]
fn a_resize_that_needs_a_restart() {
    let size = |cpu: &str| json!({"requests": {"cpu": cpu}});
    let spec = |sidecar: bool| {
        let policy = json!([{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]);
        let sized = |name: &str, own: Option<&str>| json!({"name": name, "image": "echo:v1", "resizePolicy": policy, "resources": size("2"), "restartPolicy": own});
        let init = sidecar.then(|| sized("side", Some("Always")));
        json!({
            "restartPolicy": "OnFailure", "initContainers": Vec::from_iter(init),
            "containers": [sized("app", None)],
        })
    };
    let given = |mut status: ContainerStatus, cpu: &str| {
        let text = size(cpu).to_string();
        status
            .annotations
            .insert(crate::pods::container::RESOURCES.to_owned(), text);
        status
    };
    let running = |name: &str, cpu: &str| given(container(name, 0, Running), cpu);
    let mut case = Case::new(spec(false), vec![running("app", "1")]);
    assert_eq!(
        words(&case.plan()),
        ["kill app-0: Container app resize requires restart"]
    );
    case.seen = seen(vec![running("app", "2")]);
    assert_eq!(words(&case.plan()), [""; 0]);
    let both = vec![running("side", "1"), running("app", "2")];
    assert_eq!(
        words(&Case::new(spec(true), both).plan()),
        ["kill side-0: Container side resize requires restart"]
    );

    // However it ended: it is started again, and at once.
    case.seen = seen(vec![given(exited("app", 0, 0), "1")]);
    let ended = at(1);
    case.crashes.next(
        &crash_key(&case.pod.spec.as_ref().unwrap().containers[0]),
        ended,
        ended,
    );
    case.now = at(2);
    assert!(case.plan().ended);
    case.resized.insert(ContainerId("app-0".into()));
    assert_eq!(words(&case.plan()), ["start app"]);
}
