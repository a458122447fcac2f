use serde_json::json;

use super::*;

const DEPLOYMENT: &str = "io.k8s.api.apps.v1.Deployment";
const POD: &str = "io.k8s.api.core.v1.Pod";
const SERVICE: &str = "io.k8s.api.core.v1.Service";

#[test]
fn patches_merge_as_in_kubernetes() {
    let table = [
        (
            "maps merge, null deletes",
            POD,
            json!({"metadata": {"labels": {"a": "1", "b": "2"}}}),
            json!({"metadata": {"labels": {"b": null, "c": "3"}, "annotations": null}}),
            json!({"metadata": {"labels": {"a": "1", "c": "3"}}}),
        ),
        (
            "containers merge by name, env too, args are replaced",
            POD,
            json!({"spec": {"containers": [{"name": "a", "image": "x", "args": ["1"], "env": [{"name": "A", "value": "1"}]},
                {"name": "b", "image": "y"}]}}),
            json!({"spec": {"containers": [{"name": "a", "args": ["2"], "env": [{"name": "B", "value": "2"}]}, {"name": "c"}]}}),
            json!({"spec": {"containers": [
                {"name": "a", "image": "x", "args": ["2"], "env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]},
                {"name": "c"}, {"name": "b", "image": "y"}]}}),
        ),
        (
            "what is new comes first",
            POD,
            json!({"metadata": {"finalizers": ["a", "b"]}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}}),
            json!({"metadata": {"finalizers": ["c"]}, "spec": {"containers": [{"name": "new"}, {"name": "b", "image": "y"}]}}),
            json!({"metadata": {"finalizers": ["c", "a", "b"]},
                "spec": {"containers": [{"name": "new"}, {"name": "a"}, {"name": "b", "image": "y"}]}}),
        ),
        (
            "an item is deleted, and the order set",
            POD,
            json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}}),
            json!({"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}],
                "containers": [{"name": "b", "$patch": "delete"}, {"name": "c", "image": "z"}]}}),
            json!({"spec": {"containers": [{"name": "c", "image": "z"}, {"name": "a"}]}}),
        ),
        (
            "others keep their place among the ordered",
            POD,
            json!({"spec": {"containers": [{"name": "side"}, {"name": "a"}, {"name": "b"}]}}),
            json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}),
            json!({"spec": {"containers": [{"name": "side"}, {"name": "b"}, {"name": "a"}]}}),
        ),
        (
            "a list is replaced on request",
            POD,
            json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}),
            json!({"spec": {"containers": [{"name": "c"}, {"$patch": "replace"}]}}),
            json!({"spec": {"containers": [{"name": "c"}]}}),
        ),
        (
            "a map is replaced on request",
            POD,
            json!({"spec": {"nodeSelector": {"a": "1"}, "securityContext": {"runAsUser": 1}}}),
            json!({"spec": {"securityContext": {"$patch": "replace", "runAsGroup": 2}}}),
            json!({"spec": {"nodeSelector": {"a": "1"}, "securityContext": {"runAsGroup": 2}}}),
        ),
        (
            "retainKeys drops the other union members",
            DEPLOYMENT,
            json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}),
            json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
            json!({"spec": {"strategy": {"type": "Recreate"}}}),
        ),
        (
            "a volume changes its source",
            POD,
            json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
            json!({"spec": {"volumes": [{"$retainKeys": ["name", "hostPath"], "name": "v", "hostPath": {"path": "/x"}}]}}),
            json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}}),
        ),
        (
            "finalizers are a set",
            POD,
            json!({"metadata": {"finalizers": ["a/b", "c/d"]}}),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/b"], "finalizers": ["e/f", "c/d"],
                "$setElementOrder/finalizers": ["e/f", "c/d"]}}),
            json!({"metadata": {"finalizers": ["e/f", "c/d"]}}),
        ),
        (
            "service ports merge by number",
            SERVICE,
            json!({"spec": {"ports": [{"port": 80, "targetPort": 8080, "nodePort": 30000}]}}),
            json!({"spec": {"ports": [{"port": 80, "targetPort": "http"}, {"port": 443}]}}),
            json!({"spec": {"ports": [{"port": 80, "targetPort": "http", "nodePort": 30000}, {"port": 443}]}}),
        ),
        (
            "tolerations are atomic",
            POD,
            json!({"spec": {"tolerations": [{"key": "a"}]}}),
            json!({"spec": {"tolerations": [{"key": "b"}]}}),
            json!({"spec": {"tolerations": [{"key": "b"}]}}),
        ),
        (
            "conditions merge by type",
            POD,
            json!({"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "x"}]}}),
            json!({"status": {"conditions": [{"type": "Ready", "status": "True", "reason": null}]}}),
            json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
        ),
        (
            "nulls and directives do not survive in what is new",
            POD,
            json!({}),
            json!({"spec": {"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "a", "resources": {"limits": null}}]}}),
            json!({"spec": {"containers": [{"name": "a", "resources": {}}]}}),
        ),
    ];
    for (what, schema, original, patch, expected) in table {
        assert_eq!(
            strategic_merge(&original, &patch, schema),
            Ok(expected),
            "{what}"
        );
    }
}

#[test]
fn what_cannot_be_merged_is_said() {
    let original = json!({"spec": {"containers": [{"name": "a"}]}});
    let merge = |patch| {
        strategic_merge(&original, &patch, POD)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        merge(json!({"spec": {"containers": [{"image": "x"}]}})),
        "map: {\"image\":\"x\"} does not contain declared merge key: name"
    );
    assert_eq!(
        merge(json!({"spec": {"$patch": "mix"}})),
        "unknown patch type found: \"mix\""
    );
    assert_eq!(merge(json!([])), "a patch must be an object");
}
