//! Claims, volumes and classes, and what a pod's claims ask of its node: VolumeBinding's part of the decision.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume as Volume, PersistentVolumeClaim as Claim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use vetch_volumes::class::NO_PROVISIONER;
use vetch_volumes::{Wanted, claim, class, find, in_topologies, reaches, volume};

use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use crate::selector::Labels;

const NODE_CONFLICT: &str = "node(s) had volume node affinity conflict";
const BIND_CONFLICT: &str = "node(s) didn't find available persistent volumes to bind";
const NO_VOLUME: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
const IMMEDIATE: &str = "pod has unbound immediate PersistentVolumeClaims";

/// As the API has them.
#[derive(Debug, Default)]
pub struct Volumes {
    /// By namespace and name.
    claims: HashMap<(String, String), Arc<Claim>>,
    volumes: BTreeMap<String, Arc<Volume>>,
    classes: HashMap<String, Arc<StorageClass>>,
    given: Given,
}

/// Names of volumes that were given to claims and do not show it yet, with the claims' uids.
type Given = BTreeMap<String, String>;

impl Volumes {
    pub fn set_claim(&mut self, namespace: &str, name: &str, claim: Option<Arc<Claim>>) {
        let key = (namespace.to_owned(), name.to_owned());
        match claim {
            Some(claim) => self.claims.insert(key, claim),
            None => self.claims.remove(&key),
        };
    }

    pub fn set_volume(&mut self, name: &str, volume: Option<Arc<Volume>>) {
        self.given.remove(name);
        match volume {
            Some(volume) => self.volumes.insert(name.to_owned(), volume),
            None => self.volumes.remove(name),
        };
    }

    pub fn set_class(&mut self, name: &str, class: Option<Arc<StorageClass>>) {
        match class {
            Some(class) => self.classes.insert(name.to_owned(), class),
            None => self.classes.remove(name),
        };
    }

    /// Nobody else gets these volumes until they show whose they are.
    pub fn give(&mut self, plan: &Plan) {
        for (claim, volume) in &plan.bind {
            let uid = claim.metadata.uid.clone().unwrap_or_default();
            self.given.insert(volume::name(volume).to_owned(), uid);
        }
    }

    /// It was not written.
    pub fn take_back(&mut self, names: &[String]) {
        for name in names {
            self.given.remove(name);
        }
    }
}

/// What is to be written so that a pod's claims are bound for a node.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Plan {
    /// Volumes that are there, given to claims.
    pub bind: Vec<(Arc<Claim>, Arc<Volume>)>,
    /// Claims whose volumes are to be made for the node.
    pub provision: Vec<Arc<Claim>>,
    /// All that was to be written for a claim is, and it is not bound yet.
    pub awaited: bool,
}

impl Plan {
    /// All claims are bound.
    pub fn is_empty(&self) -> bool {
        self.bind.is_empty() && self.provision.is_empty() && !self.awaited
    }
}

/// A pod's claims, with all that is needed to look at nodes.
#[derive(Clone, Debug, Default)]
pub struct PodClaims {
    /// The volumes of those that are bound; None where that is not there.
    bound: Vec<Option<Arc<Volume>>>,
    /// Those that wait for a node, the smallest first.
    waiting: Vec<(Arc<Claim>, Arc<StorageClass>)>,
    /// All volumes there are, if a claim waits for one.
    choice: Vec<Arc<Volume>>,
    given: Given,
    /// One of them is bound and does not say so in its status, by which its node knows.
    unsettled: bool,
    /// Names of claims that only one pod may have.
    pub one_pod: Vec<String>,
}

impl PodClaims {
    /// What is wrong with the claims whatever the node, in Kubernetes' words.
    pub fn of(pod: &PodInfo, known: &Volumes) -> Result<PodClaims, String> {
        let mut own = PodClaims::default();
        let Some(spec) = pod.spec() else {
            return Ok(own);
        };
        let mut immediate = false;
        for used in spec.volumes.iter().flatten() {
            let Some(name) = claim::name_of(&pod.pod, used) else {
                continue;
            };
            let found = known
                .claims
                .get(&(pod.namespace().to_owned(), name.clone()));
            let found = usable(found, &name, &pod.pod, used.ephemeral.is_some())?;
            if claim::is_for_one_pod(found) {
                own.one_pod.push(name);
            }
            if claim::is_bound(found) {
                let volume = known.volumes.get(claim::volume_name(found));
                own.bound.push(volume.cloned());
                own.unsettled |= claim::phase(found) != "Bound";
                continue;
            }
            let class = known.classes.get(claim::class(found).unwrap_or_default());
            match class.filter(|class| class::is_delayed(class)) {
                // One that names its volume is bound to it without us.
                Some(class) if claim::volume_name(found).is_empty() => {
                    own.waiting.push((found.clone(), class.clone()));
                }
                _ => immediate = true,
            }
        }
        if immediate {
            return Err(IMMEDIATE.to_owned());
        }
        if !own.waiting.is_empty() {
            let size = |claim: &Claim| claim::request(claim).map_or(0, |size| size.value());
            own.waiting.sort_by_key(|(claim, _)| size(claim));
            own.choice = known.volumes.values().cloned().collect();
            own.given = known.given.clone();
        }
        Ok(own)
    }

    /// What is to be written for this node, or why it does not do.
    pub fn plan(&self, node: &NodeInfo) -> Result<Plan, Vec<&'static str>> {
        let none = Labels::new();
        let labels = node.labels().unwrap_or(&none);
        let mut reasons = Vec::new();
        let there = self.bound.iter().flatten();
        if !there.clone().all(|volume| reaches(volume, labels)) {
            reasons.push(NODE_CONFLICT);
        }
        let plan = self.waiting(node.name(), labels);
        if plan.is_none() {
            reasons.push(BIND_CONFLICT);
        }
        if there.count() < self.bound.len() {
            reasons.push(NO_VOLUME);
        }
        match plan.filter(|_| reasons.is_empty()) {
            Some(plan) => Ok(plan),
            None => Err(reasons),
        }
    }

    fn given_to(&self, claim: &Claim) -> Option<&Volume> {
        let uid = claim.metadata.uid.as_ref();
        let (name, _) = self.given.iter().find(|(_, own)| Some(*own) == uid)?;
        let mut all = self.choice.iter();
        all.find(|volume| volume::name(volume) == name)
            .map(AsRef::as_ref)
    }

    fn waiting(&self, node: &str, labels: &Labels) -> Option<Plan> {
        let mut plan = Plan {
            awaited: self.unsettled,
            ..Plan::default()
        };
        let mut taken: BTreeSet<String> = self.given.keys().cloned().collect();
        for (claim, class) in &self.waiting {
            if let Some(given) = self.given_to(claim) {
                if !reaches(given, labels) {
                    return None;
                }
                plan.awaited = true;
                continue;
            }
            match claim::selected_node(claim) {
                Some(selected) if selected != node => return None,
                Some(_) => plan.provision.push(claim.clone()),
                None => {
                    let wanted = Wanted::On {
                        labels,
                        taken: &taken,
                    };
                    if let Some(found) = find(claim, &self.choice, wanted) {
                        taken.insert(volume::name(found).to_owned());
                        if volume::claim_ref(found).is_some_and(|own| own.uid.is_some()) {
                            plan.awaited = true;
                            continue;
                        }
                        plan.bind.push((claim.clone(), found.clone()));
                        continue;
                    }
                    let topologies = class.allowed_topologies.as_deref().unwrap_or_default();
                    let made = !class.provisioner.is_empty() && class.provisioner != NO_PROVISIONER;
                    if !made || !in_topologies(topologies, labels) {
                        return None;
                    }
                    plan.provision.push(claim.clone());
                }
            }
        }
        Some(plan)
    }
}

fn usable<'a>(
    found: Option<&'a Arc<Claim>>,
    name: &str,
    pod: &Pod,
    is_ephemeral: bool,
) -> Result<&'a Arc<Claim>, String> {
    let Some(found) = found else {
        return Err(match is_ephemeral {
            true => format!(
                "waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}"
            ),
            false => format!("persistentvolumeclaim {name:?} not found"),
        });
    };
    if claim::phase(found) == "Lost" {
        return Err(format!(
            "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {:?}",
            claim::volume_name(found)
        ));
    }
    if found.metadata.deletion_timestamp.is_some() {
        return Err(format!("persistentvolumeclaim {name:?} is being deleted"));
    }
    if is_ephemeral && !claim::is_of_pod(found, pod) {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let owner = pod.metadata.name.as_deref().unwrap_or_default();
        return Err(format!(
            "PVC {namespace}/{name} was not created for pod {namespace}/{owner} (pod is not owner)"
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
