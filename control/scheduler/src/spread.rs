//! Topology spread constraints: a pod's own, and those every pod has.

use k8s_openapi::api::core::v1::TopologySpreadConstraint;

use crate::cache::Services;
use crate::filter::node_affinity;
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use crate::selector::{Labels, PodSelector};
use crate::taints;

pub const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// Values of whenUnsatisfiable.
pub const HARD: &str = "DoNotSchedule";
pub const SOFT: &str = "ScheduleAnyway";

/// Controllers whose pods are spread without their asking.
const SPREADING_OWNERS: &[&str] = &["ReplicaSet", "ReplicationController", "StatefulSet"];

pub struct Constraint {
    pub topology_key: String,
    pub max_skew: i64,
    pub min_domains: usize,
    counted: Counted,
    honors_affinity: bool,
    honors_taints: bool,
}

/// Which pods count.
enum Counted {
    Selected(PodSelector),
    Siblings(Siblings),
}

/// Pods of the same services and the same controller.
#[derive(Clone)]
struct Siblings {
    labels: Labels,
    owner: Option<String>,
}

impl Constraint {
    pub fn of_pod(pod: &PodInfo, when_unsatisfiable: &str) -> Vec<Constraint> {
        let own = pod
            .spec()
            .and_then(|spec| spec.topology_spread_constraints.as_deref());
        own.unwrap_or_default()
            .iter()
            .filter(|own| own.when_unsatisfiable == when_unsatisfiable)
            .map(|own| Constraint::new(own, pod))
            .collect()
    }

    /// What Kubernetes' default profile has for pods without constraints of their own.
    pub fn defaults(pod: &PodInfo, services: &Services) -> Vec<Constraint> {
        let Some(siblings) = Siblings::of(pod, services) else {
            return Vec::new();
        };
        [(HOSTNAME, 3), (ZONE, 5)]
            .into_iter()
            .map(|(key, max_skew)| Constraint {
                topology_key: key.to_owned(),
                max_skew,
                min_domains: 1,
                counted: Counted::Siblings(siblings.clone()),
                honors_affinity: true,
                honors_taints: false,
            })
            .collect()
    }

    fn new(own: &TopologySpreadConstraint, pod: &PodInfo) -> Constraint {
        let honors =
            |policy: &Option<String>, default| policy.as_deref().unwrap_or(default) == "Honor";
        let none = Labels::new();
        let selector = PodSelector::with_keys(
            own.label_selector.as_ref(),
            own.match_label_keys.as_deref().unwrap_or_default(),
            &[],
            pod.labels().unwrap_or(&none),
        );
        Constraint {
            topology_key: own.topology_key.clone(),
            max_skew: own.max_skew.into(),
            min_domains: usize::try_from(own.min_domains.unwrap_or(1)).unwrap_or(1),
            counted: Counted::Selected(selector),
            honors_affinity: honors(&own.node_affinity_policy, "Honor"),
            honors_taints: honors(&own.node_taints_policy, "Ignore"),
        }
    }

    /// Whether the node's pods count: not where the pod could not go anyway.
    pub fn includes(&self, pod: &PodInfo, node: &NodeInfo) -> bool {
        let tainted = || {
            let mut hard = taints::untolerated(&node.taints, &pod.pod, taints::HARD);
            hard.next().is_some()
        };
        (!self.honors_affinity || node_affinity(pod, node).is_ok())
            && (!self.honors_taints || !tainted())
    }

    /// The node's pods that count.
    pub fn count(&self, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let counted = node.pods.values().filter(|other| {
            other.namespace() == pod.namespace() && !other.is_terminating() && self.selects(other)
        });
        i64::try_from(counted.count()).unwrap_or(i64::MAX)
    }

    pub fn selects(&self, pod: &PodInfo) -> bool {
        match &self.counted {
            Counted::Selected(selector) => selector.matches(pod.labels()),
            Counted::Siblings(siblings) => siblings.contain(pod),
        }
    }
}

impl Siblings {
    /// None: it stands alone.
    fn of(pod: &PodInfo, services: &Services) -> Option<Siblings> {
        let mut labels = Labels::new();
        for selector in services.get(pod.namespace()).into_iter().flatten() {
            if is_subset(selector.1, pod.labels()) {
                labels.extend(selector.1.clone());
            }
        }
        let owner = controller(pod).map(str::to_owned);
        (owner.is_some() || !labels.is_empty()).then_some(Siblings { labels, owner })
    }

    fn contain(&self, pod: &PodInfo) -> bool {
        let owned = self.owner.is_none() || self.owner.as_deref() == controller(pod);
        owned && is_subset(&self.labels, pod.labels())
    }
}

fn controller(pod: &PodInfo) -> Option<&str> {
    let owners = pod.pod.metadata.owner_references.as_deref()?;
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    SPREADING_OWNERS
        .contains(&owner.kind.as_str())
        .then_some(&owner.uid)
}

fn is_subset(labels: &Labels, of: Option<&Labels>) -> bool {
    labels
        .iter()
        .all(|(key, value)| of.and_then(|of| of.get(key)) == Some(value))
}
