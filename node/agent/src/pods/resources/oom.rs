//! oom_score_adj: whom the kernel kills first when memory is short.

use k8s_openapi::api::core::v1::{Container, Pod};
use vetch_runtime::QosClass;

use super::cgroup::containers_requests;
use crate::pods::{quantity, spec};

const GUARANTEED: i64 = -997;
const BEST_EFFORT: i64 = 1000;
const SYSTEM_CRITICAL: i32 = 2_000_000_000;

/// What the machine has and what this process may do about scores.
#[derive(Clone, Copy, Debug)]
pub struct HostMemory {
    /// MemTotal in bytes.
    pub total: i64,
    /// The lowest score a container can get; -1000 where lowering is allowed.
    pub lowest_score: i32,
}

impl HostMemory {
    /// Without the right to lower scores, a child keeps at least our own.
    pub fn read(can_lower: bool) -> HostMemory {
        let number = |text: Option<String>| text?.trim().parse().ok();
        let total = std::fs::read_to_string("/proc/meminfo")
            .ok()
            .and_then(|text| mem_total(&text))
            .unwrap_or(i64::MAX);
        let own = number(std::fs::read_to_string("/proc/self/oom_score_adj").ok()).unwrap_or(0);
        HostMemory {
            total,
            lowest_score: if can_lower { -1000 } else { own },
        }
    }
}

fn mem_total(meminfo: &str) -> Option<i64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: i64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

/// The kubelet's rule: the smaller a burstable container's share of the
/// machine's memory, the sooner it goes. What the pod asks for beyond what its
/// containers do is shared out among them.
pub fn score_adj(pod: &Pod, container: &Container, qos: QosClass, host: HostMemory) -> i32 {
    let score = wanted(pod, container, qos, host.total);
    i32::try_from(score).unwrap_or(1000).max(host.lowest_score)
}

fn wanted(pod: &Pod, container: &Container, qos: QosClass, capacity: i64) -> i64 {
    let critical = spec::spec(pod).priority.unwrap_or(0) >= SYSTEM_CRITICAL;
    match qos {
        _ if critical => GUARANTEED,
        QosClass::Guaranteed => GUARANTEED,
        QosClass::BestEffort => BEST_EFFORT,
        QosClass::Burstable => {
            let share = share_of_rest(pod);
            let burstable = |container| burstable(container, share, capacity);
            let own = burstable(container);
            if !spec::is_sidecar(container) {
                return own;
            }
            // A sidecar must not go before the containers it serves.
            let containers = spec::containers(pod).iter();
            let least = containers.map(burstable).min();
            least.map_or(own, |least| own.min(least))
        }
    }
}

/// In bytes; started and finished init containers count as well.
fn share_of_rest(pod: &Pod) -> i64 {
    let bytes = |list: &quantity::ResourceList| list.get("memory").map_or(0, quantity::value);
    let whole = spec::spec(pod).resources.as_ref();
    let whole = whole.and_then(|r| r.requests.as_ref()).map_or(0, bytes);
    let count = spec::all_containers(pod).count();
    if whole == 0 || count == 0 {
        return 0;
    }
    let rest = whole.saturating_sub(bytes(&containers_requests(pod)));
    rest / i64::try_from(count).unwrap_or(i64::MAX)
}

fn burstable(container: &Container, more: i64, capacity: i64) -> i64 {
    let resources = container.resources.as_ref();
    let list = |list: Option<&quantity::ResourceList>| {
        list.and_then(|list| list.get("memory"))
            .map(quantity::value)
    };
    let request = list(resources.and_then(|r| r.requests.as_ref()))
        .or_else(|| list(resources.and_then(|r| r.limits.as_ref())))
        .unwrap_or(0);
    let share = (i128::from(request) + i128::from(more)) * 1000 / i128::from(capacity.max(1));
    let score = 1000 - i64::try_from(share).unwrap_or(1000);
    // Above every guaranteed pod, below every best-effort one.
    if score < 1000 + GUARANTEED {
        1000 + GUARANTEED
    } else if score == BEST_EFFORT {
        BEST_EFFORT - 1
    } else {
        score
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scores_by_class_and_share() {
        let host = HostMemory {
            total: 10_000_000,
            lowest_score: -1000,
        };
        for (memory, qos, priority, want) in [
            ("0", QosClass::BestEffort, 0, 1000),
            ("0", QosClass::Guaranteed, 0, -997),
            ("0", QosClass::BestEffort, SYSTEM_CRITICAL, -997),
            ("0", QosClass::Burstable, 0, 999),
            ("5M", QosClass::Burstable, 0, 500),
            ("10M", QosClass::Burstable, 0, 3),
            ("99M", QosClass::Burstable, 0, 3),
        ] {
            let pod: Pod = serde_json::from_value(json!({"spec": {"priority": priority,
                "containers": [{"name": "c", "resources": {"requests": {"memory": memory}}}]}}))
            .unwrap();
            let container = &spec::containers(&pod)[0];
            assert_eq!(
                score_adj(&pod, container, qos, host),
                want,
                "{memory} {qos:?}"
            );
            let bound = HostMemory {
                lowest_score: 0,
                ..host
            };
            assert_eq!(score_adj(&pod, container, qos, bound), want.max(0));
        }
    }

    #[test]
    fn a_sidecar_goes_no_sooner_than_what_it_serves() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "containers": [{"name": "c", "resources": {"requests": {"memory": "5M"}}}],
            "initContainers": [{"name": "s", "restartPolicy": "Always"}],
        }}))
        .unwrap();
        let sidecar = &spec::init_containers(&pod)[0];
        assert_eq!(wanted(&pod, sidecar, QosClass::Burstable, 10_000_000), 500);
    }

    #[test]
    fn what_the_pod_asks_for_beside_its_containers_is_shared() {
        // (10M - 2M) / 4 more for each of the four.
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "resources": {"requests": {"memory": "10M"}},
            "containers": [
                {"name": "c", "resources": {"requests": {"memory": "2M"}}},
                {"name": "d"},
            ],
            "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}],
        }}))
        .unwrap();
        for (name, want) in [("c", 600), ("d", 800), ("s", 600)] {
            let mut all = spec::all_containers(&pod);
            let own = all.find(|container| container.name == name).unwrap();
            assert_eq!(
                wanted(&pod, own, QosClass::Burstable, 10_000_000),
                want,
                "{name}"
            );
        }
    }

    #[test]
    fn memory_of_the_machine() {
        assert_eq!(
            mem_total("MemTotal:       16 kB\nMemFree: 1 kB\n"),
            Some(16384)
        );
        assert_eq!(mem_total(""), None);
    }
}
