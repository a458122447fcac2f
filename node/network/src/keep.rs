//! Keeps the routes of this node against what takes them away.
//!
//! With a node's address, as when the carrier of its link is lost under
//! networkd, the kernel takes every IPv4 route that has it as its source or
//! whose gateway it made reachable; with a link that is set down, every route
//! over it. It announces neither (`fib_table_flush`), and nobody but us brings
//! them back. An IPv6 route only loses its source with an address; what goes
//! with a link is announced, of pods that end as well.
//!
//! Input: announcements of addresses and links, of routes to the peers' nodes, and
//! of routes and rules of ours that somebody removed; a timer for whatever else
//! there is. Output: the routes to this node's pods and to the peers, the tunnel to
//! these, and forwarding from the links that have the node's addresses.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use futures::{FutureExt, StreamExt};
use ipnet::IpNet;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{LinkAttribute, LinkMessage},
    route::{RouteAddress, RouteAttribute, RouteMessage},
};
use rtnetlink::{MulticastGroup, packet_core::NetlinkPayload};
use tracing::{info, warn};

use crate::{
    Error, Inner, PodAddresses,
    link::{self, Link, Pair, gateway},
    mtu,
    overlay::Told,
    route::{self, Route},
    rule,
};

/// Changes come in crowds: an address goes, then its link's flags change.
const SETTLE: Duration = Duration::from_millis(100);
const TIMER: Duration = Duration::from_secs(30);
/// After a failure: what was missing may come without an announcement.
const RETRY: Duration = Duration::from_secs(5);

pub async fn run(inner: &Inner) -> Result<Infallible, Error> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv4Rule,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv6Route,
        MulticastGroup::Ipv6Rule,
    ];
    let (_open, mut announced) = inner.netns.announcements(&groups)?;
    let mut said = None;
    loop {
        let wait = match restore(inner).await {
            Ok(restored) => {
                if restored > 0 || said.take().is_some() {
                    info!(restored, "every route is there");
                }
                TIMER
            }
            Err(error) => {
                let text = chain(&error);
                if said.as_ref() != Some(&text) {
                    warn!(error = text, "not every route is there; trying again");
                    said = Some(text);
                }
                RETRY
            }
        };
        let timer = tokio::time::sleep(wait);
        tokio::pin!(timer);
        loop {
            tokio::select! {
                () = &mut timer => break,
                message = announced.next() => {
                    let (message, _) = message.ok_or(Error::Announcements)?;
                    let told = inner.told.lock().await;
                    if is_reason(&message.payload, &told, |link| inner.attached.has_link(link)) {
                        drop(told);
                        tokio::time::sleep(SETTLE).await;
                        while let Some(Some(_)) = announced.next().now_or_never() {}
                        break;
                    }
                }
            }
        }
    }
}

/// Whether a route of ours may be gone, possible again, or lead another way.
/// `is_attached` tells of a link whether it is a pod's that is not on its way out.
fn is_reason(
    payload: &NetlinkPayload<RouteNetlinkMessage>,
    told: &Told,
    is_attached: impl Fn(u32) -> bool,
) -> bool {
    match payload {
        NetlinkPayload::InnerMessage(message) => match message {
            RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address) => {
                !is_links(address)
            }
            RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) => {
                !is_pods(link)
            }
            RouteNetlinkMessage::NewRoute(route) => leads_to_peer(route, told),
            RouteNetlinkMessage::DelRoute(message) if route::is_ours(message) => {
                match route::parse(message.clone()) {
                    Some(route) if route.is_pods() => route.link.is_none_or(is_attached),
                    _ => true,
                }
            }
            RouteNetlinkMessage::DelRoute(route) => leads_to_peer(route, told),
            RouteNetlinkMessage::DelRule(rule) => rule::is_ours(rule),
            _ => false,
        },
        // Something was missed.
        NetlinkPayload::Overrun(_) => true,
        _ => false,
    }
}

/// Whether it is another's, and decides whether a router is before a peer.
fn leads_to_peer(route: &RouteMessage, told: &Told) -> bool {
    let destination = route.attributes.iter().find_map(|one| match one {
        RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        RouteAttribute::Destination(RouteAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        _ => None,
    });
    // A default route has none.
    let any = match route.header.address_family {
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => Ipv4Addr::UNSPECIFIED.into(),
    };
    let length = route.header.destination_prefix_length;
    let network = IpNet::new(destination.unwrap_or(any), length);
    !route::is_ours(route) && network.is_ok_and(|network| told.leads_to_peer(&network))
}

/// Pods' gateways and what the kernel gives each link: no route of ours has it as
/// its source.
fn is_links(message: &AddressMessage) -> bool {
    message.attributes.iter().any(|attribute| match attribute {
        AddressAttribute::Local(ip) | AddressAttribute::Address(ip) => match ip {
            IpAddr::V4(_) => *ip == gateway(*ip),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        },
        _ => false,
    })
}

/// Pods' links come and go all the time, with their routes.
fn is_pods(message: &LinkMessage) -> bool {
    message.attributes.iter().any(
        |attribute| matches!(attribute, LinkAttribute::IfName(name) if Pair::is_host_name(name)),
    )
}

/// Answers how many routes were missing. What cannot be put back keeps nothing
/// else from it.
async fn restore(inner: &Inner) -> Result<usize, Error> {
    let (mut sources, mut mtus) = (Vec::new(), Vec::new());
    for node_ip in &inner.node_ips {
        if let Some(uplink) = link::owning(&inner.netlink, *node_ip).await? {
            // A driver that was loaded anew has made a new link.
            inner.forward_from(&uplink, *node_ip)?;
            sources.push(*node_ip);
            mtus.push(mtu::of(uplink.mtu, inner.own.vxlan.mode, *node_ip));
        }
    }
    let records = inner.ipam(|ipam| ipam.addresses()).await;
    let links = link::list(&inner.netlink).await?;
    let present = route::list(&inner.netlink).await?;
    let mut restored = 0;
    let mut result = Ok(());
    if let Some(mtu) = mtus.into_iter().min() {
        result = inner.mtu.follow(mtu, &links, &inner.netlink).await;
    }
    for pod in missing(&records, &links, &present, &sources) {
        match inner.connect_host(&pod.pair, pod.link, pod.address).await {
            Ok(()) => restored += 1,
            // The pod ended meanwhile.
            Err(_)
                if link::by_name(&inner.netlink, &pod.link.name)
                    .await?
                    .is_none() => {}
            failed => result = result.and(failed),
        }
    }
    match inner.tell(|_| {}).await {
        Ok(new) => restored += new,
        Err(error) => result = result.and(Err(error)),
    }
    result.map(|()| restored)
}

#[derive(Debug, PartialEq, Eq)]
struct Missing<'a> {
    pair: Pair,
    link: &'a Link,
    address: IpAddr,
}

/// The pods that are not routed to from the one of `sources` that is of their
/// family. A link that is not there or not up is on its way in or out.
fn missing<'a>(
    records: &HashMap<String, PodAddresses>,
    links: &'a [Link],
    present: &[Route],
    sources: &[IpAddr],
) -> Vec<Missing<'a>> {
    let links: HashMap<&str, &Link> = links
        .iter()
        .filter(|link| link.is_up)
        .map(|link| (link.name.as_str(), link))
        .collect();
    let present: BTreeMap<_, _> = present
        .iter()
        .filter(|route| route.is_pods())
        .map(|route| (route.destination.addr(), (route.link, route.source)))
        .collect();
    let mut missing = Vec::new();
    for (sandbox_id, addresses) in records {
        let pair = Pair::of(sandbox_id);
        let Some(link) = links.get(pair.host_name.as_str()) else {
            continue;
        };
        for address in &addresses.ips {
            let mut sources = sources.iter().copied();
            let source = sources.find(|source| source.is_ipv4() == address.is_ipv4());
            if present.get(address) != Some(&(Some(link.index), source)) {
                missing.push(Missing {
                    pair: pair.clone(),
                    link,
                    address: *address,
                });
            }
        }
    }
    missing
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::{
        route::RouteProtocol,
        rule::{RuleAttribute, RuleMessage},
    };

    use super::*;

    /// A node's addresses, and a pod's.
    const NODE: [&str; 2] = ["172.30.0.11", "fd00::11"];
    const POD: [&str; 2] = ["10.244.1.2", "fd00:1::2"];

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn link(sandbox_id: &str, index: u32, is_up: bool) -> Link {
        Link {
            index,
            name: Pair::of(sandbox_id).host_name,
            mtu: 1500,
            peer: Some(2),
            is_veth: true,
            mac: [0; 6],
            is_up,
        }
    }

    #[test]
    fn a_pod_is_missing_without_its_route_from_the_nodes_address() {
        for (node, pod) in NODE.map(ip).into_iter().zip(POD.map(ip)) {
            let records = HashMap::from([("a".to_owned(), PodAddresses { ips: vec![pod] })]);
            let route = |link, source| route::parse(route::to_pod(pod, link, source)).unwrap();
            let node = Some(node);
            // (its link, its route, the node's address, missing)
            let cases = [
                (link("a", 7, true), Some(route(7, node)), node, false),
                (link("a", 7, true), None, node, true),
                // The address went, and the route with it; then the way round.
                (link("a", 7, true), None, None, true),
                (link("a", 7, true), Some(route(7, None)), None, false),
                (link("a", 7, true), Some(route(7, None)), node, true),
                // To the link of an earlier sandbox.
                (link("a", 7, true), Some(route(6, node)), node, true),
                // On its way in or out.
                (link("a", 7, false), None, node, false),
                (link("b", 7, true), None, node, false),
            ];
            for (link, route, source, expected) in cases {
                let links = [link];
                let present: Vec<Route> = route.into_iter().collect();
                let sources: Vec<IpAddr> = source.into_iter().collect();
                let found = missing(&records, &links, &present, &sources);
                assert_eq!(
                    !found.is_empty(),
                    expected,
                    "{links:?} {present:?} {source:?}"
                );
            }
        }
    }

    #[test]
    fn each_address_of_a_pod_has_the_route_of_its_family() {
        let ips = POD.map(ip).to_vec();
        let records = HashMap::from([("a".to_owned(), PodAddresses { ips: ips.clone() })]);
        let route =
            |pod, source: IpAddr| route::parse(route::to_pod(pod, 7, Some(source))).unwrap();
        let links = [link("a", 7, true)];
        let sources = NODE.map(ip);
        let all = [route(ips[0], sources[0]), route(ips[1], sources[1])];
        let found = |present: &[Route]| -> Vec<IpAddr> {
            let missing = missing(&records, &links, present, &sources);
            missing.iter().map(|missing| missing.address).collect()
        };
        assert_eq!(found(&all), [] as [IpAddr; 0]);
        assert_eq!(found(&all[..1]), ips[1..]);
        assert_eq!(found(&all[1..]), ips[..1]);
        assert_eq!(found(&[]), ips);
    }

    #[test]
    fn what_pods_bring_about_is_no_reason_to_look() {
        let inner = NetlinkPayload::InnerMessage;
        let local = |text: &str| {
            let mut message = AddressMessage::default();
            message.attributes.push(AddressAttribute::Local(ip(text)));
            message
        };
        let address = |text: &str| {
            let mut message = AddressMessage::default();
            message.attributes.push(AddressAttribute::Address(ip(text)));
            message
        };
        let named = |name: &str| {
            let mut message = LinkMessage::default();
            message.attributes.push(LinkAttribute::IfName(name.into()));
            message
        };
        let pods = Pair::of("a").host_name;
        let [v4, v6] = POD.map(|pod| move |link| route::to_pod(ip(pod), link, None));
        let told = Told {
            peers: Some(vec![crate::Peer {
                name: "far".into(),
                pod_cidrs: Vec::new(),
                node_ips: vec![ip("10.1.0.2"), ip("fd01::2")],
            }]),
            pod_cidrs: None,
        };
        let others = |to: &str, length| {
            let mut route = route::to_pod(ip(to), 2, None);
            route.header.destination_prefix_length = length;
            route.header.protocol = RouteProtocol::Static;
            route
        };
        let to_peer = others("10.1.0.0", 16);
        let mut default = others("0.0.0.0", 0);
        default.attributes.clear();
        let mut rule = RuleMessage::default();
        let cases = [
            (inner(RouteNetlinkMessage::DelAddress(local(NODE[0]))), true),
            (inner(RouteNetlinkMessage::NewAddress(local(NODE[0]))), true),
            (
                inner(RouteNetlinkMessage::NewAddress(address(NODE[1]))),
                true,
            ),
            (
                inner(RouteNetlinkMessage::NewAddress(local("169.254.1.1"))),
                false,
            ),
            (
                inner(RouteNetlinkMessage::NewAddress(address("fe80::1"))),
                false,
            ),
            (inner(RouteNetlinkMessage::NewLink(named("eth0"))), true),
            (inner(RouteNetlinkMessage::NewLink(named(&pods))), false),
            (inner(RouteNetlinkMessage::DelLink(named(&pods))), false),
            (inner(RouteNetlinkMessage::DelRoute(v4(7))), true),
            (inner(RouteNetlinkMessage::DelRoute(v6(7))), true),
            // Its link was deleted.
            (inner(RouteNetlinkMessage::DelRoute(v6(8))), false),
            (inner(RouteNetlinkMessage::NewRoute(v4(7))), false),
            (inner(RouteNetlinkMessage::NewRoute(to_peer.clone())), true),
            (inner(RouteNetlinkMessage::DelRoute(to_peer)), true),
            (
                inner(RouteNetlinkMessage::NewRoute(others("fd01::", 64))),
                true,
            ),
            (inner(RouteNetlinkMessage::NewRoute(default)), true),
            (
                inner(RouteNetlinkMessage::NewRoute(others("10.2.0.0", 16))),
                false,
            ),
            (inner(RouteNetlinkMessage::DelRule(rule.clone())), false),
            (
                {
                    let ours = RuleAttribute::Protocol(route::PROTOCOL);
                    rule.attributes.push(ours);
                    inner(RouteNetlinkMessage::DelRule(rule))
                },
                true,
            ),
            (NetlinkPayload::Overrun(Vec::new()), true),
        ];
        for (payload, expected) in cases {
            let found = is_reason(&payload, &told, |link| link == 7);
            assert_eq!(found, expected, "{payload:?}");
        }
    }
}
