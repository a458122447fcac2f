//! Whether and how containers are started again: their own policy and its rules (KEP-5307, KEP-5532).

use serde_json::Value;

use crate::field::Path;
use crate::resource::FieldError;
use crate::value::ValueExt;

const POLICIES: &[&str] = &["Always", "Never", "OnFailure"];
const ACTIONS: &[&str] = &["Restart", "RestartAllContainers"];
const OPERATORS: &[&str] = &["In", "NotIn"];
const MAX_RULES: usize = 20;
const MAX_CODES: usize = 255;

pub(super) fn validate(container: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let policy = container.str_at("/restartPolicy");
    let rules = container.list_at("/restartPolicyRules");
    let at = path.child("restartPolicy");
    if policy.is_empty() {
        if !rules.is_empty() {
            errors.push(at.required("must specify restartPolicy when restart rules are used"));
        }
    } else if !POLICIES.contains(&policy) {
        errors.push(at.not_supported(policy, POLICIES));
    }
    let path = path.child("restartPolicyRules");
    if rules.len() > MAX_RULES {
        errors.push(path.too_many(rules.len(), MAX_RULES));
    }
    for (i, rule) in rules.iter().enumerate() {
        let at = path.index(i);
        let action = rule.str_at("/action");
        if !ACTIONS.contains(&action) {
            errors.push(at.child("action").not_supported(action, ACTIONS));
        }
        let at = at.child("exitCodes");
        let Some(codes) = rule.get("exitCodes") else {
            errors.push(at.required("must be specified"));
            continue;
        };
        let operator = codes.str_at("/operator");
        if !OPERATORS.contains(&operator) {
            errors.push(at.child("operator").not_supported(operator, OPERATORS));
        }
        let values = codes.list_at("/values").len();
        if values > MAX_CODES {
            errors.push(at.child("values").too_many(values, MAX_CODES));
        }
    }
}

/// Whether any container's end may restart all of the pod's.
pub(crate) fn may_restart_all(spec: &Value) -> bool {
    let all = ["/initContainers", "/containers"];
    let mut all = all.iter().flat_map(|list| spec.list_at(list));
    all.any(|container| {
        let mut rules = container.list_at("/restartPolicyRules").iter();
        rules.any(|rule| rule.str_at("/action") == "RestartAllContainers")
    })
}

/// Whether the container is started again after it ended with `code`.
pub(crate) fn restarts(container: &Value, spec: &Value, code: i64) -> bool {
    let own = container.str_at("/restartPolicy");
    let matches = |rule: &Value| {
        let values = rule.list_at("/exitCodes/values");
        let listed = values.iter().any(|value| value.as_i64() == Some(code));
        match rule.str_at("/exitCodes/operator") {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        }
    };
    let mut rules = container.list_at("/restartPolicyRules").iter();
    if !own.is_empty() && rules.any(matches) {
        return true;
    }
    let policy = if own.is_empty() {
        spec.str_at("/restartPolicy")
    } else {
        own
    };
    match policy {
        "Never" => false,
        "OnFailure" => code != 0,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn policies_and_rules() {
        let rule = |action: &str| json!({"action": action, "exitCodes": {"operator": "In", "values": [1]}});
        let many = |count| vec![rule("Restart"); count];
        let codes: Vec<i64> = (0..256).collect();
        for (container, wanted) in [
            (json!({}), vec![]),
            (
                json!({"restartPolicy": "Never", "restartPolicyRules": [rule("Restart"), rule("RestartAllContainers")]}),
                vec![],
            ),
            (
                json!({"restartPolicy": "Maybe"}),
                vec![
                    "c.restartPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \"Never\", \"OnFailure\"",
                ],
            ),
            (
                json!({"restartPolicyRules": [rule("Restart")]}),
                vec![
                    "c.restartPolicy: Required value: must specify restartPolicy when restart rules are used",
                ],
            ),
            (
                json!({"restartPolicy": "Never", "restartPolicyRules": [rule("RestartPod"), {"action": "Restart"}]}),
                vec![
                    "c.restartPolicyRules[0].action: Unsupported value: \"RestartPod\": supported values: \"Restart\", \"RestartAllContainers\"",
                    "c.restartPolicyRules[1].exitCodes: Required value: must be specified",
                ],
            ),
            (
                json!({"restartPolicy": "Never", "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "Is", "values": codes}}]}),
                vec![
                    "c.restartPolicyRules[0].exitCodes.operator: Unsupported value: \"Is\": supported values: \"In\", \"NotIn\"",
                    "c.restartPolicyRules[0].exitCodes.values: Too many: 256: must have at most 255 items",
                ],
            ),
            (
                json!({"restartPolicy": "Never", "restartPolicyRules": many(21)}),
                vec!["c.restartPolicyRules: Too many: 21: must have at most 20 items"],
            ),
        ] {
            let mut errors = Vec::new();
            validate(&container, &Path::new("c"), &mut errors);
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(errors, wanted, "{container}");
        }
    }

    #[test]
    fn which_ends_are_followed_by_a_start() {
        let rules = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
        for (pod, container, code, wanted) in [
            ("Never", json!({}), 1, false),
            ("OnFailure", json!({}), 1, true),
            ("OnFailure", json!({}), 0, false),
            ("Never", json!({"restartPolicy": "Always"}), 0, true),
            ("Always", json!({"restartPolicy": "Never"}), 1, false),
            (
                "Never",
                json!({"restartPolicy": "Never", "restartPolicyRules": rules}),
                42,
                true,
            ),
            (
                "Never",
                json!({"restartPolicy": "Never", "restartPolicyRules": rules}),
                1,
                false,
            ),
        ] {
            let spec = json!({"restartPolicy": pod});
            assert_eq!(
                restarts(&container, &spec, code),
                wanted,
                "{pod} {container} {code}"
            );
        }
    }
}
