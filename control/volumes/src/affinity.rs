//! Which nodes reach a volume, and where a class makes its own.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    NodeSelectorRequirement, PersistentVolume as Volume, TopologySelectorTerm,
};

type Labels = BTreeMap<String, String>;

/// Whether pods on a node with these labels can have the volume. Names of nodes play no part, as in Kubernetes.
pub fn reaches(volume: &Volume, labels: &Labels) -> bool {
    let affinity = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.node_affinity.as_ref());
    let Some(required) = affinity.and_then(|affinity| affinity.required.as_ref()) else {
        return true;
    };
    required.node_selector_terms.iter().any(|term| {
        let expressions = term.match_expressions.as_deref().unwrap_or_default();
        let fields = term.match_fields.as_deref().unwrap_or_default();
        !expressions.is_empty()
            && fields.is_empty()
            && expressions.iter().all(|own| holds(own, labels))
    })
}

fn holds(requirement: &NodeSelectorRequirement, labels: &Labels) -> bool {
    let value = labels.get(&requirement.key).map(String::as_str);
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = |value: &str| values.iter().any(|own| own == value);
    let compared = |wanted| {
        let bound: Option<i64> = values.first().and_then(|bound| bound.parse().ok());
        let value: Option<i64> = value.and_then(|value| value.parse().ok());
        matches!((value, bound), (Some(value), Some(bound)) if value.cmp(&bound) == wanted)
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared(std::cmp::Ordering::Greater),
        "Lt" => compared(std::cmp::Ordering::Less),
        _ => false,
    }
}

/// Whether a class makes volumes for a node with these labels. Terms are alternatives; a class without any
/// makes them everywhere.
pub fn in_topologies(terms: &[TopologySelectorTerm], labels: &Labels) -> bool {
    terms.is_empty()
        || terms.iter().any(|term| {
            let all = term.match_label_expressions.as_deref().unwrap_or_default();
            !all.is_empty()
                && all.iter().all(|own| {
                    labels
                        .get(&own.key)
                        .is_some_and(|value| own.values.contains(value))
                })
        })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn labels() -> Labels {
        Labels::from([("zone".into(), "z1".into()), ("disks".into(), "4".into())])
    }

    #[test]
    fn a_volume_is_where_its_terms_say() {
        let expression = |key: &str, operator: &str, values: Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        for (terms, wanted) in [
            (Value::Null, true),
            (json!([]), false),
            (json!([{}]), false),
            (json!([expression("zone", "In", json!(["z1", "z2"]))]), true),
            (json!([expression("zone", "In", json!(["z2"]))]), false),
            (
                json!([
                    expression("zone", "In", json!(["z2"])),
                    expression("zone", "Exists", json!([]))
                ]),
                true,
            ),
            (json!([expression("zone", "NotIn", json!(["z1"]))]), false),
            (json!([expression("rack", "DoesNotExist", json!([]))]), true),
            (json!([expression("disks", "Gt", json!(["3"]))]), true),
            (json!([expression("disks", "Lt", json!(["4"]))]), false),
            (
                json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]}]),
                false,
            ),
        ] {
            let affinity = match &terms {
                Value::Null => Value::Null,
                terms => json!({"required": {"nodeSelectorTerms": terms}}),
            };
            let volume: Volume =
                serde_json::from_value(json!({"metadata": {}, "spec": {"nodeAffinity": affinity}}))
                    .expect("a volume");
            assert_eq!(reaches(&volume, &labels()), wanted, "{terms}");
        }
    }

    #[test]
    fn a_class_makes_volumes_where_it_says() {
        let term = |key: &str, values: Value| json!({"matchLabelExpressions": [{"key": key, "values": values}]});
        for (terms, wanted) in [
            (json!([]), true),
            (json!([{}]), false),
            (json!([term("zone", json!(["z0", "z1"]))]), true),
            (json!([term("zone", json!(["z2"]))]), false),
            (
                json!([term("zone", json!(["z2"])), term("disks", json!(["4"]))]),
                true,
            ),
            (json!([term("rack", json!(["r1"]))]), false),
        ] {
            let parsed: Vec<TopologySelectorTerm> =
                serde_json::from_value(terms.clone()).expect("terms");
            assert_eq!(in_topologies(&parsed, &labels()), wanted, "{terms}");
        }
    }
}
