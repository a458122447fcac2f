//! Whether the node grants a pod other resources than it has.

use k8s_openapi::api::core::v1::{Node, Pod};

use crate::pods::quantity::{self, ResourceList};
use crate::pods::{admission, resources};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Granted,
    /// Not as long as others have so much.
    Deferred(String),
    /// The node never has so much.
    Infeasible(String),
}

/// `had` is what the pod was granted before, `others` the requests of all other
/// pods the node has taken; what is unknown of the node refuses nothing.
pub fn decide(
    pod: &Pod,
    node: Option<&Node>,
    had: Option<&ResourceList>,
    others: &[ResourceList],
) -> Answer {
    let requests = resources::pod_requests(pod);
    let amount = |list: &ResourceList, name: &str| {
        list.get(name)
            .map_or(0, |quantity| quantity::amount(name, quantity))
    };
    let Some(node) = node else {
        return Answer::Granted;
    };
    let status = node.status.as_ref();
    let Some(allocatable) = status.and_then(|status| status.allocatable.as_ref()) else {
        return Answer::Granted;
    };
    for name in ["memory", "cpu"] {
        let (requested, capacity) = (amount(&requests, name), amount(allocatable, name));
        if requested > capacity {
            return Answer::Infeasible(format!(
                "Node didn't have enough capacity: {name}, requested: {requested}, capacity: {capacity}"
            ));
        }
    }
    // Who asks for no more than it has takes it from nobody.
    let grows = |had: &ResourceList| {
        let mut names = requests.keys();
        names.any(|name| amount(&requests, name) > amount(had, name))
    };
    if had.is_some_and(|had| !grows(had)) {
        return Answer::Granted;
    }
    match admission::shortage(pod, node, others) {
        Some(shortage) => Answer::Deferred(shortage.to_string()),
        None => Answer::Granted,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pods::testing::pod;

    fn requests(cpu: &str, memory: &str) -> ResourceList {
        serde_json::from_value(json!({"cpu": cpu, "memory": memory})).unwrap()
    }

    #[test]
    fn by_what_the_node_has_and_others_have() {
        let node: Node = serde_json::from_value(
            json!({"status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "10"}}}),
        )
        .unwrap();
        let infeasible =
            |words: &str| Answer::Infeasible(format!("Node didn't have enough capacity: {words}"));
        let deferred =
            |words: &str| Answer::Deferred(format!("Node didn't have enough resource: {words}"));
        for (cpu, memory, others, want) in [
            ("1", "100Mi", vec![], Answer::Granted),
            (
                "1500m",
                "100Mi",
                vec![requests("500m", "0")],
                Answer::Granted,
            ),
            (
                "1600m",
                "100Mi",
                vec![requests("500m", "0")],
                deferred("cpu, requested: 1600, used: 500, capacity: 2000"),
            ),
            (
                "1",
                "900Mi",
                vec![requests("0", "100Mi"), requests("0", "100Mi")],
                deferred("memory, requested: 943718400, used: 209715200, capacity: 1073741824"),
            ),
            (
                "3",
                "100Mi",
                vec![],
                infeasible("cpu, requested: 3000, capacity: 2000"),
            ),
            (
                "3",
                "2Gi",
                vec![requests("2", "1Gi")],
                infeasible("memory, requested: 2147483648, capacity: 1073741824"),
            ),
            // Less than before, though others have more than there is.
            ("900m", "100Mi", vec![requests("3", "3Gi")], Answer::Granted),
        ] {
            let pod = pod(json!({"containers": [
                {"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}},
            ]}));
            let had = requests("1", "100Mi");
            let got = decide(&pod, Some(&node), Some(&had), &others);
            assert_eq!(got, want, "{cpu} {memory} beside {others:?}");
            assert_eq!(decide(&pod, None, Some(&had), &others), Answer::Granted);
        }
    }
}
