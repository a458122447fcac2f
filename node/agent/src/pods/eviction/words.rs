//! What people read, in the kubelet's words (pkg/kubelet/eviction/helpers.go of 1.36), each sentence with
//! the space behind it.

use std::fmt::Write as _;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::usage::PodUsage;
use crate::node::capacity::binary;
use crate::node::pressure::{Observed, Starved, Threshold};
use crate::pods::{quantity, spec};

/// Why a pod goes for a threshold, and what of it uses more than it asked for.
pub fn low(crossed: &Threshold, observed: &Observed, pod: &Pod, used: Option<&PodUsage>) -> String {
    let starved = crossed.signal.starved();
    let name = starved.name();
    let room = starved.room(observed);
    let least = match crossed.text.ends_with('%') {
        true => binary(crossed.least(room.total)).0,
        false => crossed.text.clone(),
    };
    let mut text = format!(
        "The node was low on resource: {name}. Threshold quantity: {least}, available: {}. ",
        binary(room.available).0
    );
    for container in used.iter().flat_map(|used| &used.containers) {
        let mut all = spec::containers(pod).iter();
        let Some(own) = all.find(|own| own.name == container.name) else {
            continue;
        };
        let bytes = match starved {
            Starved::Memory => container.memory,
            Starved::EphemeralStorage => container.disk().bytes,
            // Nobody asks for them.
            Starved::Inodes | Starved::Pids => continue,
        };
        let requests = own.resources.as_ref().and_then(|own| own.requests.as_ref());
        let request = requests.and_then(|requests| requests.get(name));
        let asked = request.map_or(0, quantity::value);
        if i128::from(bytes) > i128::from(asked) {
            let request = request.map_or("0", |request| &request.0);
            let _ = write!(
                text,
                "Container {} was using {}, request is {request}, has larger consumption of {name}. ",
                own.name,
                binary(bytes).0
            );
        }
    }
    text
}

/// A sum of quantities, in the form of the first: 4Mi, or 4M.
pub fn sum(sum: &Quantity, first: &Quantity) -> String {
    let bytes = u64::try_from(quantity::value(sum)).unwrap_or(0);
    if first.0.ends_with('i') {
        return binary(bytes).0;
    }
    let units = ["", "k", "M", "G", "T", "P", "E"];
    let mut value = bytes;
    let mut unit = 0;
    while value != 0 && value.is_multiple_of(1000) && unit + 1 < units.len() {
        value /= 1000;
        unit += 1;
    }
    format!("{value}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use vetch_runtime::DiskUsage;

    use super::super::usage::ContainerUsage;
    use super::*;
    use crate::node::pressure::{Eviction, Room};
    use crate::pods::testing::pod;

    #[test]
    fn why_a_pod_goes() {
        let requests = |list| json!({"requests": list});
        let pod = pod(json!({"containers": [
            {"name": "app", "resources": requests(json!({"memory": "100Mi", "ephemeral-storage": "1Gi"}))},
            {"name": "free"},
        ]}));
        let container = |name: &str, memory, bytes| ContainerUsage {
            name: name.to_owned(),
            memory,
            written: DiskUsage { bytes, inodes: 1 },
            ..ContainerUsage::default()
        };
        let used = PodUsage {
            containers: vec![
                container("app", 200 << 20, 1 << 20),
                container("free", 12_345, 2 << 20),
                container("other", 1 << 30, 1 << 30),
            ],
            ..PodUsage::default()
        };
        let room = |available, total| Room { available, total };
        let observed = Observed {
            memory: room(50 << 20, 4 << 30),
            disk: room(1 << 30, 20 << 30),
            inodes: room(7, 1000),
            pids: room(3, 100),
        };
        for (threshold, want) in [
            (
                "memory.available<100Mi",
                "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. \
                 Container app was using 200Mi, request is 100Mi, has larger consumption of memory. \
                 Container free was using 12345, request is 0, has larger consumption of memory. ",
            ),
            (
                "nodefs.available<10%",
                "The node was low on resource: ephemeral-storage. Threshold quantity: 2Gi, available: 1Gi. \
                 Container free was using 2Mi, request is 0, has larger consumption of ephemeral-storage. ",
            ),
            (
                "nodefs.inodesFree<5%",
                "The node was low on resource: inodes. Threshold quantity: 50, available: 7. ",
            ),
            (
                "pid.available<5",
                "The node was low on resource: pids. Threshold quantity: 5, available: 3. ",
            ),
        ] {
            let eviction = Eviction::parse(threshold, "", "", Duration::ZERO).unwrap();
            let got = low(&eviction.hard[0], &observed, &pod, Some(&used));
            assert_eq!(got, want);
            let unknown = low(&eviction.hard[0], &observed, &pod, None);
            assert!(want.starts_with(&unknown), "{unknown}");
        }
    }

    #[test]
    fn sums() {
        for (bytes, first, want) in [
            ("4194304", "2Mi", "4Mi"),
            ("4000000", "2M", "4M"),
            ("4194304", "1", "4194304"),
            ("1500", "1k", "1500"),
        ] {
            let first = Quantity(first.to_owned());
            assert_eq!(sum(&Quantity(bytes.to_owned()), &first), want);
        }
    }
}
