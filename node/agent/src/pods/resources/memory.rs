//! Memory quality of service (KEP-2570, alpha in 1.36): how far a container's memory is kept from others,
//! and from where on it is slowed down. Only where the node is asked for it.
//!
//! What Guaranteed pods ask for is theirs (memory.min); what Burstable ones ask for is taken from them last
//! (memory.low). Containers of all but Guaranteed pods are slowed down between what they ask for and
//! what they may have (memory.high); pods are not, whose containers would slow down each other.

use k8s_openapi::api::core::v1::{Container, Pod};
use vetch_runtime::{QosClass, Resources};

use super::cgroup::{limits, memory, pod_requests};
use crate::pods::quantity::ResourceList;

/// The kernel rounds down itself where its pages are larger.
const PAGE: i64 = 4096;
/// "max".
const NEVER: i64 = -1;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemoryQos {
    /// How much a container has of what lies between its request and its limit before it is slowed
    /// down: more than 0, 1 for all.
    pub throttling_factor: f64,
    /// The kubelet's memoryReservationPolicy: TieredReservation.
    pub reserves: bool,
    /// What pods may ask for on this node, in bytes: the limit of containers without one.
    pub allocatable: i64,
}

/// `class` is the pod's. The result goes over what is there already.
pub fn container(
    pod: &Pod,
    container: &Container,
    class: QosClass,
    qos: Option<&MemoryQos>,
    resources: Resources,
) -> Resources {
    let Some(qos) = qos else { return resources };
    let own = container.resources.as_ref();
    let request = memory(own.and_then(|own| own.requests.as_ref())).unwrap_or(0);
    let limit = memory(Some(&limits(pod, container))).filter(|limit| *limit > 0);
    let high = match class {
        QosClass::Guaranteed => NEVER,
        _ => high(
            request,
            limit.unwrap_or(qos.allocatable),
            qos.throttling_factor,
        ),
    };
    Resources {
        memory_high: Some(high),
        ..protected(class, qos, request, resources)
    }
}

/// Of a pod as a whole.
pub fn pod(pod: &Pod, class: QosClass, qos: Option<&MemoryQos>, resources: Resources) -> Resources {
    let Some(qos) = qos else { return resources };
    let request = memory(Some(&pod_requests(pod))).unwrap_or(0);
    protected(class, qos, request, resources)
}

/// Of the cgroups above pods: no pod has more than these. Written as nothing where nothing is reserved,
/// for an earlier daemon may have.
pub fn classes(
    guaranteed: &[ResourceList],
    burstable: &[ResourceList],
    qos: Option<&MemoryQos>,
    all: [(QosClass, Resources); 3],
) -> [(QosClass, Resources); 3] {
    let asked = |pods: &[ResourceList]| -> i64 {
        let amounts = pods.iter().filter_map(|requests| memory(Some(requests)));
        amounts.fold(0, i64::saturating_add)
    };
    let reserves = qos.is_some_and(|qos| qos.reserves);
    let (low, min) = match reserves {
        true => (asked(burstable), asked(guaranteed)),
        false => (0, 0),
    };
    all.map(|(class, resources)| {
        let resources = match class {
            QosClass::Guaranteed => Resources {
                memory_min: Some(min.saturating_add(low)),
                ..resources
            },
            QosClass::Burstable => Resources {
                memory_low: Some(low),
                ..resources
            },
            QosClass::BestEffort => resources,
        };
        (class, resources)
    })
}

fn protected(class: QosClass, qos: &MemoryQos, request: i64, resources: Resources) -> Resources {
    let (min, low) = match class {
        _ if !qos.reserves => (0, 0),
        QosClass::Guaranteed => (request, 0),
        QosClass::Burstable => (0, request),
        QosClass::BestEffort => (0, 0),
    };
    Resources {
        memory_min: Some(min),
        memory_low: Some(low),
        ..resources
    }
}

/// In bytes.
fn high(request: i64, most: i64, factor: f64) -> i64 {
    let between = most.saturating_sub(request).max(0);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "a page is less than is lost of any memory there is"
    )]
    let more = (between as f64 * factor) as i64;
    let high = request.saturating_add(more) / PAGE * PAGE;
    if high > request { high } else { NEVER }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::pods::resources::class;
    use crate::pods::spec;

    const MIB: i64 = 1 << 20;

    fn qos(reserves: bool) -> MemoryQos {
        MemoryQos {
            throttling_factor: 0.9,
            reserves,
            allocatable: 2000 * MIB,
        }
    }

    #[test]
    fn where_a_container_is_slowed_down() {
        // The proposal's own table, in MiB.
        for (request, most, factor, want) in [
            (0, 1000, 0.9, 900),
            (100, 1000, 0.9, 910),
            (500, 1000, 0.9, 950),
            (900, 1000, 0.9, 990),
            (500, 1000, 0.6, 800),
            (800, 1000, 0.6, 920),
            (500, 1000, 1.0, 1000),
        ] {
            let got = high(request * MIB, most * MIB, factor);
            assert_eq!(got / MIB, want, "{request} {most} {factor}");
            assert_eq!(got % PAGE, 0);
        }
        assert_eq!(high(1000 * MIB, 1000 * MIB, 0.6), NEVER);
        // More is asked for than there is.
        assert_eq!(high(1000 * MIB, 500 * MIB, 0.9), NEVER);
        assert_eq!(high(1, 2, 0.9), NEVER);
    }

    #[test]
    fn by_class_and_policy() {
        let memory =
            |requests: Value, limits: Value| json!({"requests": requests, "limits": limits});
        let both = json!({"cpu": "1", "memory": "512Mi"});
        for (resources, reserves, min, low, high) in [
            (memory(both.clone(), both.clone()), true, 512, 0, NEVER),
            (memory(both.clone(), both), false, 0, 0, NEVER),
            (
                memory(json!({"memory": "500Mi"}), json!({"memory": "1000Mi"})),
                true,
                0,
                500,
                950,
            ),
            (
                memory(json!({"memory": "1000Mi"}), json!({})),
                true,
                0,
                1000,
                1900,
            ),
            (
                memory(json!({"cpu": "1"}), json!({"memory": "1000Mi"})),
                false,
                0,
                0,
                900,
            ),
            (json!({}), true, 0, 0, 1800),
        ] {
            let made: Pod = serde_json::from_value(
                json!({"spec": {"containers": [{"name": "c", "resources": resources}]}}),
            )
            .unwrap();
            let class = class(&made);
            let qos = qos(reserves);
            let own = &spec::containers(&made)[0];
            let got = container(&made, own, class, Some(&qos), Resources::default());
            let in_mib =
                |bytes: Option<i64>| bytes.map(|bytes| if bytes < 0 { bytes } else { bytes / MIB });
            let shown = [got.memory_min, got.memory_low, got.memory_high].map(in_mib);
            assert_eq!(shown, [min, low, high].map(Some), "{resources} {reserves}");
            let got = pod(&made, class, Some(&qos), Resources::default());
            let shown = [got.memory_min, got.memory_low].map(in_mib);
            assert_eq!(shown, [min, low].map(Some), "the pod of {resources}");
            assert_eq!(got.memory_high, None);
            let off = container(&made, own, class, None, Resources::default());
            assert_eq!(off, Resources::default());
        }
    }

    #[test]
    fn classes_have_what_their_pods_have_together() {
        let asked = |amount: &str| -> ResourceList {
            serde_json::from_value(json!({"memory": amount})).unwrap()
        };
        let (guaranteed, burstable) = ([asked("128Mi")], [asked("256Mi"), asked("128Mi")]);
        let all = || {
            [
                QosClass::Guaranteed,
                QosClass::Burstable,
                QosClass::BestEffort,
            ]
            .map(|class| (class, Resources::default()))
        };
        for (qos, min, low) in [
            (Some(qos(true)), 512, 384),
            (Some(qos(false)), 0, 0),
            (None, 0, 0),
        ] {
            let [kubepods, burst, rest] =
                classes(&guaranteed, &burstable, qos.as_ref(), all()).map(|(_, own)| own);
            assert_eq!(kubepods.memory_min, Some(min * MIB), "{qos:?}");
            assert_eq!(burst.memory_low, Some(low * MIB), "{qos:?}");
            assert_eq!((burst.memory_min, rest.memory_low), (None, None));
        }
    }
}
