//! The sandboxes that are attached now, as the programs in the kernel need to
//! know them.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use vetch_ebpf_common::Pod;

use crate::{Bandwidth, HostPort, HostPorts, PodAddresses, PodPorts};

/// Each address of a pod with the pod. Pods of several addresses are there
/// several times.
pub type Pods = BTreeMap<IpAddr, Pod>;

/// What a pod asks of the datapath; kept with its address record, because the
/// next daemon may have no API server to ask.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodOptions {
    /// Its packets go by the node's stack and are never redirected.
    pub by_stack: bool,
    /// Its TCP connections to services are balanced by the packet, not at
    /// `connect()`.
    pub tcp_by_packet: bool,
    /// Of the node, that lead to it.
    pub host_ports: Vec<HostPort>,
    /// Whose it is, if it is of the API's.
    pub owner: Option<Owner>,
    pub bandwidth: Bandwidth,
}

/// The API object that a sandbox is of: by it policies find the pod, which has no
/// address in its status before it has one here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// By a pod's address. Sandboxes of others are not among them.
pub type Owners = BTreeMap<IpAddr, Owner>;

impl PodOptions {
    pub fn flags(&self) -> u32 {
        let flag = |set, flag| if set { flag } else { 0 };
        flag(self.by_stack, Pod::BY_STACK)
            | flag(self.tcp_by_packet, Pod::TCP_BY_PACKET)
            | flag(self.bandwidth.ingress.is_some(), Pod::SHAPED)
    }
}

/// One attached sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    pub addresses: PodAddresses,
    pub pod: Pod,
    pub host_ports: Vec<HostPort>,
    pub owner: Option<Owner>,
}

#[derive(Debug)]
pub struct Attached {
    sandboxes: Mutex<BTreeMap<String, Sandbox>>,
    /// `None` until it is known what an earlier daemon attached.
    published: watch::Sender<Option<Arc<Pods>>>,
    /// Likewise.
    host_ports: watch::Sender<Option<Arc<HostPorts>>>,
    /// Likewise; told before the pods are.
    owners: watch::Sender<Option<Arc<Owners>>>,
}

impl Attached {
    pub fn new() -> Self {
        Self {
            sandboxes: Mutex::default(),
            published: watch::Sender::new(None),
            host_ports: watch::Sender::new(None),
            owners: watch::Sender::new(None),
        }
    }

    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<Pods>>> {
        self.published.subscribe()
    }

    pub fn host_ports(&self) -> watch::Receiver<Option<Arc<HostPorts>>> {
        self.host_ports.subscribe()
    }

    pub fn owners(&self) -> watch::Receiver<Option<Arc<Owners>>> {
        self.owners.subscribe()
    }

    pub fn get(&self, id: &str) -> Option<PodAddresses> {
        let sandboxes = self
            .sandboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Some(sandboxes.get(id)?.addresses.clone())
    }

    /// Whether one is behind this link of the node's.
    pub fn has_link(&self, index: u32) -> bool {
        let sandboxes = self
            .sandboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut all = sandboxes.values();
        all.any(|sandbox| sandbox.pod.ifindex == index)
    }

    pub fn insert(&self, id: &str, sandbox: Sandbox) {
        let known = self.published.borrow().is_some();
        self.change(known, |sandboxes| {
            sandboxes.insert(id.to_owned(), sandbox);
        });
    }

    pub fn remove(&self, id: &str) {
        let known = self.published.borrow().is_some();
        self.change(known, |sandboxes| {
            sandboxes.remove(id);
        });
    }

    /// Takes in what was found attached; what was attached meanwhile is newer.
    pub fn adopt(&self, found: BTreeMap<String, Sandbox>) {
        self.change(true, |sandboxes| {
            for (id, sandbox) in found {
                sandboxes.entry(id).or_insert(sandbox);
            }
        });
    }

    fn change(&self, publish: bool, change: impl FnOnce(&mut BTreeMap<String, Sandbox>)) {
        let mut sandboxes = self
            .sandboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        change(&mut sandboxes);
        if !publish {
            return;
        }
        let pods: Pods = sandboxes
            .values()
            .flat_map(|sandbox| sandbox.addresses.ips.iter().map(|ip| (*ip, sandbox.pod)))
            .collect();
        let ported = sandboxes
            .iter()
            .filter(|(_, sandbox)| !sandbox.host_ports.is_empty());
        let host_ports = ported.map(|(id, sandbox)| {
            let ports = PodPorts {
                ips: sandbox.addresses.ips.clone(),
                ports: sandbox.host_ports.clone(),
            };
            (id.clone(), ports)
        });
        let owned = sandboxes.values().flat_map(|sandbox| {
            let ips = sandbox.addresses.ips.iter();
            ips.filter_map(|ip| Some((*ip, sandbox.owner.clone()?)))
        });
        publish_if_new(&self.owners, owned.collect());
        publish_if_new(&self.host_ports, host_ports.collect());
        publish_if_new(&self.published, pods);
    }
}

fn publish_if_new<T: PartialEq>(to: &watch::Sender<Option<Arc<T>>>, news: T) {
    to.send_if_modified(|published| {
        let changed = published.as_deref() != Some(&news);
        if changed {
            *published = Some(Arc::new(news));
        }
        changed
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox(ips: &[&str], ifindex: u32) -> Sandbox {
        Sandbox {
            addresses: PodAddresses {
                ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
            },
            pod: Pod {
                ifindex,
                ..Pod::default()
            },
            host_ports: Vec::new(),
            owner: None,
        }
    }

    /// Addresses and link indices as last published.
    fn published(seen: &mut watch::Receiver<Option<Arc<Pods>>>) -> Option<Vec<(String, u32)>> {
        let pods = seen.borrow_and_update();
        let pair = |(ip, pod): (&IpAddr, &Pod)| (ip.to_string(), pod.ifindex);
        Some(pods.as_ref()?.iter().map(pair).collect())
    }

    #[test]
    fn nothing_is_published_before_the_earlier_ones_are_known() {
        let attached = Attached::new();
        let mut seen = attached.subscribe();
        attached.insert("new", sandbox(&["10.0.0.2"], 7));
        attached.insert("again", sandbox(&["10.0.0.3"], 8));
        assert_eq!(published(&mut seen), None);
        attached.adopt(BTreeMap::from([
            ("old".into(), sandbox(&["10.0.0.1", "fd00::1"], 5)),
            ("again".into(), sandbox(&["10.0.0.3"], 6)),
        ]));
        let all = [
            ("10.0.0.1", 5),
            ("10.0.0.2", 7),
            ("10.0.0.3", 8),
            ("fd00::1", 5),
        ];
        assert_eq!(
            published(&mut seen),
            Some(all.map(|(ip, index)| (ip.to_owned(), index)).to_vec())
        );
        attached.insert("new", sandbox(&["10.0.0.2"], 7));
        attached.remove("nobody");
        assert!(!seen.has_changed().unwrap(), "nothing is new");
        attached.remove("old");
        assert_eq!(published(&mut seen).unwrap().len(), 2);
        assert_eq!(attached.get("old"), None);
        assert!(attached.has_link(7) && !attached.has_link(5));
        assert!(attached.get("new").is_some());
    }

    #[test]
    fn host_ports_are_told_of_pods_that_have_any() {
        let attached = Attached::new();
        let mut seen = attached.host_ports();
        let port = HostPort {
            host_ip: None,
            protocol: vetch_ebpf_common::Protocol::Tcp,
            port: 8080,
            container_port: 80,
        };
        let with_port = |ips: &[&str]| Sandbox {
            host_ports: vec![port],
            ..sandbox(ips, 5)
        };
        attached.insert("new", with_port(&["10.0.0.2"]));
        assert_eq!(*seen.borrow_and_update(), None);
        attached.adopt(BTreeMap::from([
            ("old".into(), with_port(&["10.0.0.1"])),
            ("plain".into(), sandbox(&["10.0.0.3"], 6)),
        ]));
        let told: Vec<String> = seen
            .borrow_and_update()
            .iter()
            .flat_map(|told| told.iter())
            .map(|(id, pod)| format!("{id} {:?} {}", pod.ips, pod.ports[0]))
            .collect();
        assert_eq!(told, ["new [10.0.0.2] 8080/TCP", "old [10.0.0.1] 8080/TCP"]);
        attached.remove("plain");
        assert!(!seen.has_changed().unwrap(), "it had none");
        attached.remove("old");
        attached.remove("new");
        assert_eq!(seen.borrow_and_update().as_deref(), Some(&HostPorts::new()));
    }

    #[test]
    fn owners_are_told_of_pods_of_the_api() {
        let attached = Attached::new();
        let seen = attached.owners();
        let owner = Owner {
            namespace: "ns".into(),
            name: "web".into(),
            uid: "1".into(),
        };
        attached.adopt(BTreeMap::from([(
            "a".into(),
            Sandbox {
                owner: Some(owner.clone()),
                ..sandbox(&["10.0.0.2", "fd00::2"], 5)
            },
        )]));
        attached.insert("crictl's", sandbox(&["10.0.0.3"], 6));
        let expected = ["10.0.0.2", "fd00::2"].map(|ip| (ip.parse().unwrap(), owner.clone()));
        assert_eq!(seen.borrow().as_deref(), Some(&Owners::from(expected)));
        attached.remove("a");
        assert_eq!(seen.borrow().as_deref(), Some(&Owners::new()));
    }

    #[test]
    fn options_are_flags() {
        let options = |by_stack, tcp_by_packet| PodOptions {
            by_stack,
            tcp_by_packet,
            ..PodOptions::default()
        };
        let limited = |ingress, egress| PodOptions {
            bandwidth: Bandwidth { ingress, egress },
            ..PodOptions::default()
        };
        for (options, flags) in [
            (options(false, false), 0),
            (options(true, false), Pod::BY_STACK),
            (options(false, true), Pod::TCP_BY_PACKET),
            (options(true, true), Pod::BY_STACK | Pod::TCP_BY_PACKET),
            (limited(Some(1000), None), Pod::SHAPED),
            (limited(None, Some(1000)), 0),
        ] {
            assert_eq!(options.flags(), flags);
        }
    }
}
