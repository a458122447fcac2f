//! Which rules let it pass, by the programs' own function.

use std::net::IpAddr;

use vetch_ebpf_common::{
    Address, Pod, PolicyType, Reason, RuleSet, addresses,
    policy::{End, permits},
};

use super::{
    Snapshot,
    journey::{Packet, Refusal},
};
use crate::inspect::policies::{letting, most_specific};

/// As `policy` of the programs does at the sender's link, or where a packet enters (no
/// sender). What each end says, in words.
pub fn judge(
    maps: &Snapshot,
    sender: Option<&Pod>,
    protocol: u8,
    packet: &Packet,
) -> Result<Vec<String>, Refusal> {
    if !maps.policies {
        return Ok(Vec::new());
    }
    let (src, dst) = (packet.src, packet.dst.ip());
    let receiver = maps.pods.get(&dst);
    if let (Some(sender), Some(receiver)) = (sender, receiver)
        && sender.ifindex == receiver.ifindex
    {
        return Ok(vec!["a pod and itself: no policy has a say".to_owned()]);
    }
    let is_held = |pod: &&Pod| pod.is_held();
    let sender = sender.filter(is_held);
    if sender.is_some() && receiver.is_none() && maps.is(dst, addresses::NODE) {
        return Ok(vec![
            "a pod and its own node: no policy has a say".to_owned(),
        ]);
    }
    let receiver = receiver.filter(is_held);
    let pending = |pod: &Pod| pod.flags & Pod::POLICY_PENDING != 0;
    if sender.is_some_and(pending) || receiver.is_some_and(pending) {
        return Err(Refusal {
            reason: Reason::PolicyPending,
            why: "it is not known yet which policies select the pod".to_owned(),
        });
    }
    let port = packet.dst.port().to_be_bytes();
    let mut said = Vec::new();
    for (end, pod, peer) in [
        (End::Initiator, sender, dst),
        (End::Responder, receiver, src),
    ] {
        let Some(pod) = pod else {
            continue;
        };
        said.extend(lets(maps, end, pod, peer, protocol, port)?);
    }
    Ok(said)
}

/// What is received where it comes out of the node's stack, without the sender's end.
pub fn arrives(maps: &Snapshot, protocol: u8, packet: &Packet) -> Result<Vec<String>, Refusal> {
    judge(maps, None, protocol, packet)
}

fn lets(
    maps: &Snapshot,
    end: End,
    pod: &Pod,
    peer: IpAddr,
    protocol: u8,
    port: [u8; 2],
) -> Result<Option<String>, Refusal> {
    let (number, whose, way, reason) = match end.policy() {
        PolicyType::Egress => (pod.egress, "egress", "to", Reason::PolicyEgress),
        PolicyType::Ingress => (pod.ingress, "ingress", "from", Reason::PolicyIngress),
    };
    let Some(set) = RuleSet::new(end.policy(), number) else {
        return Ok(Some(format!("{whose}: no policy isolates the pod")));
    };
    let lets = permits(&maps.rules, set, &Address::from(peer), protocol, port);
    // The names of rules, where administrators' have a say and the daemon has written them.
    let words = maps.words.set(end.policy(), number).and_then(|words| {
        let peer = most_specific(&maps.rules, peer);
        words.why(peer, protocol, u16::from_be_bytes(port))
    });
    let by = words.filter(|words| words.lets == lets);
    let by = by.map(|words| format!(", by {}", words.by));
    if !lets {
        let why = match by {
            Some(by) => format!("{whose}: set {number} does not let it {way} {peer}{by}"),
            None => format!("{whose}: no rule of set {number} lets it {way} {peer}"),
        };
        return Err(Refusal { reason, why });
    }
    let by = by.unwrap_or_else(|| {
        let rule = letting(&maps.rules, set, peer, protocol, port);
        rule.map_or_else(String::new, |rule| format!(" ({rule})"))
    });
    Ok(Some(format!(
        "{whose}: set {number} lets it {way} {peer}{by}"
    )))
}
