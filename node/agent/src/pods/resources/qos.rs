//! Which class a pod is in: the one Kubernetes reports and the kernel is told.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use vetch_runtime::QosClass;

use crate::pods::quantity::nanos;
use crate::pods::spec;

const COUNTED: [&str; 2] = ["cpu", "memory"];

pub fn class(pod: &Pod) -> QosClass {
    let own = spec::spec(pod).resources.as_ref();
    let demands: Vec<&ResourceRequirements> = match own {
        Some(resources) if !is_empty(resources) => vec![resources],
        _ => spec::all_containers(pod)
            .map(|container| container.resources.as_ref().unwrap_or(&NONE))
            .collect(),
    };
    let mut requests: BTreeMap<&str, i128> = BTreeMap::new();
    let mut limits: BTreeMap<&str, i128> = BTreeMap::new();
    let mut all_limited = true;
    for demand in demands {
        sum(&mut requests, demand.requests.as_ref());
        let limited = sum(&mut limits, demand.limits.as_ref());
        all_limited &= limited.len() == COUNTED.len();
    }
    if requests.is_empty() && limits.is_empty() {
        return QosClass::BestEffort;
    }
    // A request that is left out counts as its limit.
    let equal = requests
        .iter()
        .all(|(name, amount)| limits.get(name) == Some(amount));
    if all_limited && equal {
        QosClass::Guaranteed
    } else {
        QosClass::Burstable
    }
}

pub fn class_name(class: QosClass) -> &'static str {
    match class {
        QosClass::Guaranteed => "Guaranteed",
        QosClass::Burstable => "Burstable",
        QosClass::BestEffort => "BestEffort",
    }
}

static NONE: ResourceRequirements = ResourceRequirements {
    claims: None,
    limits: None,
    requests: None,
};

fn is_empty(resources: &ResourceRequirements) -> bool {
    let counted = |list: &Option<super::super::quantity::ResourceList>| {
        list.iter()
            .flat_map(BTreeMap::keys)
            .any(|name| COUNTED.contains(&name.as_str()))
    };
    !counted(&resources.requests) && !counted(&resources.limits)
}

/// Adds what is not zero; the names it found.
fn sum(
    total: &mut BTreeMap<&'static str, i128>,
    list: Option<&super::super::quantity::ResourceList>,
) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    for name in COUNTED {
        let amount = list
            .and_then(|list| list.get(name))
            .and_then(nanos)
            .unwrap_or(0);
        if amount != 0 {
            *total.entry(name).or_default() += amount;
            found.insert(name);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn classes() {
        let both = json!({"cpu": "1", "memory": "1Gi"});
        for (resources, want) in [
            (json!([{}]), QosClass::BestEffort),
            (json!([{"limits": both}]), QosClass::Guaranteed),
            (
                json!([{"limits": both, "requests": both}]),
                QosClass::Guaranteed,
            ),
            (
                json!([{"limits": both, "requests": {"cpu": "500m"}}]),
                QosClass::Burstable,
            ),
            (json!([{"limits": {"cpu": "1"}}]), QosClass::Burstable),
            (json!([{"requests": {"memory": "1"}}]), QosClass::Burstable),
            (json!([{"limits": both}, {}]), QosClass::Burstable),
            (json!([{"requests": {"cpu": "0"}}]), QosClass::BestEffort),
        ] {
            let containers: Vec<_> = resources
                .as_array()
                .unwrap()
                .iter()
                .map(|resources| json!({"name": "c", "resources": resources}))
                .collect();
            let pod: Pod =
                serde_json::from_value(json!({"spec": {"containers": containers}})).unwrap();
            assert_eq!(class(&pod), want, "{resources}");
        }
    }
}
