//! The cables: a bridge in a namespace of its own joins the nodes and the machine.
//!
//! ```text
//! machine  vetchN ── machine ┐
//! node-1   eth0   ── node-1  ├ br0   in the hub's namespace
//! node-2   eth0   ── node-2  ┘
//! ```
//! All have an IPv4 address, and one of IPv6 where the cluster has that.
//! With several links (`--subnets`) there is a bridge for each, `br1` and so on. The hub routes
//! between them, and knows no pods.
//!
//! The machine routes all pods to the first node, which knows the others' pods, and is itself what
//! is outside: pods reach it as their node. Nodes have no default route: a packet for elsewhere is
//! refused at once instead of lost on a machine that does not forward.

use std::fs::{self, File};
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use ipnet::{IpNet, Ipv4Net};
use nix::sched::{CloneFlags, setns};

use crate::cluster::{Cluster, Name};
use crate::netlink::{Link, Netlink, block_on};
use crate::plan::families;
use crate::state::State;

const HUB_PORT: &str = "machine";
/// The node's link.
const UPLINK: &str = "eth0";
const LOOPBACK: &str = "lo";
const ALIAS: &str = "vetch cluster ";

/// Marks the machine's link, so that `down` finds it when the state is lost.
pub fn alias(name: &Name) -> String {
    format!("{ALIAS}{name}")
}

/// The cluster whose link this is, by its alias.
pub fn owner(link: &Link) -> Option<&str> {
    link.alias.strip_prefix(ALIAS)
}

/// Makes what is missing.
pub fn ensure(cluster: &Cluster, state: &State) -> Result<()> {
    block_on(async {
        let hub_file = open(&cluster.paths.hub_netns())?;
        let hub = Netlink::inside(&cluster.paths.hub_netns())?;
        up(&hub, LOOPBACK).await?;
        let segments = state.segments();
        let mut bridges = Vec::new();
        for segment in 0..segments.count() {
            let name = format!("br{segment}");
            if hub.link(&name).await?.is_none() {
                hub.add_bridge(&name).await?;
            }
            let bridge = up(&hub, &name).await?;
            if let Some(router) = segments.router(segment) {
                let own = router.into();
                let v6 = families::router_v6(state, segment).map(IpAddr::V6);
                give(&hub, &bridge, state, own, v6.into_iter().collect()).await?;
            }
            bridges.push(bridge.index);
        }
        if segments.count() > 1 {
            forward(&hub_file)?;
        }

        let machine = Netlink::machine()?;
        let cable = Cable {
            near: &machine,
            near_name: &state.link,
            far: &hub,
            far_name: HUB_PORT,
            far_file: &hub_file,
        };
        let (link, port) = cable.ensure().await?;
        machine.set_alias(link.index, &alias(&cluster.name)).await?;
        hub.set_controller(port.index, bridges[0]).await?;
        let own = segments.machine_address().into();
        give(&machine, &link, state, own, families::machine_ips(state)).await?;
        lead(&machine, state, 0).await?;

        for (number, name) in (1..).zip(state.node_names()) {
            let netns = cluster.paths.node(&name).namespace("net");
            let node_file = open(&netns)?;
            let node = Netlink::inside(&netns)?;
            up(&node, LOOPBACK).await?;
            let cable = Cable {
                near: &hub,
                near_name: &name,
                far: &node,
                far_name: UPLINK,
                far_file: &node_file,
            };
            let (port, link) = cable.ensure().await?;
            let segment = segments.of_node(number);
            hub.set_controller(port.index, bridges[segment as usize])
                .await?;
            let own = state.node_address(number).into();
            let ips = families::node_ips(state, number);
            give(&node, &link, state, own, ips).await?;
            lead(&node, state, segment).await?;
        }
        for (cidr, via) in families::pod_cidrs(state)
            .into_iter()
            .zip(families::node_ips(state, 1))
        {
            machine.add_route(cidr, via).await?;
        }
        Ok(())
    })
}

/// Sets the link up with its address of IPv4, which the way to the API server needs, and those that
/// the cluster knows.
async fn give(
    netlink: &Netlink,
    link: &Link,
    state: &State,
    own: IpAddr,
    known: Vec<IpAddr>,
) -> Result<()> {
    netlink.set_up(link.index).await?;
    for ip in known.into_iter().chain([own]) {
        let prefix = match ip {
            IpAddr::V4(_) => state.segments().network(0).prefix_len(),
            IpAddr::V6(_) => families::subnet_v6(state, 0).prefix_len(),
        };
        netlink.add_address(link.index, ip, prefix).await?;
    }
    Ok(())
}

/// To the other links, by the router where there is one.
async fn lead(netlink: &Netlink, state: &State, segment: u32) -> Result<()> {
    let segments = state.segments();
    if let Some(router) = segments.router(segment) {
        netlink
            .add_route(state.subnet.into(), router.into())
            .await?;
    }
    if let Some(router) = families::router_v6(state, segment) {
        for other in (0..segments.count()).filter(|other| *other != segment) {
            let to = families::subnet_v6(state, other).into();
            netlink.add_route(to, router.into()).await?;
        }
    }
    Ok(())
}

/// Whether links that come to the machine may have IPv6 addresses.
pub fn has_ipv6() -> bool {
    let off = fs::read_to_string("/proc/sys/net/ipv6/conf/default/disable_ipv6");
    off.is_ok_and(|off| off.trim() == "0")
}

/// Unplugs a node that is no longer wanted.
pub fn remove_node(cluster: &Cluster, name: &str) -> Result<()> {
    block_on(async {
        let hub = Netlink::inside(&cluster.paths.hub_netns())?;
        match hub.link(name).await? {
            Some(port) => hub.delete(&port).await,
            None => Ok(()),
        }
    })
}

/// Takes the machine's link away, and its routes with it. `link` is what the state remembers: the
/// alias is missing where `up` was killed in between.
pub fn remove(name: &Name, link: Option<&str>) -> Result<()> {
    block_on(async {
        let machine = Netlink::machine()?;
        for found in machine.links().await? {
            let remembered =
                Some(found.name.as_str()) == link && found.alias.is_empty() && found.kind == "veth";
            if owner(&found) == Some(name.as_str()) || remembered {
                machine.delete(&found).await?;
            }
        }
        Ok(())
    })
}

/// What the machine has in use, but for this cluster's own.
#[derive(Debug)]
pub struct Used {
    pub networks: Vec<Ipv4Net>,
    pub links: Vec<String>,
}

pub fn used(name: &Name) -> Result<Used> {
    block_on(async {
        let machine = Netlink::machine()?;
        let links = machine.links().await?;
        let own = links
            .iter()
            .find(|link| owner(link) == Some(name.as_str()))
            .map(|link| link.index);
        let routes = machine.routes().await?;
        let networks = routes
            .iter()
            .filter(|route| route.link.is_none() || route.link != own)
            .filter_map(|route| match route.destination {
                // The default route is in nobody's way.
                Some(IpNet::V4(network)) if network.prefix_len() > 0 => Some(network),
                _ => None,
            })
            .collect();
        let links = links
            .into_iter()
            .filter(|link| Some(link.index) != own)
            .map(|link| link.name)
            .collect();
        Ok(Used { networks, links })
    })
}

struct Cable<'a> {
    near: &'a Netlink,
    near_name: &'a str,
    far: &'a Netlink,
    far_name: &'a str,
    far_file: &'a File,
}

impl Cable<'_> {
    /// Both sides, made if they are not there or lead elsewhere.
    async fn ensure(&self) -> Result<(Link, Link)> {
        let (near, far) = self.sides().await?;
        if let (Some(near), Some(far)) = (&near, &far)
            && near.peer == Some(far.index)
            && far.peer == Some(near.index)
        {
            return Ok((near.clone(), far.clone()));
        }
        for (netlink, side) in [(self.near, near), (self.far, far)] {
            if let Some(side) = side {
                netlink.delete(&side).await?;
            }
        }
        self.near
            .add_pair(self.near_name, self.far_file, self.far_name)
            .await?;
        let (near, far) = self.sides().await?;
        near.zip(far)
            .with_context(|| format!("the link {} vanished while it was set up", self.near_name))
    }

    async fn sides(&self) -> Result<(Option<Link>, Option<Link>)> {
        Ok((
            self.near.link(self.near_name).await?,
            self.far.link(self.far_name).await?,
        ))
    }
}

async fn up(netlink: &Netlink, name: &str) -> Result<Link> {
    let link = netlink
        .link(name)
        .await?
        .with_context(|| format!("there is no link {name}"))?;
    netlink.set_up(link.index).await?;
    Ok(link)
}

/// The hub sends on what is for another link; also what has a source that it knows no way to, as pods
/// have.
fn forward(hub: &File) -> Result<()> {
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            setns(hub, CloneFlags::CLONE_NEWNET).context("enter the hub's namespace")?;
            for (path, value) in [("ip_forward", "1"), ("conf/all/rp_filter", "0")] {
                let path = Path::new("/proc/sys/net/ipv4").join(path);
                fs::write(&path, value).with_context(|| format!("write {}", path.display()))?;
            }
            for link in fs::read_dir("/proc/sys/net/ipv4/conf")? {
                let path = link?.path().join("rp_filter");
                fs::write(&path, "0").with_context(|| format!("write {}", path.display()))?;
            }
            let v6 = Path::new("/proc/sys/net/ipv6/conf/all/forwarding");
            if v6.exists() {
                fs::write(v6, "1").with_context(|| format!("write {}", v6.display()))?;
            }
            Ok(())
        });
        inside
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn open(netns: &Path) -> Result<File> {
    File::open(netns).with_context(|| format!("open {}", netns.display()))
}
