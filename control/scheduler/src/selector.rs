//! Label selectors of pods and node selector terms.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt as _};

use crate::node_info::NodeInfo;

pub type Labels = BTreeMap<String, String>;

static NO_LABELS: Labels = Labels::new();

/// A label selector of a pod spec: absent, or not valid, it selects nothing.
#[derive(Clone, Debug)]
pub struct PodSelector(Option<Selector>);

impl PodSelector {
    pub fn parse(selector: Option<&LabelSelector>) -> PodSelector {
        PodSelector(selector.and_then(|selector| Selector::try_from(selector.clone()).ok()))
    }

    /// As `parse`, and the object's own values of these labels besides.
    pub fn with_keys(
        selector: Option<&LabelSelector>,
        equal: &[String],
        unequal: &[String],
        own: &Labels,
    ) -> PodSelector {
        use kube::core::Expression::{In, NotIn};
        let mut parsed = PodSelector::parse(selector);
        if let Some(selector) = &mut parsed.0 {
            let value = |key: &String| Some((key.clone(), own.get(key)?.clone()));
            let same = equal.iter().filter_map(value);
            selector.extend(same.map(|(key, value)| In(key, [value].into())));
            let other = unequal.iter().filter_map(value);
            selector.extend(other.map(|(key, value)| NotIn(key, [value].into())));
        }
        parsed
    }

    pub fn matches(&self, labels: Option<&Labels>) -> bool {
        self.0
            .as_ref()
            .is_some_and(|selector| selector.matches(labels.unwrap_or(&NO_LABELS)))
    }
}

/// Terms are alternatives; the requirements of one must all hold. A term without any matches nothing.
pub fn matches_any_term(terms: &[NodeSelectorTerm], node: &NodeInfo) -> bool {
    terms.iter().any(|term| matches_term(term, node))
}

pub fn matches_term(term: &NodeSelectorTerm, node: &NodeInfo) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions
        .iter()
        .all(|requirement| holds(requirement, node.label(&requirement.key)))
        && fields.iter().all(|requirement| {
            let value = (requirement.key == "metadata.name").then(|| node.name());
            holds(requirement, value)
        })
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let contains = |value: &str| values.iter().any(|own| own == value);
    let compared = |ordering| {
        let bound: Option<i64> = values.first().and_then(|bound| bound.parse().ok());
        let value: Option<i64> = value.and_then(|value| value.parse().ok());
        matches!((value, bound), (Some(value), Some(bound)) if value.cmp(&bound) == ordering)
    };
    match requirement.operator.as_str() {
        "In" => value.is_some_and(contains),
        "NotIn" => !value.is_some_and(contains),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared(std::cmp::Ordering::Greater),
        "Lt" => compared(std::cmp::Ordering::Less),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn node_selector_terms() {
        let mut node = NodeInfo::default();
        let object =
            json!({"metadata": {"name": "node-1", "labels": {"disk": "ssd", "cores": "8"}}});
        node.set_node(Arc::new(serde_json::from_value(object).expect("a node")));
        let expression = |key: &str, operator: &str, values: Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        let name = |name: &str| json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]});
        let table = [
            (expression("disk", "In", json!(["ssd", "nvme"])), true),
            (expression("disk", "NotIn", json!(["ssd"])), false),
            (expression("gpu", "NotIn", json!(["a"])), true),
            (expression("disk", "Exists", json!([])), true),
            (expression("disk", "DoesNotExist", json!([])), false),
            (expression("cores", "Gt", json!(["7"])), true),
            (expression("cores", "Gt", json!(["8"])), false),
            (expression("cores", "Lt", json!(["9"])), true),
            (expression("disk", "Lt", json!(["9"])), false),
            (name("node-1"), true),
            (name("node-2"), false),
            (json!({}), false),
        ];
        for (term, wanted) in table {
            let parsed: NodeSelectorTerm = serde_json::from_value(term.clone()).expect("a term");
            assert_eq!(matches_any_term(&[parsed], &node), wanted, "{term}");
        }
    }

    #[test]
    fn pod_selectors() {
        let labels = Labels::from([("app".into(), "web".into()), ("hash".into(), "1".into())]);
        let own = Labels::from([("hash".into(), "2".into())]);
        let key = ["hash".to_owned()];
        let any = LabelSelector::default();
        assert!(PodSelector::parse(Some(&any)).matches(Some(&labels)));
        assert!(
            PodSelector::parse(Some(&any)).matches(None),
            "empty selects all"
        );
        assert!(
            !PodSelector::parse(None).matches(Some(&labels)),
            "none selects nothing"
        );
        let same = PodSelector::with_keys(Some(&any), &key, &[], &own);
        assert!(!same.matches(Some(&labels)));
        let other = PodSelector::with_keys(Some(&any), &[], &key, &own);
        assert!(other.matches(Some(&labels)));
    }
}
