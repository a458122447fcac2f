//! Required pod affinity and anti-affinity, of the pod and against it.

use std::collections::HashSet;

use super::{Filter, Refusal};
use crate::affinity::{Namespaces, Term};
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

/// A topology domain: label and value.
type Domain = (String, String);

pub struct PodAffinity {
    keys: Vec<String>,
    /// Domains with a pod that matches all terms, a set a term.
    attracting: Vec<HashSet<Domain>>,
    /// No pod matches yet, but the pod itself would: the first of a group may go anywhere.
    first_of_group: bool,
    anti_keys: Vec<String>,
    repelling: HashSet<Domain>,
    /// Domains that existing pods keep this one out of.
    forbidden: HashSet<Domain>,
}

impl PodAffinity {
    pub fn new(pod: &PodInfo, nodes: &[&NodeInfo], namespaces: &Namespaces) -> PodAffinity {
        let terms = &pod.affinity.required;
        let anti = &pod.affinity.required_anti;
        let mut own = PodAffinity {
            keys: keys(terms),
            attracting: vec![HashSet::new(); terms.len()],
            first_of_group: false,
            anti_keys: keys(anti),
            repelling: HashSet::new(),
            forbidden: HashSet::new(),
        };
        for node in nodes {
            own.hear_of_others(pod, node, namespaces);
            // Most pods have no terms, and then only those with some need a look.
            if terms.is_empty() && anti.is_empty() {
                continue;
            }
            for other in node.pods.values().map(|other| &other.pod) {
                // One pod must match all terms to attract by any.
                if !terms.is_empty() && terms.iter().all(|term| term.selects(other, namespaces)) {
                    for (term, domains) in terms.iter().zip(&mut own.attracting) {
                        domains.extend(domain(node, &term.topology_key));
                    }
                }
                let against = anti.iter().filter(|term| term.selects(other, namespaces));
                own.repelling
                    .extend(against.filter_map(|term| domain(node, &term.topology_key)));
            }
        }
        own.first_of_group = own.attracting.iter().all(HashSet::is_empty)
            && terms.iter().all(|term| term.selects(&pod.pod, namespaces));
        own
    }

    fn hear_of_others(&mut self, pod: &PodInfo, node: &NodeInfo, namespaces: &Namespaces) {
        for other in node.affine_pods() {
            let terms = other.affinity.required_anti.iter();
            let against = terms.filter(|term| term.selects(&pod.pod, namespaces));
            self.forbidden
                .extend(against.filter_map(|term| domain(node, &term.topology_key)));
        }
    }

    pub fn check(&self, node: &NodeInfo) -> Result<(), Refusal> {
        let refuse =
            |resolvable, reason| Err(Refusal::new(Filter::InterPodAffinity, resolvable, reason));
        let mut terms = self.keys.iter().zip(&self.attracting);
        let wanted = terms.all(|(key, domains)| match domain(node, key) {
            Some(own) => self.first_of_group || domains.contains(&own),
            None => false,
        });
        if !wanted {
            return refuse(false, "node(s) didn't match pod affinity rules");
        }
        let mut own = self.anti_keys.iter().filter_map(|key| domain(node, key));
        if own.any(|own| self.repelling.contains(&own)) {
            return refuse(true, "node(s) didn't match pod anti-affinity rules");
        }
        let mut forbidden = self.forbidden.iter();
        if forbidden.any(|(key, value)| node.label(key) == Some(value)) {
            return refuse(
                true,
                "node(s) didn't satisfy existing pods anti-affinity rules",
            );
        }
        Ok(())
    }
}

fn keys(terms: &[Term]) -> Vec<String> {
    terms.iter().map(|term| term.topology_key.clone()).collect()
}

fn domain(node: &NodeInfo, key: &str) -> Option<Domain> {
    node.label(key)
        .map(|value| (key.to_owned(), value.to_owned()))
}
