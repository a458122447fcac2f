//! The pod network of one node: an address, a veth pair and routes for each
//! sandbox, and routes to the pods of the other nodes. All by rtnetlink.
//!
//! A pod has its addresses, one of each family that the node has a pod CIDR of,
//! as a /32 and a /128 on `eth0`, and default routes through link-local
//! gateways; the node has routes of the same lengths to the pod's host link
//! (`vt<12 hex>`). Nothing is bridged and nothing is translated.
//!
//! Every step is idempotent: killed anywhere and called again, it arrives.
//! The network namespace is the one of the thread that calls
//! [`Network::open`]; sysctls are written only for links of that namespace
//! that are the node's own (but for one of kernels before 6.17: `sysctl.rs`),
//! and for the pods' ends.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    convert::Infallible,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::{debug, info, warn};
use vetch_ebpf_common::{Pod, SNAT_PORTS};

mod attached;
mod bandwidth;
mod connect;
mod foreign;
mod guard;
mod host_port;
mod ipam;
mod keep;
mod link;
mod mtu;
mod netns;
mod overlay;
mod peer_route;
mod peers;
mod route;
mod rule;
mod sysctl;
mod tunnel;
mod way;
mod ways;

pub use attached::{Owner, Owners, PodOptions, Pods};
pub use bandwidth::{Bandwidth, BandwidthError};
pub use foreign::{Attachment, ForeignPod, detach_offline};
pub use guard::Guarded;
pub use host_port::{HostPort, HostPorts, PodPorts};
pub use ipam::IpamError;
pub use link::LinkError;
pub use netns::{NetnsError, netns_cookie, tcp_socket};
pub use route::PROTOCOL as ROUTE_PROTOCOL;
pub use sysctl::SysctlError;
pub use tunnel::{TUNNEL_LINK, Vxlan};
pub use vetch_ebpf_common::Protocol;
pub use way::VxlanMode;
pub use ways::{PeerWay, ways};

use attached::{Attached, Sandbox};
use connect::Inside;
use ipam::{Ipam, Record, Wanted};
use link::{Link, Pair};
use mtu::PodMtu;
use netns::{Netlink, Netns};
use overlay::{Own, Told};

/// Whether a link of the node's is its end of a pod's, by the name.
pub fn is_pod_link(name: &str) -> bool {
    Pair::is_host_name(name)
}

/// What the node knows about itself before it has a pod CIDR.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    pub node_name: String,
    /// Addresses of the node's links, one of each family at most; other nodes
    /// reach its pods of that family there.
    pub node_ips: Vec<IpAddr>,
    /// Where the address records live; survives the daemon.
    pub state_dir: PathBuf,
    /// Of the pods' links; the one of the node's own link when absent.
    pub mtu: Option<u32>,
    /// By which way other nodes' pods are reached.
    pub vxlan: Vxlan,
}

/// The addresses of one sandbox, the primary one first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodAddresses {
    pub ips: Vec<IpAddr>,
}

/// Another node, as far as routes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub name: String,
    pub pod_cidrs: Vec<IpNet>,
    /// One of each family at most; the first is its identity.
    pub node_ips: Vec<IpAddr>,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(
        "no link of this node has the address {node_ip}: the node's address must be one of its own"
    )]
    NodeAddress { node_ip: IpAddr },
    #[error("the node has no address: its network needs one at least")]
    NoNodeAddress,
    #[error(
        "the veth pair of sandbox {sandbox_id} vanished while it was set up: its namespace ended"
    )]
    Vanished { sandbox_id: String },
    #[error("the network namespace {netns} is the node's own: it is nobody's pod", netns = netns.display())]
    OwnNamespace { netns: PathBuf },
    #[error("{netns} has a link {ifname} already, which is not of this network", netns = netns.display())]
    LinkTaken { netns: PathBuf, ifname: String },
    #[error(
        "{netns} has a default route already: this network gives a pod its main link, and no second one",
        netns = netns.display()
    )]
    DefaultRoute { netns: PathBuf },
    #[error("the kernel's announcements of addresses and links have ended")]
    Announcements,
    #[error(
        "the programs at the link of sandbox {sandbox_id} are not in their places, or do not know its \
         NetworkPolicies yet: without them it would be open to everybody. The service proxy's log says what \
         is missing"
    )]
    Unguarded { sandbox_id: String },
    #[error(transparent)]
    Ipam(#[from] IpamError),
    #[error(transparent)]
    Netns(#[from] NetnsError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
}

/// Cheap to clone; all clones are one network.
#[derive(Clone)]
pub struct Network {
    inner: Arc<Inner>,
}

struct Inner {
    state_dir: PathBuf,
    node_ips: Vec<IpAddr>,
    mtu: PodMtu,
    netns: Netns,
    netlink: Netlink,
    ipam: Arc<Mutex<Ipam>>,
    attached: Attached,
    guard: guard::Guard,
    /// To the other nodes.
    own: Own,
    told: tokio::sync::Mutex<Told>,
}

impl Network {
    pub async fn open(config: NetworkConfig) -> Result<Self, Error> {
        let netns = Netns::current()?;
        let netlink = netns.netlink()?;
        let mut uplinks = Vec::new();
        for node_ip in &config.node_ips {
            let node_ip = *node_ip;
            let uplink = link::owning(&netlink, node_ip).await?;
            uplinks.push((node_ip, uplink.ok_or(Error::NodeAddress { node_ip })?));
        }
        netns.run(|| sysctl::reserve_ports(SNAT_PORTS))??;
        let ipam = Ipam::open(&config.state_dir)?;
        let mode = config.vxlan.mode;
        let found = uplinks.iter();
        let found = found.map(|(node_ip, uplink)| mtu::of(uplink.mtu, mode, *node_ip));
        let found = found.min().ok_or(Error::NoNodeAddress)?;
        let mtu = PodMtu::new(config.mtu, found);
        let own_addresses = config.node_ips.clone();
        let inner = Inner {
            state_dir: config.state_dir,
            node_ips: config.node_ips,
            mtu,
            netns,
            netlink,
            ipam: Arc::new(Mutex::new(ipam)),
            attached: Attached::new(),
            guard: guard::Guard::default(),
            own: Own {
                addresses: own_addresses,
                vxlan: config.vxlan,
            },
            told: tokio::sync::Mutex::default(),
        };
        for (node_ip, uplink) in &uplinks {
            inner.forward_from(uplink, *node_ip)?;
        }
        let uplinks: Vec<&str> = uplinks.iter().map(|(_, link)| link.name.as_str()).collect();
        let mtu = inner.mtu.get();
        info!(node = config.node_name, ?uplinks, mtu, "pod network open");
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Takes the addresses of new sandboxes from `cidrs`.
    pub async fn set_pod_cidrs(&self, cidrs: &[IpNet]) -> Result<(), Error> {
        let cidrs = cidrs.to_vec();
        let told = cidrs.clone();
        self.inner.ipam(move |ipam| ipam.set_cidrs(&cidrs)).await;
        // Peers that cannot be routed to are none of its concern, and tried again anyhow.
        let routed = self.inner.tell(|all| all.pod_cidrs = Some(told)).await;
        if let Err(error) = routed {
            debug!(
                error = &error as &dyn std::error::Error,
                "not every peer is routed to"
            );
        }
        Ok(())
    }

    /// Whether new sandboxes get addresses, as long as there are some.
    pub async fn has_pod_cidrs(&self) -> bool {
        self.inner.ipam(|ipam| ipam.has_cidrs()).await
    }

    /// Routes the peers' pods via their nodes, over a link or in the tunnel, and
    /// forgets vanished peers. What could not be routed to is tried again by
    /// [`Network::keep`].
    pub async fn set_peers(&self, peers: &[Peer]) -> Result<(), Error> {
        let peers = peers.to_vec();
        self.inner.tell(|all| all.peers = Some(peers)).await?;
        Ok(())
    }

    /// Puts routes back that went with an address or a link, until the kernel's
    /// announcements end.
    pub async fn keep(&self) -> Result<Infallible, Error> {
        keep::run(&self.inner).await
    }

    /// Gives the sandbox an address and connects its namespace. Calling it
    /// again repairs what is missing and returns the same address. Host ports that another sandbox
    /// has are refused: who came first keeps them.
    pub async fn attach(
        &self,
        sandbox_id: &str,
        netns: &Path,
        options: PodOptions,
    ) -> Result<PodAddresses, Error> {
        let wanted = Wanted {
            options,
            ..Wanted::default()
        };
        self.attach_as(sandbox_id, netns, wanted).await
    }

    async fn attach_as(
        &self,
        sandbox_id: &str,
        netns: &Path,
        wanted: Wanted,
    ) -> Result<PodAddresses, Error> {
        // Where it is found later on.
        let place = match &wanted.foreign {
            Some(attachment) => attachment.place(),
            None => netns.to_owned(),
        };
        let options = wanted.options.clone();
        let pair = Pair::named(sandbox_id, wanted.ifname());
        let netns = Netns::open(netns)?;
        let id = sandbox_id.to_owned();
        let allocate = move |ipam: &mut Ipam| ipam.allocate(&id, wanted);
        let addresses = self.inner.ipam(allocate).await?;
        let pod = netns.netlink()?;
        let (host_link, pod_link) = self.inner.pair(sandbox_id, &pair, &netns, &pod).await?;
        // Before the first packet.
        self.inner
            .limit(&host_link, &pod_link, &pod, options.bandwidth)
            .await?;
        let inside = Inside {
            netns: &netns,
            netlink: &pod,
            link: &pod_link,
        };
        self.inner
            .connect(&pair, &host_link, &inside, &addresses.ips)
            .await?;
        debug!(sandbox_id, link = pair.host_name, addresses = ?addresses.ips, "attached");
        let sandbox = Sandbox {
            addresses: addresses.clone(),
            pod: describe(&host_link, &pod_link, pod.cookie(), &options),
            host_ports: options.host_ports,
            owner: options.owner,
        };
        self.inner.attached.insert(sandbox_id, sandbox);
        self.inner.mtu.attached(sandbox_id, place, pair.pod_name);
        self.inner
            .guard
            .wait(sandbox_id, &addresses.ips, host_link.index)
            .await?;
        Ok(addresses)
    }

    /// From now on attaching is done only when the programs at the pod's link know it
    /// and its policies: no process of it is there before. Once.
    pub fn set_guard(&self, guarded: watch::Receiver<Guarded>) {
        self.inner.guard.set(guarded);
    }

    /// Takes the link away, then frees the address.
    pub async fn detach(&self, sandbox_id: &str) -> Result<(), Error> {
        // First, so that nothing is sent to a link that is gone.
        self.inner.attached.remove(sandbox_id);
        self.inner.mtu.detached(sandbox_id);
        let name = Pair::of(sandbox_id).host_name;
        if let Some(link) = link::by_name(&self.inner.netlink, &name).await? {
            link::delete(&self.inner.netlink, &link).await?;
        }
        let id = sandbox_id.to_owned();
        self.inner.ipam(move |ipam| ipam.free(&id)).await?;
        debug!(sandbox_id, link = name, "detached");
        Ok(())
    }

    /// Of a sandbox that is attached; after a restart, once [`Network::retain`]
    /// has looked.
    pub async fn addresses(&self, sandbox_id: &str) -> Option<PodAddresses> {
        self.inner.attached.get(sandbox_id)
    }

    /// The attached pods, each time anew; `None` until [`Network::retain`] has
    /// found out what an earlier daemon attached.
    pub fn pods(&self) -> watch::Receiver<Option<Arc<Pods>>> {
        self.inner.attached.subscribe()
    }

    /// The ports of the node that lead to attached pods; `None` as for [`Network::pods`].
    pub fn host_ports(&self) -> watch::Receiver<Option<Arc<HostPorts>>> {
        self.inner.attached.host_ports()
    }

    /// Whose the attached pods are; `None` as for [`Network::pods`].
    pub fn owners(&self) -> watch::Receiver<Option<Arc<Owners>>> {
        self.inner.attached.owners()
    }

    /// For the start of the daemon, before it attaches anything new: frees what
    /// belongs to no sandbox in `live`, and finds out which of these are
    /// attached. The paths are of their network namespaces.
    /// Namespaces that are not the runtime's stay as they are.
    pub async fn retain(&self, live: &HashMap<String, Option<PathBuf>>) -> Result<(), Error> {
        let live = &self.with_foreign(live).await?;
        let recorded = self
            .inner
            .ipam(|ipam| ipam.sandboxes().cloned().collect::<Vec<_>>())
            .await;
        for sandbox_id in recorded.into_iter().filter(|id| !live.contains_key(id)) {
            warn!(sandbox_id, "freeing the address of a sandbox that is gone");
            self.detach(&sandbox_id).await?;
        }
        let names: HashSet<String> = live.keys().map(|id| Pair::of(id).host_name).collect();
        for link in link::list(&self.inner.netlink).await? {
            if link.is_veth && Pair::is_host_name(&link.name) && !names.contains(&link.name) {
                link::delete(&self.inner.netlink, &link).await?;
            }
        }
        self.adopt(live).await
    }

    async fn adopt(&self, live: &HashMap<String, Option<PathBuf>>) -> Result<(), Error> {
        let routed = route::pods(&self.inner.netlink).await?;
        let mut found = BTreeMap::new();
        for (sandbox_id, netns) in live {
            let id = sandbox_id.clone();
            let record = self.inner.ipam(move |ipam| ipam.get(&id).cloned()).await;
            let (Some(record), Some(netns)) = (record, netns) else {
                continue;
            };
            let ifname = record.ifname().to_owned();
            match self.inner.find(sandbox_id, netns, record, &routed).await {
                Ok(Some(sandbox)) => {
                    self.inner.mtu.attached(sandbox_id, netns.clone(), ifname);
                    found.insert(sandbox_id.clone(), sandbox);
                }
                Ok(None) => info!(sandbox_id, "not attached wholly by an earlier daemon"),
                Err(error) => warn!(
                    sandbox_id,
                    error = &error as &dyn std::error::Error,
                    "cannot tell whether the sandbox is attached: it is attached anew"
                ),
            }
        }
        self.inner.attached.adopt(found);
        Ok(())
    }
}

fn describe(host: &Link, pod: &Link, cookie: u64, options: &PodOptions) -> Pod {
    Pod {
        ifindex: host.index,
        flags: options.flags(),
        mac: pod.mac,
        gateway_mac: host.mac,
        ingress: 0,
        egress: 0,
        netns: cookie,
    }
}

/// Takes away every link, route and record of ours: for the end of a node, not
/// of a daemon. In the network namespace of the calling thread.
pub async fn remove_all(state_dir: &Path) -> Result<(), Error> {
    let netlink = Netns::current()?.netlink()?;
    for link in link::list(&netlink).await? {
        if link.is_veth && Pair::is_host_name(&link.name) {
            link::delete(&netlink, &link).await?;
        }
    }
    overlay::remove_all(&netlink).await?;
    Ok(ipam::remove_all(state_dir)?)
}

impl Inner {
    /// Of what the ways to the other nodes follow from; answers how much of them was
    /// missing.
    async fn tell(&self, news: impl FnOnce(&mut Told)) -> Result<usize, Error> {
        let mut told = self.told.lock().await;
        news(&mut told);
        overlay::reconcile(&self.netns, &self.netlink, &self.own, &told).await
    }

    /// Works on the address records, off the runtime: a sync waits for a disk.
    async fn ipam<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Ipam) -> T + Send + 'static,
    ) -> T {
        let ipam = self.ipam.clone();
        let work = move || job(&mut ipam.lock().unwrap_or_else(PoisonError::into_inner));
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            // The runtime is on its way down, and so is this task.
            Err(error) if error.is_cancelled() => std::future::pending().await,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// The two sides of the sandbox's pair, made if they are not there.
    async fn pair(
        &self,
        sandbox_id: &str,
        pair: &Pair,
        netns: &Netns,
        pod: &Netlink,
    ) -> Result<(Link, Link), Error> {
        if let Some(found) = self.existing_pair(pair, pod).await? {
            return Ok(found);
        }
        // A host side without its pod side leads to an earlier namespace.
        if let Some(stale) = link::by_name(&self.netlink, &pair.host_name).await? {
            link::delete(&self.netlink, &stale).await?;
        }
        link::create_pair(&self.netlink, pair, netns.file(), self.mtu.get()).await?;
        self.existing_pair(pair, pod)
            .await?
            .ok_or_else(|| Error::Vanished {
                sandbox_id: sandbox_id.to_owned(),
            })
    }

    async fn existing_pair(
        &self,
        pair: &Pair,
        pod: &Netlink,
    ) -> Result<Option<(Link, Link)>, Error> {
        let host_link = link::by_name(&self.netlink, &pair.host_name).await?;
        let pod_link = link::by_name(pod, &pair.pod_name).await?;
        Ok(host_link
            .zip(pod_link)
            .filter(|(host, pod)| host.peer == Some(pod.index) && pod.peer == Some(host.index)))
    }

    /// The sandbox as it is attached, by the last thing that attaching does: a
    /// route through its pair for each address.
    async fn find(
        &self,
        sandbox_id: &str,
        netns: &Path,
        record: Record,
        routed: &BTreeMap<IpAddr, u32>,
    ) -> Result<Option<Sandbox>, Error> {
        let pod = Netns::open(netns)?.netlink()?;
        let pair = Pair::named(sandbox_id, record.ifname());
        let Some((host_link, pod_link)) = self.existing_pair(&pair, &pod).await? else {
            return Ok(None);
        };
        let mut ips = record.addresses.ips.iter();
        if !ips.all(|ip| routed.get(ip) == Some(&host_link.index)) {
            return Ok(None);
        }
        let pod = describe(&host_link, &pod_link, pod.cookie(), &record.options);
        Ok(Some(Sandbox {
            addresses: record.addresses,
            pod,
            host_ports: record.options.host_ports,
            owner: record.options.owner,
        }))
    }

    async fn limit(
        &self,
        host: &Link,
        pod: &Link,
        inside: &Netlink,
        bandwidth: Bandwidth,
    ) -> Result<(), Error> {
        if let Some(bits) = bandwidth.ingress {
            bandwidth::limit(&self.netlink, host.index, bits, self.mtu.get()).await?;
        }
        if let Some(bits) = bandwidth.egress {
            bandwidth::limit(inside, pod.index, bits, self.mtu.get()).await?;
        }
        Ok(())
    }

    /// What arrives for pods of the family of `node_ip` goes on to them.
    fn forward_from(&self, uplink: &Link, node_ip: IpAddr) -> Result<(), Error> {
        Ok(self.netns.run(|| match node_ip {
            IpAddr::V4(_) => sysctl::forward_from(&uplink.name),
            IpAddr::V6(_) => sysctl::forward_ipv6_from(&uplink.name),
        })??)
    }
}
