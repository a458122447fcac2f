//! A node under pressure takes less.

use k8s_openapi::api::core::v1::{Pod, Taint};
use vetch_runtime::QosClass;

use super::fit::tolerates;
use crate::node::pressure::Pressure;
use crate::pods::preempt::is_critical;
use crate::pods::status::Verdict;
use crate::pods::text::go_list;
use crate::pods::{eviction, resources, spec};

/// The kubelet's eviction manager as an admission handler: critical pods always; under pressure of memory
/// alone those that asked for some, or tolerate its taint.
pub fn under_pressure(pod: &Pod, pressure: Pressure) -> Option<Verdict> {
    if pressure == Pressure::default() || is_critical(pod) {
        return None;
    }
    let memory_alone = Pressure {
        memory: true,
        ..Pressure::default()
    };
    if pressure == memory_alone
        && (resources::class(pod) != QosClass::BestEffort || tolerates_memory_pressure(pod))
    {
        return None;
    }
    Some(Verdict {
        reason: eviction::REASON.to_owned(),
        message: format!("The node had condition: {}. ", go_list(&pressure.names())),
    })
}

fn tolerates_memory_pressure(pod: &Pod) -> bool {
    let taint = Taint {
        key: "node.kubernetes.io/memory-pressure".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    let tolerations = spec::spec(pod).tolerations.iter().flatten();
    tolerations.into_iter().any(|own| tolerates(own, &taint))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::pods::testing::pod;

    #[test]
    fn who_is_taken() {
        let none = Pressure::default();
        let memory = Pressure {
            memory: true,
            ..none
        };
        let disk = Pressure { disk: true, ..none };
        let both = Pressure {
            memory: true,
            ..disk
        };
        let pids = Pressure { pids: true, ..none };
        let best = || json!({"containers": [{"name": "c"}]});
        let burstable =
            || json!({"containers": [{"name": "c", "resources": {"requests": {"memory": "1Mi"}}}]});
        let with = |key: &str, value: Value| {
            let mut spec = best();
            spec[key] = value;
            spec
        };
        let tolerant = || {
            let key = "node.kubernetes.io/memory-pressure";
            with("tolerations", json!([{"key": key, "operator": "Exists"}]))
        };
        for (spec, pressure, want) in [
            (best(), none, None),
            (best(), memory, Some("[MemoryPressure]")),
            (burstable(), memory, None),
            (tolerant(), memory, None),
            (tolerant(), both, Some("[MemoryPressure DiskPressure]")),
            (burstable(), both, Some("[MemoryPressure DiskPressure]")),
            (burstable(), disk, Some("[DiskPressure]")),
            (burstable(), pids, Some("[PIDPressure]")),
            (with("priority", json!(2_000_000_000)), both, None),
            (with("priority", json!(1000)), disk, Some("[DiskPressure]")),
        ] {
            let got = under_pressure(&pod(spec.clone()), pressure);
            let want = want.map(|names| Verdict {
                reason: "Evicted".to_owned(),
                message: format!("The node had condition: {names}. "),
            });
            assert_eq!(got, want, "{spec} {pressure:?}");
        }
    }
}
