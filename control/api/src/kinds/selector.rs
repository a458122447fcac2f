//! LabelSelectors inside objects: their validation, and whether they match.

use serde_json::Value;

use crate::field::Path;
use crate::names;
use crate::resource::FieldError;
use crate::value::ValueExt;

pub(crate) fn validate(selector: &Value, path: &Path) -> Vec<FieldError> {
    let mut errors =
        crate::meta::validate_labels(selector.get("matchLabels"), &path.child("matchLabels"));
    for (i, expression) in selector.list_at("/matchExpressions").iter().enumerate() {
        let at = path.child("matchExpressions").index(i);
        let (key, operator) = (expression.str_at("/key"), expression.str_at("/operator"));
        let values = expression.list_at("/values");
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                errors.push(
                    at.child("values")
                        .required("must be specified when `operator` is 'In' or 'NotIn'"),
                );
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errors.push(at.child("values").forbidden(
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                ));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => errors.push(
                at.child("operator")
                    .invalid(operator, "not a valid selector operator"),
            ),
        }
        errors.extend(
            names::qualified(key)
                .iter()
                .map(|m| at.child("key").invalid(key, m)),
        );
        for (j, value) in values.iter().filter_map(Value::as_str).enumerate() {
            let at = at.child("values").index(j);
            errors.extend(
                names::label_value(value)
                    .iter()
                    .map(|m| at.invalid(value, m)),
            );
        }
    }
    errors
}

pub(crate) fn is_empty(selector: &Value) -> bool {
    selector.map_at("/matchLabels").is_none_or(|m| m.is_empty())
        && selector.list_at("/matchExpressions").is_empty()
}

/// Whether the selector matches a labels object (`metadata.labels`).
pub fn matches(selector: &Value, labels: Option<&Value>) -> bool {
    let label = |key: &str| labels.and_then(|l| l.get(key)).and_then(Value::as_str);
    let exact = selector
        .map_at("/matchLabels")
        .into_iter()
        .flatten()
        .all(|(key, value)| label(key) == value.as_str());
    exact
        && selector
            .list_at("/matchExpressions")
            .iter()
            .all(|expression| {
                let found = label(expression.str_at("/key"));
                let listed = || {
                    expression
                        .list_at("/values")
                        .iter()
                        .any(|v| v.as_str() == found)
                };
                match expression.str_at("/operator") {
                    "In" => found.is_some() && listed(),
                    "NotIn" => found.is_none() || !listed(),
                    "Exists" => found.is_some(),
                    "DoesNotExist" => found.is_none(),
                    _ => false,
                }
            })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_match() {
        let labels = json!({"app": "web", "env": "dev"});
        let table = [
            (json!({}), true),
            (json!({"matchLabels": {"app": "web"}}), true),
            (json!({"matchLabels": {"app": "db"}}), false),
            (
                json!({"matchExpressions": [{"key": "env", "operator": "In", "values": ["dev"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "env", "operator": "NotIn", "values": ["dev"]}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "x", "operator": "NotIn", "values": ["dev"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "x", "operator": "Exists"}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}),
                true,
            ),
        ];
        for (selector, expected) in table {
            assert_eq!(matches(&selector, Some(&labels)), expected, "{selector}");
        }
    }
}
