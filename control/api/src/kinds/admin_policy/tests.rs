use serde_json::{Value, json};

use super::*;
use crate::kinds::{admin_network_policy, baseline_admin_network_policy};

/// As it is written: decoded, defaulted, validated.
fn written(row: &Resource, spec: &Value) -> Result<Value, Vec<String>> {
    let object = json!({
        "apiVersion": row.api_version(), "kind": row.kind, "metadata": {"name": "default"}, "spec": spec,
    });
    let decoded = (row.decode)(object).map_err(|error| vec![error.to_string()])?;
    if !decoded.warnings.is_empty() {
        return Err(decoded.warnings);
    }
    let mut object = decoded.value;
    (row.default)(&mut object);
    (row.prepare_create)(&mut object);
    match (row.validate_create)(&object) {
        errors if errors.is_empty() => Ok(object),
        errors => Err(errors.iter().map(ToString::to_string).collect()),
    }
}

fn anp(spec: &Value) -> Result<Value, Vec<String>> {
    let mut whole = json!({"priority": 5, "subject": {"namespaces": {}}});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    written(&admin_network_policy::ROW, &whole)
}

fn pods() -> Value {
    json!({"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "web"}}}})
}

/// What is empty stays, for it selects everything.
#[test]
fn a_policy_is_kept_as_it_was_written() {
    let egress = json!([{
        "name": "out", "action": "Pass",
        "to": [{"namespaces": {}}, pods(), {"nodes": {}}, {"networks": ["10.0.0.0/8", "fd00::/8"]}],
        "ports": [{"portNumber": {"port": 80}}, {"portRange": {"protocol": "UDP", "start": 1, "end": 9}}],
    }]);
    let ingress = json!([{"action": "Allow", "from": [pods()], "ports": [{"namedPort": "web"}]}]);
    let policy = anp(&json!({"egress": egress, "ingress": ingress})).unwrap();
    let mut expected = egress.clone();
    expected[0]["ports"][0]["portNumber"]["protocol"] = json!("TCP");
    assert_eq!(policy["spec"]["egress"], expected);
    assert_eq!(policy["spec"]["ingress"], ingress);
    assert_eq!(policy["spec"]["subject"], json!({"namespaces": {}}));
    assert_eq!(policy["metadata"]["generation"], 1);
    let banp =
        json!({"subject": pods(), "egress": [{"action": "Deny", "to": [{"networks": ["::/0"]}]}]});
    assert!(written(&baseline_admin_network_policy::ROW, &banp).is_ok());
}

#[test]
fn what_is_wrong_is_named() {
    let to = |peer: Value| json!({"egress": [{"action": "Deny", "to": [peer]}]});
    let from = |peer: Value| json!({"ingress": [{"action": "Deny", "from": [peer]}]});
    let port =
        |port: Value| json!({"ingress": [{"action": "Deny", "from": [pods()], "ports": [port]}]});
    let rules = |count: usize| {
        let rule = json!({"action": "Allow", "from": [pods()]});
        json!({"ingress": vec![rule; count]})
    };
    let networks = |count: u8| {
        let all = (0..count).map(|at| format!("10.{at}.0.0/16"));
        to(json!({"networks": all.collect::<Vec<_>>()}))
    };
    let table: Vec<(Value, &str)> = vec![
        (rules(100), ""),
        (
            rules(101),
            "spec.ingress: Too many: 101: must have at most 100 items",
        ),
        (
            json!({"subject": {}}),
            "spec.subject: Invalid value: {}: spec.subject in body should have at least 1 properties",
        ),
        (
            json!({"subject": {"namespaces": {}, "pods": pods()["pods"]}}),
            "spec.subject: Too many: 2: must have at most 1 item",
        ),
        (
            json!({"subject": {"pods": {"podSelector": {}}}}),
            "spec.subject.pods.namespaceSelector: Required value",
        ),
        (
            json!({"ingress": [{"from": [pods()]}]}),
            "spec.ingress[0].action: Required value",
        ),
        (
            json!({"ingress": [{"action": "Log", "from": [pods()]}]}),
            "spec.ingress[0].action: Unsupported value: \"Log\": supported values: \"Allow\", \"Deny\", \"Pass\"",
        ),
        (
            json!({"ingress": [{"action": "Deny"}]}),
            "spec.ingress[0].from: Required value",
        ),
        (
            json!({"ingress": [{"action": "Deny", "from": []}]}),
            "spec.ingress[0].from: Invalid value: 0: spec.ingress[0].from in body should have at least 1 items",
        ),
        (
            json!({"ingress": [{"action": "Deny", "from": [pods()], "name": "x".repeat(101)}]}),
            "spec.ingress[0].name: Too long: may not be more than 100 bytes",
        ),
        (
            from(json!({"networks": ["10.0.0.0/8"]})),
            "unknown field \"spec.ingress[0].from[0].networks\"",
        ),
        (
            from(json!({})),
            "spec.ingress[0].from[0]: Invalid value: {}: spec.ingress[0].from[0] in body should have at least 1 properties",
        ),
        (
            from(json!({"namespaces": {"matchExpressions": [{"key": "a", "operator": "Near"}]}})),
            "spec.ingress[0].from[0].namespaces.matchExpressions[0].operator: Invalid value: \"Near\": not a valid selector operator",
        ),
        (networks(25), ""),
        (
            networks(26),
            "spec.egress[0].to[0].networks: Too many: 26: must have at most 25 items",
        ),
        (
            to(json!({"networks": ["10.0.0.0/8", "10.0.0.0/8"]})),
            "spec.egress[0].to[0].networks[1]: Duplicate value: \"10.0.0.0/8\"",
        ),
        (
            to(json!({"networks": ["10.0.0.1"]})),
            "spec.egress[0].to[0].networks[0]: Invalid value: \"10.0.0.1\": Invalid CIDR format provided",
        ),
        (
            to(json!({"domainNames": ["kubernetes.io"]})),
            "spec.egress[0].to[0].domainNames: Forbidden: packets are judged by addresses here, and names are not looked up: use `networks`",
        ),
        (
            json!({"egress": [{"action": "Deny", "to": [{"nodes": {}}], "ports": [{"namedPort": "web"}]}]}),
            "spec.egress[0]: Invalid value: \"object\": networks/nodes/domainNames peer cannot be set with namedPorts since there are no namedPorts for networks/nodes/domainNames",
        ),
        (
            port(json!({})),
            "spec.ingress[0].ports[0]: Invalid value: {}: spec.ingress[0].ports[0] in body should have at least 1 properties",
        ),
        (
            port(json!({"portNumber": {"port": 0}})),
            "spec.ingress[0].ports[0].portNumber.port: Invalid value: 0: spec.ingress[0].ports[0].portNumber.port in body should be greater than or equal to 1",
        ),
        (
            port(json!({"portNumber": {"protocol": "ICMP", "port": 8}})),
            "spec.ingress[0].ports[0].portNumber.protocol: Unsupported value: \"ICMP\": supported values: \"TCP\", \"UDP\", \"SCTP\"",
        ),
        (
            port(json!({"portRange": {"start": 9}})),
            "spec.ingress[0].ports[0].portRange.end: Required value",
        ),
        (
            port(json!({"portRange": {"start": 9, "end": 8}})),
            "spec.ingress[0].ports[0].portRange.end: Invalid value: 8: must be greater than or equal to `start`",
        ),
        (
            port(json!({"portNumber": {"port": 80}, "namedPort": "web"})),
            "spec.ingress[0].ports[0]: Too many: 2: must have at most 1 item",
        ),
    ];
    for (spec, wrong) in table {
        let errors = anp(&spec).err().unwrap_or_default();
        let expected: Vec<&str> = (!wrong.is_empty()).then_some(wrong).into_iter().collect();
        assert_eq!(errors, expected, "{spec}");
    }
}

#[test]
fn conditions() {
    let condition = |change: Value| {
        let mut whole = json!({
            "type": "Enforced", "status": "True", "reason": "Written", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        for (key, value) in change.as_object().unwrap() {
            whole[key] = value.clone();
        }
        whole
    };
    let good = condition(json!({}));
    for (conditions, wrong) in [
        (json!([]), vec![]),
        (
            json!([good.clone(), condition(json!({"type": "a.example/B"}))]),
            vec![],
        ),
        (Value::Null, vec!["status.conditions"]),
        (
            json!([good.clone(), good.clone()]),
            vec!["status.conditions[1]"],
        ),
        (
            json!([condition(json!({"status": "Maybe"}))]),
            vec!["status.conditions[0].status"],
        ),
        (
            json!([condition(json!({"reason": "two words"}))]),
            vec!["status.conditions[0].reason"],
        ),
        (
            json!([condition(json!({"message": null}))]),
            vec!["status.conditions[0].message"],
        ),
    ] {
        let policy = json!({"status": {"conditions": conditions}});
        let mut errors = Vec::new();
        validate_status(&policy, &mut errors);
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, wrong, "{policy}: {errors:?}");
    }
}
