//! Which pod goes first. Pure: the kubelet's order, in which the QoS class has no say.

use std::cmp::{Ordering, Reverse};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::Used;
use super::usage::PodUsage;
use crate::node::pressure::Starved;
use crate::pods::{quantity, resources, spec};

/// Those first of which nothing is known, then those that use more than they asked for, then those of low priority, then those that use most
/// beyond what they asked for. Process ids nobody asks for.
pub fn order(starved: Starved, pods: &mut [Arc<Pod>], used: &Used) {
    pods.sort_by(|one, other| {
        let key = |pod: &Pod| {
            let beyond = used
                .get(spec::uid(pod))
                .map(|used| beyond(starved, pod, used));
            let excess = match beyond {
                _ if starved == Starved::Pids => 0,
                None => 0,
                Some(beyond) if beyond > 0 => 1,
                Some(_) => 2,
            };
            let priority = spec::spec(pod).priority.unwrap_or(0);
            (excess, priority, Reverse(beyond.unwrap_or(i64::MAX)))
        };
        match key(one).cmp(&key(other)) {
            Ordering::Equal => spec::uid(one).cmp(spec::uid(other)),
            order => order,
        }
    });
}

/// How much more it uses than it asked for.
fn beyond(starved: Starved, pod: &Pod, used: &PodUsage) -> i64 {
    let asked = |name: &str| {
        let requests = resources::pod_requests(pod);
        requests.get(name).map_or(0, quantity::value)
    };
    let of = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
    match starved {
        Starved::Memory => of(used.memory) - asked("memory"),
        Starved::EphemeralStorage => of(used.disk(pod).bytes) - asked("ephemeral-storage"),
        Starved::Inodes => of(used.disk(pod).inodes),
        Starved::Pids => of(used.pids),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use vetch_runtime::DiskUsage;

    use super::super::usage::ContainerUsage;
    use super::*;

    /// Uid; priority; memory, storage asked for; memory, bytes, inodes, processes used.
    type Row = (&'static str, i32, u64, u64, Option<[u64; 4]>);

    fn ordered(starved: Starved, rows: &[Row]) -> Vec<String> {
        let mut pods = Vec::new();
        let mut used = Used::new();
        for (uid, priority, memory, storage, uses) in rows {
            let requests =
                json!({"memory": memory.to_string(), "ephemeral-storage": storage.to_string()});
            let pod = json!({
                "metadata": {"uid": uid},
                "spec": {"priority": priority, "containers": [{"name": "c", "resources": {"requests": requests}}]},
            });
            pods.push(Arc::new(serde_json::from_value(pod).unwrap()));
            if let Some([memory, bytes, inodes, pids]) = *uses {
                let written = DiskUsage { bytes, inodes };
                let container = ContainerUsage {
                    written,
                    ..ContainerUsage::default()
                };
                let usage = PodUsage {
                    memory,
                    pids,
                    containers: vec![container],
                    ..PodUsage::default()
                };
                used.insert((*uid).to_owned(), usage);
            }
        }
        order(starved, &mut pods, &used);
        pods.iter().map(|pod| spec::uid(pod).to_owned()).collect()
    }

    #[test]
    fn who_goes_first() {
        let rows: [Row; 5] = [
            // Within what it asked for, however much that is.
            ("modest", 0, 1000, 1000, Some([900, 900, 900, 1])),
            ("greedy", 0, 100, 100, Some([400, 150, 1, 2])),
            ("greedier", 0, 100, 100, Some([401, 120, 2, 3])),
            ("important", 10, 0, 0, Some([999, 999, 3, 99])),
            // Exactly as much is not more.
            ("exact", -5, 50, 50, Some([50, 50, 0, 0])),
        ];
        for (starved, want) in [
            (
                Starved::Memory,
                ["greedier", "greedy", "important", "exact", "modest"],
            ),
            (
                Starved::EphemeralStorage,
                ["greedy", "greedier", "important", "exact", "modest"],
            ),
            (
                Starved::Inodes,
                ["modest", "greedier", "greedy", "important", "exact"],
            ),
            (
                Starved::Pids,
                ["exact", "greedier", "greedy", "modest", "important"],
            ),
        ] {
            assert_eq!(ordered(starved, &rows), want, "{starved:?}");
        }
    }

    #[test]
    fn one_that_could_not_be_measured_goes_before_others() {
        let rows: [Row; 3] = [
            ("a", 0, 0, 0, Some([10, 10, 10, 10])),
            ("b", 9, 0, 0, None),
            ("c", 0, 0, 0, Some([20, 10, 10, 10])),
        ];
        assert_eq!(ordered(Starved::Memory, &rows), ["b", "c", "a"]);
        assert_eq!(ordered(Starved::Pids, &rows), ["a", "c", "b"]);
    }
}
