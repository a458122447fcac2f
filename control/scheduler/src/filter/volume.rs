//! Volumes that only one pod may have (KEP-2485).

use std::sync::Arc;

use super::{Filter, Refusal};
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use crate::volumes::PodClaims;

#[derive(Clone, Copy, Debug)]
pub struct VolumeRestrictions {
    /// Another pod, wherever it is, has a claim of which there may be one user.
    in_use: bool,
}

impl VolumeRestrictions {
    pub fn new(pod: &Arc<PodInfo>, claims: &PodClaims, nodes: &[&NodeInfo]) -> VolumeRestrictions {
        let uses = |other: &Arc<PodInfo>| {
            other.uid() != pod.uid()
                && other.namespace() == pod.namespace()
                && claims_of(other).any(|name| claims.one_pod.contains(&name))
        };
        let in_use =
            !claims.one_pod.is_empty() && nodes.iter().any(|node| node.pods.values().any(uses));
        VolumeRestrictions { in_use }
    }

    pub fn check(&self) -> Result<(), Refusal> {
        const REASON: &str = "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";
        match self.in_use {
            true => Err(Refusal::new(Filter::VolumeRestrictions, true, REASON)),
            false => Ok(()),
        }
    }
}

fn claims_of(pod: &PodInfo) -> impl Iterator<Item = String> {
    let volumes = pod
        .spec()
        .into_iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| vetch_volumes::claim::name_of(&pod.pod, volume))
}
