//! Affinity and anti-affinity between pods: terms, read once.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm, WeightedPodAffinityTerm};

use crate::selector::{Labels, PodSelector};

/// Labels of namespaces, for selectors over them.
pub type Namespaces = HashMap<String, Labels>;

/// One term: pods it selects, and the node label that says what "together" means.
#[derive(Clone, Debug)]
pub struct Term {
    pub topology_key: String,
    /// 0 for required terms.
    pub weight: i64,
    selector: PodSelector,
    namespaces: Vec<String>,
    namespace_selector: PodSelector,
}

/// A pod's terms by kind.
#[derive(Clone, Debug, Default)]
pub struct Affinity {
    pub required: Vec<Term>,
    pub required_anti: Vec<Term>,
    pub preferred: Vec<Term>,
    pub preferred_anti: Vec<Term>,
}

impl Affinity {
    pub fn of(pod: &Pod) -> Affinity {
        let Some(affinity) = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()) else {
            return Affinity::default();
        };
        let required = |terms: Option<&Vec<PodAffinityTerm>>| {
            let terms = terms.into_iter().flatten();
            terms.map(|term| Term::new(term, 0, pod)).collect()
        };
        let preferred = |terms: Option<&Vec<WeightedPodAffinityTerm>>| {
            let terms = terms.into_iter().flatten();
            terms
                .map(|term| Term::new(&term.pod_affinity_term, term.weight.into(), pod))
                .collect()
        };
        let near = affinity.pod_affinity.as_ref();
        let far = affinity.pod_anti_affinity.as_ref();
        Affinity {
            required: required(near.and_then(|own| {
                own.required_during_scheduling_ignored_during_execution
                    .as_ref()
            })),
            required_anti: required(far.and_then(|own| {
                own.required_during_scheduling_ignored_during_execution
                    .as_ref()
            })),
            preferred: preferred(near.and_then(|own| {
                own.preferred_during_scheduling_ignored_during_execution
                    .as_ref()
            })),
            preferred_anti: preferred(far.and_then(|own| {
                own.preferred_during_scheduling_ignored_during_execution
                    .as_ref()
            })),
        }
    }

    pub fn is_empty(&self) -> bool {
        let Affinity {
            required,
            required_anti,
            preferred,
            preferred_anti,
        } = self;
        required.is_empty()
            && required_anti.is_empty()
            && preferred.is_empty()
            && preferred_anti.is_empty()
    }
}

impl Term {
    fn new(term: &PodAffinityTerm, weight: i64, owner: &Pod) -> Term {
        let mut namespaces = term.namespaces.clone().unwrap_or_default();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.extend(owner.metadata.namespace.clone());
        }
        let keys = |keys: &Option<Vec<String>>| keys.clone().unwrap_or_default();
        Term {
            topology_key: term.topology_key.clone(),
            weight,
            selector: PodSelector::with_keys(
                term.label_selector.as_ref(),
                &keys(&term.match_label_keys),
                &keys(&term.mismatch_label_keys),
                owner.metadata.labels.as_ref().unwrap_or(&Labels::new()),
            ),
            namespaces,
            namespace_selector: PodSelector::parse(term.namespace_selector.as_ref()),
        }
    }

    pub fn selects(&self, other: &Pod, namespaces: &Namespaces) -> bool {
        let namespace = other.metadata.namespace.as_deref().unwrap_or_default();
        let in_scope = self.namespaces.iter().any(|own| own == namespace)
            || self.namespace_selector.matches(namespaces.get(namespace));
        in_scope && self.selector.matches(other.metadata.labels.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(namespace: &str, labels: Value, terms: Value) -> Pod {
        let pod = json!({
            "metadata": {"name": "p", "namespace": namespace, "labels": labels},
            "spec": {"containers": [], "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}},
        });
        serde_json::from_value(pod).expect("a pod")
    }

    #[test]
    fn terms_select_within_their_namespaces() {
        let namespaces = Namespaces::from([
            ("a".to_owned(), Labels::from([("team".into(), "x".into())])),
            ("b".to_owned(), Labels::new()),
        ]);
        let web = json!({"matchLabels": {"app": "web"}});
        let table = [
            (json!({"labelSelector": web}), "a", true),
            (json!({"labelSelector": web}), "b", false),
            (
                json!({"labelSelector": web, "namespaces": ["b"]}),
                "a",
                false,
            ),
            (
                json!({"labelSelector": web, "namespaces": ["b"]}),
                "b",
                true,
            ),
            (
                json!({"labelSelector": web, "namespaceSelector": {}}),
                "b",
                true,
            ),
            (
                json!({"labelSelector": web, "namespaceSelector": {"matchLabels": {"team": "x"}}}),
                "a",
                true,
            ),
            (
                json!({"labelSelector": web, "namespaceSelector": {"matchLabels": {"team": "x"}}}),
                "b",
                false,
            ),
            (json!({"namespaceSelector": {}}), "a", false),
            (
                json!({"labelSelector": web, "matchLabelKeys": ["hash"]}),
                "a",
                false,
            ),
            (
                json!({"labelSelector": web, "mismatchLabelKeys": ["hash"]}),
                "a",
                true,
            ),
        ];
        for (mut term, namespace, wanted) in table {
            term["topologyKey"] = "zone".into();
            let owner = pod("a", json!({"hash": "1"}), json!([term]));
            let other = pod(namespace, json!({"app": "web", "hash": "2"}), json!([]));
            let affinity = Affinity::of(&owner);
            assert_eq!(
                affinity.required[0].selects(&other, &namespaces),
                wanted,
                "{term} in {namespace}"
            );
        }
    }
}
