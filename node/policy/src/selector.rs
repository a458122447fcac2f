//! Label selectors.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

pub type Labels = BTreeMap<String, String>;

/// What all has to be so; nothing at all matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selector(BTreeSet<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Requirement {
    In(String, BTreeSet<String>),
    /// Or has no such label.
    NotIn(String, BTreeSet<String>),
    Exists(String),
    DoesNotExist(String),
    /// An operator that is none: matches nothing.
    Never,
}

impl Selector {
    pub fn read(selector: &LabelSelector) -> Self {
        let labels = selector.match_labels.iter().flatten();
        let labels =
            labels.map(|(key, value)| Requirement::In(key.clone(), [value.clone()].into()));
        let expressions = selector.match_expressions.iter().flatten();
        let expressions = expressions.map(|expression| {
            let key = expression.key.clone();
            let values = expression.values.iter().flatten().cloned().collect();
            match expression.operator.as_str() {
                "In" => Requirement::In(key, values),
                "NotIn" => Requirement::NotIn(key, values),
                "Exists" => Requirement::Exists(key),
                "DoesNotExist" => Requirement::DoesNotExist(key),
                _ => Requirement::Never,
            }
        });
        Self(labels.chain(expressions).collect())
    }

    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => {
                labels.get(key).is_some_and(|value| values.contains(value))
            }
            Requirement::NotIn(key, values) => {
                labels.get(key).is_none_or(|value| !values.contains(value))
            }
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::DoesNotExist(key) => !labels.contains_key(key),
            Requirement::Never => false,
        })
    }
}
