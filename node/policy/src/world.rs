//! What there is to decide by.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use crate::{AdminPolicy, Labels, Node, Pod, PodRef, Policy};

/// What the API server has, and which addresses are attached on this node.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub node: String,
    /// By namespace and name.
    pub policies: BTreeMap<(String, String), Arc<Policy>>,
    /// AdminNetworkPolicies by name.
    pub admin: BTreeMap<String, Arc<AdminPolicy>>,
    pub baseline: Option<Arc<AdminPolicy>>,
    pub namespaces: BTreeMap<String, Arc<Labels>>,
    /// By name; only admin policies are about them.
    pub nodes: BTreeMap<String, Arc<Node>>,
    /// By namespace and name.
    pub pods: HashMap<(String, String), Arc<Pod>>,
    /// The addresses that are attached here; with the pod, if whoever attached it
    /// knows that it is one of the API's.
    pub local: BTreeMap<IpAddr, Option<PodRef>>,
}

/// What is known of an address here.
pub enum Local<'a> {
    Pod(&'a Pod),
    /// The API server has not said yet what it is.
    Unknown,
    /// Nobody whom a policy could select.
    Nobody,
}

impl World {
    /// Whether there is anything to hold pods by.
    pub fn has_policies(&self) -> bool {
        !self.policies.is_empty() || !self.admin.is_empty() || self.baseline.is_some()
    }

    /// Whose each address here is.
    pub fn local(&self) -> BTreeMap<IpAddr, Local<'_>> {
        let here = self.pods.values().filter(|pod| pod.node == self.node);
        let mut said: HashMap<IpAddr, &Pod> = HashMap::new();
        for pod in here.filter(|pod| pod.is_peer()) {
            for ip in &pod.ips {
                let of = said.entry(*ip).or_insert(pod);
                if newer(pod, of) {
                    *of = pod;
                }
            }
        }
        let known = |owner: &PodRef| {
            let pod = self
                .pods
                .get(&(owner.namespace.clone(), owner.name.clone()));
            pod.filter(|pod| pod.uid == owner.uid)
        };
        let local = self.local.iter();
        local
            .map(|(ip, owner)| {
                let of = match owner {
                    Some(owner) => known(owner).map_or(Local::Unknown, |pod| Local::Pod(pod)),
                    None => said.get(ip).map_or(Local::Nobody, |pod| Local::Pod(pod)),
                };
                (*ip, of)
            })
            .collect()
    }

    /// Whose each pod's address in the cluster is. Of those here the node itself
    /// knows best.
    pub fn peers(&self) -> HashMap<IpAddr, &Pod> {
        let mut peers: HashMap<IpAddr, &Pod> = HashMap::new();
        for pod in self.pods.values().filter(|pod| pod.is_peer()) {
            for ip in &pod.ips {
                let of = peers.entry(*ip).or_insert(pod);
                if newer(pod, of) {
                    *of = pod;
                }
            }
        }
        for (ip, local) in self.local() {
            match local {
                Local::Pod(pod) if pod.is_peer() => {
                    peers.insert(ip, pod);
                }
                Local::Unknown => {
                    peers.remove(&ip);
                }
                _ => {}
            }
        }
        peers
    }
}

/// Two pods have one address for as long as it takes the API server to hear that
/// one of them is gone.
fn newer(one: &Pod, other: &Pod) -> bool {
    (&one.created, &one.uid) > (&other.created, &other.uid)
}
