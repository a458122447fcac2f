//! Nodes that have the pod's images already.

use crate::node_info::{NodeInfo, with_tag};
use crate::pod_info::PodInfo;

const MB: i64 = 1024 * 1024;
/// Less is pulled in no time.
const NEGLIGIBLE: i64 = 23 * MB;
/// More than this for each container makes no further difference.
const LARGEST: i64 = 1000 * MB;

/// An image counts by its size, and by the share of nodes that have it: or all pods of a new image
/// would go where it was pulled first.
pub fn scores(pod: &PodInfo, feasible: &[&NodeInfo], nodes: &[&NodeInfo]) -> Vec<i64> {
    let Some(spec) = pod.spec() else {
        return vec![0; feasible.len()];
    };
    let containers = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers);
    let images: Vec<String> = containers
        .filter_map(|container| container.image.as_deref())
        .map(with_tag)
        .collect();
    let total = nodes.len().max(1);
    let spread: Vec<usize> = images
        .iter()
        .map(|image| {
            let having = nodes.iter().filter(|node| node.images.contains_key(image));
            having.count()
        })
        .collect();
    let most = LARGEST * i64::try_from(images.len().max(1)).unwrap_or(1);
    feasible
        .iter()
        .map(|node| {
            let present = images.iter().zip(&spread).filter_map(|(image, having)| {
                let bytes = i128::from(*node.images.get(image)?);
                let scaled = bytes * i128::try_from(*having).ok()? / i128::try_from(total).ok()?;
                i64::try_from(scaled).ok()
            });
            let bytes = present.sum::<i64>().clamp(NEGLIGIBLE, most);
            100 * (bytes - NEGLIGIBLE) / (most - NEGLIGIBLE)
        })
        .collect()
}
