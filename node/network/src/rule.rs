//! Rules by which this node's pods, and nobody else of it, are routed by a table of
//! their own before the main one ([`PODS`]): one for each range that they have
//! addresses of.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use futures::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::IpVersion;

use crate::{
    link::{LinkError, failed, is_errno},
    netns::Netlink,
    peers::PODS,
    route::PROTOCOL,
};

/// Behind the kernel's rule for the node's own addresses (0), before the main
/// table's (32766), with room on both sides for those of others.
const PRIORITY: u32 = 8600;

/// Makes the rules those for `ranges`; answers how many were new.
pub async fn reconcile(netlink: &Netlink, ranges: &BTreeSet<IpNet>) -> Result<usize, LinkError> {
    let mut new = 0;
    let mut result = Ok(());
    for version in [IpVersion::V4, IpVersion::V6] {
        let v4 = version == IpVersion::V4;
        let present = list(netlink, version).await?;
        for range in ranges.iter().filter(|range| range.addr().is_ipv4() == v4) {
            if present.iter().any(|(present, _)| present == range) {
                continue;
            }
            let added = add(netlink, *range).await;
            new += usize::from(added.is_ok());
            result = result.and(added);
        }
        for (range, message) in present {
            if !ranges.contains(&range) {
                result = result.and(delete(netlink, range, message).await);
            }
        }
    }
    result.map(|()| new)
}

async fn list(
    netlink: &Netlink,
    version: IpVersion,
) -> Result<Vec<(IpNet, RuleMessage)>, LinkError> {
    let _dump = netlink.dump().await;
    let mut rules = netlink.rule().get(version).execute();
    let mut ours = Vec::new();
    while let Some(message) = rules.try_next().await.map_err(failed("list rules"))? {
        if is_ours(&message)
            && let Some(range) = range(&message)
        {
            ours.push((range, message));
        }
    }
    Ok(ours)
}

pub fn is_ours(message: &RuleMessage) -> bool {
    message
        .attributes
        .contains(&RuleAttribute::Protocol(PROTOCOL))
}

fn range(message: &RuleMessage) -> Option<IpNet> {
    let source = message.attributes.iter().find_map(|one| match one {
        RuleAttribute::Source(ip) => Some(*ip),
        _ => None,
    });
    // A kernel that leaves zeros out means all of them.
    let source = source.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    IpNet::new(source, message.header.src_len).ok()
}

async fn add(netlink: &Netlink, range: IpNet) -> Result<(), LinkError> {
    let request = netlink
        .rule()
        .add()
        .table_id(PODS.into())
        .priority(PRIORITY)
        .action(RuleAction::ToTable);
    let (network, length) = (range.network(), range.prefix_len());
    let added = match network {
        IpAddr::V4(network) => {
            let mut request = request.v4().source_prefix(network, length);
            mark(request.message_mut());
            request.execute().await
        }
        IpAddr::V6(network) => {
            let mut request = request.v6().source_prefix(network, length);
            mark(request.message_mut());
            request.execute().await
        }
    };
    match added {
        Err(error) if is_errno(&error, nix::Error::EEXIST as i32) => Ok(()),
        added => added.map_err(failed(format!("add the rule for packets from {range}"))),
    }
}

fn mark(message: &mut RuleMessage) {
    message.attributes.push(RuleAttribute::Protocol(PROTOCOL));
}

async fn delete(netlink: &Netlink, range: IpNet, message: RuleMessage) -> Result<(), LinkError> {
    match netlink.rule().del(message).execute().await {
        Err(error) if is_errno(&error, nix::Error::ENOENT as i32) => Ok(()),
        removed => removed.map_err(failed(format!("remove the rule for packets from {range}"))),
    }
}
