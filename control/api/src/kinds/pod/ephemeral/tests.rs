use serde_json::json;

use super::super::ROW;
use super::*;

fn debugger(more: Value) -> Value {
    let mut container = json!({"name": "debugger", "image": "x:1"});
    for (key, value) in more.as_object().unwrap() {
        container[key] = value.clone();
    }
    container
}

/// A pod as it is stored, with these ephemeral containers.
fn pod(ephemeral: Value) -> Value {
    let mut pod = json!({"metadata": {"name": "p", "namespace": "n", "generation": 3}, "spec": {
        "containers": [{"name": "app", "image": "x:1"}],
        "initContainers": [{"name": "init", "image": "x:1"}],
        "volumes": [{"name": "v", "emptyDir": {}}],
        "ephemeralContainers": ephemeral,
    }, "status": {"phase": "Running"}});
    (ROW.default)(&mut pod);
    pod
}

fn texts(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn what_may_be_said_of_them() {
    let whole = json!({
        "command": ["sh"], "args": ["-c"], "workingDir": "/", "env": [{"name": "A", "value": "b"}],
        "envFrom": [{"configMapRef": {"name": "c"}}], "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        "securityContext": {"capabilities": {"add": ["SYS_PTRACE"]}}, "stdin": true, "stdinOnce": true, "tty": true,
        "resources": {}, "targetContainerName": "app",
    });
    let not = |fields: &[&str]| -> Vec<String> {
        fields
            .iter()
            .map(|field| format!("spec.ephemeralContainers[0].{field}: Forbidden: cannot be set for an Ephemeral Container"))
            .collect()
    };
    let table = [
        (json!([]), vec![]),
        (json!([debugger(whole)]), vec![]),
        (
            json!([debugger(json!({"targetContainerName": "init"}))]),
            vec![],
        ),
        (
            json!([{}]),
            vec![
                "spec.ephemeralContainers[0].name: Required value".to_owned(),
                "spec.ephemeralContainers[0].image: Required value".to_owned(),
            ],
        ),
        (
            json!([debugger(
                json!({"ports": [{"containerPort": 1}], "resources": {"limits": {"cpu": "1"}}})
            )]),
            not(&["ports", "resources"]),
        ),
        (
            json!([debugger(
                json!({"livenessProbe": {}, "readinessProbe": {}, "startupProbe": {}, "lifecycle": {}})
            )]),
            not(&[
                "lifecycle",
                "livenessProbe",
                "readinessProbe",
                "startupProbe",
            ]),
        ),
        (
            json!([debugger(json!({
                "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}], "restartPolicy": "Always",
            }))]),
            not(&["resizePolicy", "restartPolicy"]),
        ),
        (
            json!([debugger(
                json!({"volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "a"}]})
            )]),
            not(&["volumeMounts[0].subPath"]),
        ),
        (
            json!([debugger(
                json!({"volumeMounts": [{"name": "none", "mountPath": "/v"}]})
            )]),
            vec![
                "spec.ephemeralContainers[0].volumeMounts[0].name: Not found: \"none\"".to_owned(),
            ],
        ),
        (
            json!([
                debugger(json!({})),
                debugger(json!({})),
                debugger(json!({"name": "init"}))
            ]),
            vec![
                "spec.ephemeralContainers[1].name: Duplicate value: \"debugger\"".to_owned(),
                "spec.ephemeralContainers[2].name: Duplicate value: \"init\"".to_owned(),
            ],
        ),
        // Nor may it be another ephemeral container.
        (
            json!([
                debugger(json!({})),
                debugger(json!({"name": "b", "targetContainerName": "debugger"}))
            ]),
            vec![
                "spec.ephemeralContainers[1].targetContainerName: Not found: \"debugger\""
                    .to_owned(),
            ],
        ),
    ];
    for (wanted, errors) in table {
        let got = validate(&pod(wanted.clone()), &pod(json!([])));
        assert_eq!(texts(&got), errors, "{wanted}");
    }
}

#[test]
fn they_stay_as_they_are() {
    let (one, two) = (debugger(json!({})), debugger(json!({"name": "second"})));
    let other = debugger(json!({"image": "y:1"}));
    let table: [(Value, &[&str]); 5] = [
        (json!([one]), &[]),
        (json!([one, two]), &[]),
        (json!([two, one]), &[]),
        (
            json!([two]),
            &[
                "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"debugger\" may not be removed\n",
            ],
        ),
        (
            json!([other]),
            &[
                "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"debugger\" may not be changed\n  \
               core.EphemeralContainer{\n- \timage: \"x:1\",\n+ \timage: \"y:1\",\n  }\n",
            ],
        ),
    ];
    let old = pod(json!([one]));
    for (wanted, errors) in table {
        assert_eq!(
            texts(&validate(&pod(wanted.clone()), &old)),
            errors,
            "{wanted}"
        );
    }
    let mut mirror = old.clone();
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    assert_eq!(
        texts(&validate(&mirror, &mirror)),
        ["[]: Forbidden: static pods do not support ephemeral containers"]
    );
}

#[test]
fn nothing_else_comes_from_the_client() {
    let old = pod(json!([]));
    let mut new = pod(json!([debugger(json!({}))]));
    new["metadata"]["labels"] = json!({"a": "b"});
    new["spec"]["containers"][0]["image"] = json!("y:1");
    new["status"]["phase"] = json!("Failed");
    let mut want = pod(json!([debugger(json!({}))]));
    want["metadata"]["generation"] = json!(4);
    prepare(&mut new, &old);
    assert_eq!(new, want);
    let stored = new.clone();
    prepare(&mut new, &stored);
    assert_eq!(new, stored);
}

#[test]
fn only_this_way() {
    let (with, without) = (pod(json!([debugger(json!({}))])), pod(json!([])));
    let words = "spec.ephemeralContainers: Forbidden: cannot be set on create";
    assert_eq!(texts(&(ROW.validate_create)(&with)), [words]);
    assert!((ROW.validate_create)(&without).is_empty());
    // Of a pod that has them, all else may be changed as before.
    let mut labelled = with.clone();
    labelled["spec"]["containers"][0]["image"] = json!("y:1");
    assert!((ROW.validate_update)(&labelled, &with).is_empty());
    for (new, old) in [(&with, &without), (&without, &with)] {
        let errors = texts(&(ROW.validate_update)(new, old));
        assert!(
            errors[0].starts_with("spec: Forbidden: pod updates may not change fields other than"),
            "{errors:?}"
        );
    }
}
