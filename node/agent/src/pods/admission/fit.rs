//! Pods that were bound here past a scheduler: made for another system, or kept away by a taint.

use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};

use crate::pods::spec;
use crate::pods::static_pods::is_static;
use crate::pods::status::Verdict;

const OS: &str = "linux";
const OS_LABEL: &str = "kubernetes.io/os";

/// In the kubelet's reasons and words.
pub fn other_system(pod: &Pod) -> Option<Verdict> {
    let own = spec::spec(pod);
    let verdict = |reason: &str, message: &str| {
        Some(Verdict {
            reason: reason.to_owned(),
            message: message.to_owned(),
        })
    };
    let selected = own.node_selector.as_ref().and_then(|all| all.get(OS_LABEL));
    if selected.is_some_and(|os| os != OS) {
        return verdict(
            "PodOSSelectorNodeLabelDoesNotMatch",
            "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
        );
    }
    if own.os.as_ref().is_some_and(|os| os.name != OS) {
        return verdict(
            "PodOSNotSupported",
            "Failed to admit pod as the OS field doesn't match node OS",
        );
    }
    None
}

/// A taint that would evict it at once. The node's own pods stay whatever it is tainted with.
pub fn kept_away(pod: &Pod, node: &Node) -> Option<Verdict> {
    let taints = node.spec.as_ref()?.taints.as_deref()?;
    let tolerations = spec::spec(pod).tolerations.as_deref().unwrap_or_default();
    let evicts = |taint: &&Taint| {
        taint.effect == "NoExecute" && !tolerations.iter().any(|own| tolerates(own, taint))
    };
    let evicting = taints.iter().find(evicts).filter(|_| !is_static(pod));
    evicting.map(|_| Verdict {
        reason: "TaintToleration".to_owned(),
        message: "Predicate TaintToleration failed".to_owned(),
    })
}

pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let given = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
    let effect = given(&toleration.effect).is_none_or(|effect| effect == taint.effect);
    let key = given(&toleration.key).is_none_or(|key| key == taint.key);
    let value = match toleration.operator.as_deref() {
        Some("Exists") => true,
        None | Some("" | "Equal") => given(&toleration.value) == given(&taint.value),
        _ => false,
    };
    effect && key && value
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::pods::testing::pod;

    #[test]
    fn pods_of_other_systems() {
        for (spec, reason) in [
            (json!({}), None),
            (
                json!({"os": {"name": "linux"}, "nodeSelector": {OS_LABEL: "linux"}}),
                None,
            ),
            (
                json!({"os": {"name": "windows"}}),
                Some("PodOSNotSupported"),
            ),
            (
                json!({"nodeSelector": {OS_LABEL: "windows"}}),
                Some("PodOSSelectorNodeLabelDoesNotMatch"),
            ),
        ] {
            let mut whole = spec.clone();
            whole["containers"] = json!([]);
            let got = other_system(&pod(whole)).map(|verdict| verdict.reason);
            assert_eq!(got.as_deref(), reason, "{spec}");
        }
    }

    #[test]
    fn taints_that_evict() {
        let taint = |effect: &str| json!([{"key": "k", "value": "v", "effect": effect}]);
        for (taints, tolerations, stays) in [
            (json!([]), json!([]), true),
            (taint("NoSchedule"), json!([]), true),
            (taint("NoExecute"), json!([]), false),
            (taint("NoExecute"), json!([{"operator": "Exists"}]), true),
            (
                taint("NoExecute"),
                json!([{"key": "k", "operator": "Exists", "effect": "NoExecute"}]),
                true,
            ),
            (
                taint("NoExecute"),
                json!([{"key": "k", "operator": "Exists", "effect": "NoSchedule"}]),
                false,
            ),
            (
                taint("NoExecute"),
                json!([{"key": "k", "value": "v"}]),
                true,
            ),
            (
                taint("NoExecute"),
                json!([{"key": "k", "value": "w"}]),
                false,
            ),
            (
                taint("NoExecute"),
                json!([{"key": "other", "operator": "Exists"}]),
                false,
            ),
        ] {
            let node: Node = serde_json::from_value(json!({"spec": {"taints": taints}})).unwrap();
            let make = |metadata: Value| -> Pod {
                let spec = json!({"containers": [], "tolerations": tolerations});
                serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
            };
            let got = kept_away(&make(json!({})), &node);
            assert_eq!(got.is_none(), stays, "{taints} {tolerations}");
            let own = make(json!({"annotations": {"kubernetes.io/config.source": "file"}}));
            assert_eq!(kept_away(&own, &node), None);
        }
    }
}
