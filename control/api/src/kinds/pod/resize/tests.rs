use serde_json::json;

use super::*;
use crate::kinds::pod::ROW;

/// A stored pod of these containers, running.
fn stored(spec: Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": "p", "namespace": "n", "generation": 3, "labels": {"a": "b"}},
        "spec": spec,
    });
    (ROW.default)(&mut pod);
    let qos = qos_class(&pod["spec"]);
    pod["status"] = json!({"qosClass": qos, "containerStatuses": [
        {"name": "c", "state": {"running": {}}, "resources": {}},
    ]});
    pod
}

fn container(name: &str, resources: Value) -> Value {
    json!({"name": name, "image": "x", "resources": resources})
}

fn one(resources: Value) -> Value {
    stored(json!({"containers": [container("c", resources)]}))
}

/// As the server does it.
fn resized(mut new: Value, old: &Value) -> (Value, Vec<String>) {
    (ROW.default)(&mut new);
    prepare(&mut new, old);
    let errors = validate(&new, old);
    (new, errors.iter().map(ToString::to_string).collect())
}

#[test]
fn only_resources_come_from_the_client() {
    let old = one(json!({"requests": {"cpu": "20m"}}));
    let mut wanted = old.clone();
    wanted["metadata"]["labels"] = json!({"other": "x"});
    wanted["spec"]["restartPolicy"] = json!("Never");
    wanted["spec"]["containers"][0]["image"] = json!("y");
    wanted["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": "25m"}, "limits": {"cpu": "35m"}});
    wanted["status"] = json!({"phase": "Failed"});
    let (new, errors) = resized(wanted, &old);
    assert_eq!(errors, [""; 0]);
    let mut expected = old.clone();
    expected["metadata"]["generation"] = json!(4);
    expected["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": "25m"}, "limits": {"cpu": "35m"}});
    assert_eq!(new, expected);
    // Nothing new is no new generation.
    assert_eq!(resized(old.clone(), &old), (old.clone(), vec![]));
}

#[test]
fn what_a_container_may_become() {
    let burstable = json!({"requests": {"cpu": "20m", "memory": "35Mi"}, "limits": {"cpu": "30m", "memory": "45Mi"}});
    let guaranteed = json!({"requests": {"cpu": "20m", "memory": "35Mi"}, "limits": {"cpu": "20m", "memory": "35Mi"}});
    let qos = |class: &str| {
        format!(
            "spec: Invalid value: {class:?}: Pod QOS Class may not change as a result of resizing"
        )
    };
    let requests =
        "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed";
    let limits =
        "spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed";
    let others = "spec: Forbidden: only cpu and memory resources are mutable";
    for (old, new, expected) in [
        // More and less, also of a memory limit.
        (
            burstable.clone(),
            json!({"requests": {"cpu": "15m", "memory": "40Mi"}, "limits": {"cpu": "35m", "memory": "40Mi"}}),
            vec![],
        ),
        // What was not there is added.
        (
            json!({"requests": {"cpu": "20m"}}),
            json!({"requests": {"cpu": "15m", "memory": "35Mi"}, "limits": {"memory": "35Mi"}}),
            vec![],
        ),
        (
            json!({}),
            json!({"requests": {"cpu": "20m"}}),
            vec![qos("BestEffort")],
        ),
        (
            burstable.clone(),
            json!({"requests": {"cpu": "30m", "memory": "45Mi"}, "limits": {"cpu": "30m", "memory": "45Mi"}}),
            vec![qos("Burstable")],
        ),
        (
            guaranteed,
            json!({"requests": {"cpu": "20m", "memory": "35Mi"}}),
            vec![qos("Guaranteed"), limits.to_owned()],
        ),
        (
            burstable.clone(),
            json!({"requests": {"cpu": "25m", "memory": "40Mi"}, "limits": {"cpu": "30m"}}),
            vec![limits.to_owned()],
        ),
        (
            json!({"requests": {"cpu": "20m", "memory": "35Mi"}}),
            json!({"requests": {"cpu": "20m"}}),
            vec![requests.to_owned()],
        ),
        (
            json!({"requests": {"cpu": "20m", "ephemeral-storage": "1"}}),
            json!({"requests": {"cpu": "20m", "ephemeral-storage": "3"}}),
            vec![others.to_owned()],
        ),
        // What any container must keep to.
        (
            burstable,
            json!({"requests": {"cpu": "40m", "memory": "35Mi"}, "limits": {"cpu": "30m", "memory": "45Mi"}}),
            vec![
                "spec.containers[0].resources.requests: Invalid value: \"40m\": must be less than or equal to cpu limit of 30m"
                    .to_owned(),
            ],
        ),
    ] {
        let old = one(old);
        let mut wanted = old.clone();
        wanted["spec"]["containers"][0]["resources"] = new.clone();
        assert_eq!(resized(wanted, &old).1, expected, "{new}");
    }
}

#[test]
fn containers_stay_the_same_ones() {
    let size = json!({"requests": {"cpu": "20m"}});
    let two = |names: [&str; 2]| names.map(|name| container(name, size.clone()));
    let old = stored(json!({"containers": two(["a", "b"])}));
    let renamed = |i: usize| {
        format!(
            "spec.containers[{i}].name: Forbidden: containers may not be renamed or reordered on resize"
        )
    };
    for (containers, expected) in [
        (json!(two(["b", "a"])), vec![renamed(0), renamed(1)]),
        (json!(two(["a", "c"])), vec![renamed(1)]),
        (
            json!([container("a", size.clone())]),
            vec![
                "spec.containers: Forbidden: containers may not be added or removed on resize"
                    .to_owned(),
            ],
        ),
    ] {
        let mut wanted = old.clone();
        wanted["spec"]["containers"] = containers.clone();
        assert_eq!(resized(wanted, &old).1, expected, "{containers}");
    }
}

#[test]
fn init_containers_and_the_pod_as_a_whole() {
    let restart = json!([{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]);
    let size = |cpu: &str| json!({"requests": {"cpu": cpu}});
    let init = |policy: Option<&str>, resize: &Value, cpu: &str| {
        let mut init = container("i", size(cpu));
        init["restartPolicy"] = json!(policy);
        init["resizePolicy"] = resize.clone();
        stored(json!({"initContainers": [init], "containers": [container("c", size("1"))]}))
    };
    let refused = "spec.initContainers[0]: Forbidden: non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
    for (policy, resize, expected) in [
        (Some("Always"), &restart, vec![]),
        (None, &Value::Null, vec![]),
        (None, &restart, vec![refused]),
    ] {
        let (old, wanted) = (init(policy, resize, "1"), init(policy, resize, "2"));
        let (new, errors) = resized(wanted, &old);
        assert_eq!(errors, expected, "{policy:?} {resize}");
        assert_eq!(
            new.str_at("/spec/initContainers/0/resources/requests/cpu"),
            "2"
        );
    }

    let whole = |resources: Value| {
        stored(json!({"resources": resources, "containers": [container("c", size("1"))]}))
    };
    for (new, expected) in [
        (json!({"requests": {"cpu": "3"}}), vec![]),
        (
            json!({"requests": {}}),
            vec![
                "spec.resources.requests: Forbidden: pod-level resource requests cannot be removed",
            ],
        ),
        (
            json!(null),
            vec!["spec.resources: Forbidden: pod-level resources cannot be removed"],
        ),
        (
            json!({"requests": {"cpu": "2"}, "limits": {"hugepages-2Mi": "2Mi"}}),
            vec!["spec: Forbidden: only cpu and memory resources are mutable at pod-level"],
        ),
    ] {
        let old = whole(json!({"requests": {"cpu": "2"}}));
        let mut wanted = old.clone();
        wanted["spec"]["resources"] = new.clone();
        assert_eq!(resized(wanted, &old).1, expected, "{new}");
    }
}

#[test]
fn pods_that_cannot_be_resized() {
    let grow = |change: fn(&mut Value)| {
        let mut old = one(json!({"requests": {"cpu": "1"}}));
        change(&mut old);
        let mut wanted = old.clone();
        wanted["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "2"}});
        resized(wanted, &old).1
    };
    assert_eq!(grow(|_| {}), [""; 0]);
    assert_eq!(
        grow(|pod| pod["metadata"]["annotations"] = json!({MIRROR: "x"})),
        [": Forbidden: static pods cannot be resized"]
    );
    assert_eq!(
        grow(|pod| pod["spec"]["os"] = json!({"name": "windows"})),
        [": Forbidden: windows pods cannot be resized"]
    );
    assert_eq!(
        grow(|pod| drop(pod["status"]["containerStatuses"][0].remove_key("resources"))),
        ["spec: Forbidden: Pod running on node without support for resize"]
    );
    // One that is not running yet has nothing to tell.
    assert_eq!(
        grow(|pod| drop(pod["status"].remove_key("containerStatuses"))),
        [""; 0]
    );
}
