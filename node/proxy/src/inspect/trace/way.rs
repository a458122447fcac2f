//! Where it goes: as `forward` of the programs sends it, and what the stack does then.

use std::net::IpAddr;

use vetch_ebpf_common::{PeerPods, Pod};

use super::{
    Question, Route, Snapshot,
    journey::{Journey, Packet, Sender, Way},
    policy,
};
use crate::hooks::Program;

/// Into a pod of this node, whose policies were asked.
pub fn into(maps: &Snapshot, own: Journey, sender: &Sender<'_>, to: &Pod) -> Way {
    let link = maps.link(to.ifindex);
    let by_stack = |pod: &Pod| pod.flags & Pod::BY_STACK != 0;
    let asked_for = match sender {
        Sender::Pod(pod) => by_stack(pod) || by_stack(to),
        Sender::Node | Sender::Uplink | Sender::Tunnel => by_stack(to),
    };
    if asked_for {
        return own
            .hop("stack", "a pod asks for the stack (vetch.dev/redirect)")
            .delivered("to_pod", format!("to the pod behind {link}"));
    }
    let queued = to.flags & Pod::SHAPED != 0 || matches!(sender, Sender::Node);
    let hook = match sender {
        Sender::Node => "to_net",
        _ => sender.hook(),
    };
    if queued {
        return own.delivered(
            hook,
            format!("through the egress of {link}, into the pod (bpf_redirect)"),
        );
    }
    own.delivered(
        hook,
        format!("past the stack, straight into the pod behind {link} (bpf_redirect_peer)"),
    )
}

/// To a pod of another node, past the stack.
pub fn to_peer(maps: &Snapshot, own: Journey, hook: &'static str, peer: &PeerPods) -> Way {
    let how = if peer.are_in_tunnel() {
        "in VXLAN"
    } else {
        "directly"
    };
    let link = maps.link(peer.link);
    own.leaves(
        hook,
        format!("a pod of another node: {how}, past the stack, by {link} (bpf_redirect_neigh)"),
    )
}

/// As the routes have it.
pub fn by_stack(
    maps: &Snapshot,
    own: Journey,
    sender: &Sender<'_>,
    asked: &Question,
    packet: Packet,
) -> Way {
    let to = packet.dst.ip();
    let route = maps.routes.get(&to).copied().unwrap_or(Route::None);
    let (link, gateway) = match route {
        Route::Local => {
            return own.delivered("stack", format!("{to} is the node's own: to its processes"));
        }
        Route::None => return own.unreachable(format!("the routes have none to {to}")),
        Route::By { link, gateway } => (link, gateway),
    };
    let name = maps.link(link);
    if let Some(pod) = maps.pods.get(&to)
        && pod.ifindex == link
    {
        return into_by_stack(maps, own, sender, asked, &packet);
    }
    let via = gateway.map_or_else(String::new, |gateway| format!(" via {gateway}"));
    let routed = own.hop("stack", format!("routed by {name}{via}"));
    match seen_as(maps, sender, asked, &packet, link) {
        Some(source) => routed.leaves(
            "to_net",
            format!("out of the cluster, with the node's address: masqueraded as {source}"),
        ),
        None => routed.leaves("stack", format!("with {} as its source", packet.src)),
    }
}

/// What comes by a link is judged at the pod's once more, or for the first time.
fn into_by_stack(
    maps: &Snapshot,
    own: Journey,
    sender: &Sender<'_>,
    asked: &Question,
    packet: &Packet,
) -> Way {
    let judged = match sender {
        Sender::Node if maps.policies => {
            own.hop("to_pod", "a pod and its own node: no policy has a say")
        }
        Sender::Node => own,
        _ => match policy::arrives(maps, asked.protocol(), packet) {
            Ok(hops) => own.and("to_pod", hops),
            Err(refusal) => return own.turned_away("to_pod", refusal),
        },
    };
    judged.delivered("stack", format!("to the pod that has {}", packet.dst.ip()))
}

/// As whom a host outside the cluster sees the pod.
fn seen_as(
    maps: &Snapshot,
    sender: &Sender<'_>,
    asked: &Question,
    packet: &Packet,
    link: u32,
) -> Option<IpAddr> {
    let to = packet.dst.ip();
    let concerned = matches!(sender, Sender::Pod(_))
        && packet.src == asked.src
        && maps.loaded.settings.masquerade
        && maps.has_program(Program::ToNet, link)
        && !maps.keeps_source(to);
    if !concerned {
        return None;
    }
    let own = maps.sources.get(&link);
    let own = own.and_then(|own| own.of(to.is_ipv4())).map(IpAddr::from);
    let node = maps.node_address(to);
    own.or_else(|| (!node.is_unspecified()).then_some(node))
}
