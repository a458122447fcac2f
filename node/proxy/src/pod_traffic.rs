//! What pods have sent and received, as the kernel counts it at their own end of the
//! link.
//!
//! At the node's end it is not whole: what goes straight into a pod
//! (`bpf_redirect_peer`) never leaves by it. At the pod's end it is counted since Linux
//! 6.7 (and in stable releases that took the fix, "bpf: Fix dev's rx stats for
//! bpf_redirect_peer traffic"); before that nobody counts it, and what a pod receives
//! looks like less. Its own container cannot change the numbers but by making the link
//! anew. TCP's segments that the stack carries as one count as one packet.
//!
//! Nobody enters the pod's namespace: the kernel is asked about a link in another by the
//! number that the node's namespace has for that one (`IFLA_TARGET_NETNSID`, 4.16).

use std::{collections::BTreeMap, io, net::IpAddr};

use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkMessage},
};
use serde::Serialize;
use vetch_ebpf_common::Pod;

use crate::netlink::Netlink;

/// Since the pod's link was made; a link's frames, with their Ethernet headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodTraffic {
    pub received_bytes: u64,
    pub received_packets: u64,
    pub sent_bytes: u64,
    pub sent_packets: u64,
}

/// Of each of the pods' links, by the node's end. One that is gone meanwhile is left out.
pub fn read<'a>(
    netlink: &mut Netlink,
    pods: impl Iterator<Item = &'a Pod>,
) -> io::Result<BTreeMap<u32, PodTraffic>> {
    let mut traffic = BTreeMap::new();
    for pod in pods {
        if traffic.contains_key(&pod.ifindex) {
            continue;
        }
        if let Some(counted) = at_pods_end(netlink, pod.ifindex)? {
            traffic.insert(pod.ifindex, counted);
        }
    }
    Ok(traffic)
}

/// Each address of a pod with what its pod has sent and received.
pub fn by_address(
    pods: &BTreeMap<IpAddr, Pod>,
    links: &BTreeMap<u32, PodTraffic>,
) -> BTreeMap<IpAddr, PodTraffic> {
    let counted = |(ip, pod): (&IpAddr, &Pod)| Some((*ip, *links.get(&pod.ifindex)?));
    pods.iter().filter_map(counted).collect()
}

fn at_pods_end(netlink: &mut Netlink, ifindex: u32) -> io::Result<Option<PodTraffic>> {
    let Some(own) = link(netlink, ifindex, None)? else {
        return Ok(None);
    };
    let Some((peer, namespace)) = other_end(&own) else {
        return Ok(None);
    };
    Ok(link(netlink, peer, Some(namespace))?
        .as_ref()
        .and_then(counted))
}

fn link(
    netlink: &mut Netlink,
    ifindex: u32,
    namespace: Option<i32>,
) -> io::Result<Option<LinkMessage>> {
    let mut request = LinkMessage::default();
    request.header.index = ifindex;
    request
        .attributes
        .extend(namespace.map(LinkAttribute::IfNetnsId));
    match netlink.get(&RouteNetlinkMessage::GetLink(request)) {
        Ok(answers) => Ok(answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(message) => Some(message),
            _ => None,
        })),
        // It went with its pod; a namespace that is gone has no number.
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_gone(error: &io::Error) -> bool {
    let gone = [libc::ENODEV, libc::EINVAL];
    error
        .raw_os_error()
        .is_some_and(|errno| gone.contains(&errno))
}

/// Its ifindex, and the number of its namespace.
fn other_end(link: &LinkMessage) -> Option<(u32, i32)> {
    let (mut peer, mut namespace) = (None, None);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::Link(index) => peer = Some(*index),
            LinkAttribute::LinkNetNsId(number) => namespace = Some(*number),
            _ => {}
        }
    }
    Some((peer?, namespace.filter(|number| *number >= 0)?))
}

/// The pod's end receives what the pod receives.
fn counted(link: &LinkMessage) -> Option<PodTraffic> {
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Stats64(stats) => Some(PodTraffic {
                received_bytes: stats.rx_bytes,
                received_packets: stats.rx_packets,
                sent_bytes: stats.tx_bytes,
                sent_packets: stats.tx_packets,
            }),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::link::Stats64;

    use super::*;

    #[test]
    fn the_other_end_is_in_a_namespace_with_a_number() {
        let link = |attributes: Vec<LinkAttribute>| {
            let mut message = LinkMessage::default();
            message.attributes = attributes;
            message
        };
        for (attributes, end) in [
            (
                vec![LinkAttribute::Link(2), LinkAttribute::LinkNetNsId(7)],
                Some((2, 7)),
            ),
            // In the node's own, or in none that has a number.
            (vec![LinkAttribute::Link(2)], None),
            (
                vec![LinkAttribute::Link(2), LinkAttribute::LinkNetNsId(-1)],
                None,
            ),
            (vec![], None),
        ] {
            assert_eq!(other_end(&link(attributes)), end);
        }
        let mut stats = Stats64::default();
        (stats.rx_bytes, stats.rx_packets) = (100, 2);
        (stats.tx_bytes, stats.tx_packets) = (50, 1);
        let expected = PodTraffic {
            received_bytes: 100,
            received_packets: 2,
            sent_bytes: 50,
            sent_packets: 1,
        };
        let own = link(vec![LinkAttribute::Stats64(stats)]);
        assert_eq!(counted(&own), Some(expected));
        assert_eq!(counted(&link(vec![])), None);
    }
}
