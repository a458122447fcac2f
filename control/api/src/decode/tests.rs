use serde_json::json;

use super::*;
use crate::find;

fn pod(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})
}

#[test]
fn unknown_fields_are_named_by_path() {
    let row = find("apps", "v1", "deployments").unwrap();
    let body = json!({
        "metadata": {"name": "web", "nope": 1},
        "spec": {"template": {"spec": {"containers": [{"name": "a"}, {"name": "b", "foo": 1}]}}},
    });
    let decoded = (row.decode)(body).unwrap();
    assert_eq!(
        decoded.warnings,
        [
            "unknown field \"metadata.nope\"",
            "unknown field \"spec.template.spec.containers[1].foo\""
        ]
    );
    assert_eq!(decoded.value["apiVersion"], "apps/v1");
    assert_eq!(
        strict_error("v1", "Deployment", &decoded.warnings[..1]).message,
        "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: \
         unknown field \"metadata.nope\""
    );
}

#[test]
fn wrong_types_are_worded_as_go_does() {
    let table = [
        (
            "apps",
            "deployments",
            json!({"spec": {"replicas": "three"}}),
            "Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "",
            "pods",
            pod(json!({"containers": [{"env": [{"name": "A", "value": 1}]}]})),
            "Pod in version \"v1\" cannot be handled as a Pod: json: cannot unmarshal number into Go struct field EnvVar.spec.containers.env.value of type string",
        ),
        (
            "",
            "pods",
            pod(json!({"containers": {}})),
            "Pod in version \"v1\" cannot be handled as a Pod: json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            "",
            "pods",
            json!({"metadata": {"labels": {"a": 1}}}),
            "Pod in version \"v1\" cannot be handled as a Pod: json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            "",
            "pods",
            pod(json!({"terminationGracePeriodSeconds": 1.5})),
            "Pod in version \"v1\" cannot be handled as a Pod: json: cannot unmarshal number 1.5 into Go struct field PodSpec.spec.terminationGracePeriodSeconds of type int64",
        ),
        (
            "",
            "pods",
            pod(json!({"containers": [{"resources": {"limits": {"cpu": "1x"}}}]})),
            "Pod in version \"v1\" cannot be handled as a Pod: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            "",
            "services",
            json!({"spec": {"ports": [{"port": 1, "targetPort": true}]}}),
            "Service in version \"v1\" cannot be handled as a Service: json: cannot unmarshal bool into Go value of type int32",
        ),
        (
            "",
            "secrets",
            json!({"data": {"a": "!!!!"}}),
            "Secret in version \"v1\" cannot be handled as a Secret: illegal base64 data at input byte 0",
        ),
    ];
    for (group, plural, body, expected) in table {
        let row = find(group, "v1", plural).unwrap();
        assert_eq!((row.decode)(body).unwrap_err().message, expected);
    }
}

#[test]
fn the_form_is_canonical() {
    let row = find("", "v1", "pods").unwrap();
    let body = json!({
        "metadata": {"name": "p", "creationTimestamp": null, "labels": {}, "deletionTimestamp": "2026-01-02T03:04:05.6+01:00"},
        "spec": {"nodeName": "", "containers": [{"name": "a", "args": [], "image": null,
            "resources": {"limits": {"cpu": 1, "memory": "1024Mi"}, "requests": {}},
            "livenessProbe": {"httpGet": {"port": 80}}}]},
        "status": {},
    });
    let decoded = (row.decode)(body).unwrap();
    assert!(decoded.warnings.is_empty());
    assert_eq!(
        decoded.value,
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "deletionTimestamp": "2026-01-02T02:04:05Z"},
            "spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
                "livenessProbe": {"httpGet": {"port": 80}}}]},
            "status": {},
        })
    );
}

#[test]
fn duplicates_are_found_in_bytes() {
    let row = find("apps", "v1", "deployments").unwrap();
    let body = br#"{"metadata":{"name":"a"},"spec":{"replicas":1,"replicas":2,"replicas":3}}"#;
    let decoded = decode_bytes(row, body).unwrap();
    assert_eq!(decoded.warnings, ["duplicate field \"spec.replicas\""]);
    assert_eq!(decoded.value["spec"]["replicas"], 3);
    assert!(decode_bytes(row, b"{").is_err());
}

#[test]
fn another_kind_is_refused() {
    let row = find("apps", "v1", "deployments").unwrap();
    let message = |body: Value| (row.decode)(body).unwrap_err().message;
    assert_eq!(
        message(json!({"apiVersion": "apps/v1beta1", "kind": "Deployment"})),
        "the API version in the data (apps/v1beta1) does not match the expected API version (apps/v1)"
    );
    assert_eq!(
        message(json!({"apiVersion": "v1", "kind": "Pod"})),
        "Pod in version \"v1\" cannot be handled as a Deployment: converting (v1.Pod) to (v1.Deployment): unknown conversion"
    );
    assert!(
        message(json!([])).starts_with(
            "couldn't get version/kind; json parse error: json: cannot unmarshal array"
        )
    );
}

#[test]
fn micro_times_keep_six_digits() {
    let row = find("coordination.k8s.io", "v1", "leases").unwrap();
    for (given, kept) in [
        (
            "2026-01-02T03:04:05.123456789Z",
            "2026-01-02T03:04:05.123456Z",
        ),
        ("2026-01-02T03:04:05+02:00", "2026-01-02T01:04:05.000000Z"),
    ] {
        let decoded =
            (row.decode)(json!({"spec": {"renewTime": given, "holderIdentity": ""}})).unwrap();
        assert_eq!(
            decoded.value["spec"],
            json!({"renewTime": kept, "holderIdentity": ""})
        );
    }
    let error = (row.decode)(json!({"spec": {"renewTime": "yesterday"}}))
        .unwrap_err()
        .message;
    assert!(error.ends_with("parsing time \"yesterday\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"yesterday\" as \"2006\""));
}
