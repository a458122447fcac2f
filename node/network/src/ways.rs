//! The ways to other nodes' pods, read from the kernel for people and their tools.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use serde::Serialize;

use crate::{
    Error, link,
    netns::Netns,
    peer_route::{self, PeerRoute},
    peers::{Hop, MAIN},
};

/// How one range of another node's pods is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerWay {
    pub pods: IpNet,
    /// Of their node.
    pub node: IpAddr,
    /// `direct` or `vxlan`.
    pub way: &'static str,
    /// That packets leave by.
    pub link: Option<String>,
    /// The longest packet.
    pub mtu: Option<u32>,
}

/// Of the network namespace of the calling thread, whether a daemon runs or not.
pub async fn ways() -> Result<Vec<PeerWay>, Error> {
    let netlink = Netns::current()?.netlink()?;
    let links = link::list(&netlink).await?.into_iter();
    let links = links
        .map(|link| (link.index, (link.name, link.mtu)))
        .collect();
    let routes = peer_route::list(&netlink).await?;
    Ok(routes
        .values()
        .filter_map(|route| way(route, &links))
        .collect())
}

fn way(route: &PeerRoute, links: &BTreeMap<u32, (String, u32)>) -> Option<PeerWay> {
    let (table, pods) = route.key;
    let (node, way) = match route.hop {
        Hop::Direct(node) => (node, "direct"),
        Hop::Tunnel(encap) => (encap.to, "vxlan"),
    };
    let link = route.link.and_then(|index| links.get(&index));
    (table == MAIN).then(|| PeerWay {
        pods,
        node,
        way,
        link: link.map(|(name, _)| name.clone()),
        mtu: link.map(|(_, mtu)| *mtu),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::{Encap, PODS};

    #[test]
    fn routes_to_pods_are_ways_and_those_of_pods_are_not() {
        let links = [(2, "eth0", 1500), (7, "vetch.vxlan", 1450)];
        let links = links.map(|(index, name, mtu)| (index, (name.to_owned(), mtu)));
        let links: BTreeMap<_, _> = links.into();
        let far: IpAddr = "10.1.0.2".parse().unwrap();
        let tunnel = Hop::Tunnel(Encap {
            gateway: far,
            vni: 86,
            from: "172.30.0.2".parse().unwrap(),
            to: far,
        });
        let pods: IpNet = "10.244.2.0/24".parse().unwrap();
        let near: IpAddr = "172.30.0.3".parse().unwrap();
        let read = |table, to: IpNet, hop: &Hop, index| {
            let message = peer_route::message((table, to), hop, Some(index), None);
            let mut route = peer_route::parse(message).unwrap();
            route.link = Some(index);
            way(&route, &links).map(|way| {
                format!(
                    "{} {} {} {:?} {:?}",
                    way.pods, way.node, way.way, way.link, way.mtu
                )
            })
        };
        assert_eq!(
            read(MAIN, pods, &tunnel, 7).as_deref(),
            Some("10.244.2.0/24 10.1.0.2 vxlan Some(\"vetch.vxlan\") Some(1450)")
        );
        assert_eq!(
            read(MAIN, pods, &Hop::Direct(near), 2).as_deref(),
            Some("10.244.2.0/24 172.30.0.3 direct Some(\"eth0\") Some(1500)")
        );
        assert_eq!(read(PODS, far.into(), &tunnel, 7), None);
    }
}
