//! An address of a sandbox, from both ends of its pair.

use std::net::IpAddr;

use crate::{
    Error, Inner,
    link::{self, Link, Pair},
    netns::{Netlink, Netns},
    route, sysctl,
};

/// The sandbox's end.
pub struct Inside<'a> {
    pub netns: &'a Netns,
    pub netlink: &'a Netlink,
    pub link: &'a Link,
}

impl Inner {
    /// Inside first: what arrives finds somebody there.
    pub async fn connect(
        &self,
        pair: &Pair,
        host_link: &Link,
        pod: &Inside<'_>,
        addresses: &[IpAddr],
    ) -> Result<(), Error> {
        const LOOPBACK: u32 = 1;
        let index = pod.link.index;
        // Before the link is up, which is when the kernel acts by it.
        if addresses.iter().any(IpAddr::is_ipv6) {
            pod.netns.run(|| sysctl::quiet_ipv6(&pair.pod_name))??;
        }
        link::set_up(pod.netlink, LOOPBACK, None).await?;
        for address in addresses {
            link::add_address(pod.netlink, index, *address).await?;
        }
        link::set_up(pod.netlink, index, Some(self.mtu.get())).await?;
        for address in addresses {
            let gateway = link::gateway(*address);
            link::add_neighbour(pod.netlink, index, gateway, pair.host_mac).await?;
            route::add_pod_default(pod.netlink, index, gateway).await?;
        }
        for address in addresses {
            self.connect_host(pair, host_link, *address).await?;
        }
        Ok(())
    }

    /// The node's side of a pair.
    pub async fn connect_host(
        &self,
        pair: &Pair,
        link: &Link,
        address: IpAddr,
    ) -> Result<(), Error> {
        self.netns.run(|| match address {
            IpAddr::V4(_) => {
                sysctl::refuse_routers(&link.name)?;
                sysctl::forward_from(&link.name)?;
                sysctl::check_source(&link.name)
            }
            // Whose source is checked by the program at the link.
            IpAddr::V6(_) => {
                sysctl::without_link_local(&link.name)?;
                sysctl::quiet_ipv6(&link.name)?;
                sysctl::forward_ipv6_from(&link.name)
            }
        })??;
        link::set_up(&self.netlink, link.index, Some(self.mtu.get())).await?;
        link::add_neighbour(&self.netlink, link.index, address, pair.pod_mac).await?;
        // The node talks to its pods with the address others know it by. The
        // kernel refuses one that the node has not got, as while its cable is
        // out: then it is the pods' gateway, and their probes go on.
        if let Some(node_ip) = self.node_ip(address) {
            match route::add_pod(&self.netlink, link.index, address, Some(node_ip)).await {
                Err(error) if error.is(nix::Error::EINVAL) => {}
                result => return Ok(result?),
            }
        }
        link::add_address(&self.netlink, link.index, link::gateway(address)).await?;
        Ok(route::add_pod(&self.netlink, link.index, address, None).await?)
    }

    /// The node's own of the family of `address`.
    pub fn node_ip(&self, address: IpAddr) -> Option<IpAddr> {
        let mut own = self.node_ips.iter().copied();
        own.find(|ip| ip.is_ipv4() == address.is_ipv4())
    }
}
