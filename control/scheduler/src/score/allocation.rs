//! Nodes with more left, and nodes whose cpu and memory fill up evenly.

use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

/// The shares of cpu and memory that stay free with the pod on the node, 0 to 100 each, averaged.
/// Containers that request nothing count with a default.
pub fn least_allocated(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let free = |total: i64, used: i64, wanted: i64| {
        let used = used.saturating_add(wanted);
        match total > 0 && used <= total {
            true => i128::from(total - used) * 100 / i128::from(total),
            false => 0,
        }
    };
    let (total, used, wanted) = (&node.allocatable, &node.scored, &pod.scored);
    let cpu = free(total.cpu, used.cpu, wanted.cpu);
    let memory = free(total.memory, used.memory, wanted.memory);
    i64::try_from((cpu + memory) / 2).unwrap_or(0)
}

/// Even use of both leaves room for more kinds of pods; says nothing about pods that request nothing.
pub fn balanced(pod: &PodInfo, node: &NodeInfo) -> i64 {
    if pod.requests.cpu == 0 && pod.requests.memory == 0 {
        return 0;
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "a share needs no more digits than an f64 has"
    )]
    let share = |total: i64, used: i64, wanted: i64| {
        (total > 0).then(|| (used.saturating_add(wanted) as f64 / total as f64).min(1.0))
    };
    let (total, used, wanted) = (&node.allocatable, &node.requested, &pod.requests);
    let cpu = share(total.cpu, used.cpu, wanted.cpu);
    let memory = share(total.memory, used.memory, wanted.memory);
    // Half the difference is the deviation of two values from their mean.
    let deviation = match (cpu, memory) {
        (Some(cpu), Some(memory)) => (cpu - memory).abs() / 2.0,
        _ => 0.0,
    };
    #[expect(clippy::cast_possible_truncation, reason = "0 to 100")]
    let score = ((1.0 - deviation) * 100.0) as i64;
    score
}
