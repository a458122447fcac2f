//! What other nodes send this one's pods in VXLAN: the ingress of the device that
//! takes it out.
//!
//! The device is in `external` mode and takes packets from anybody, with any
//! identifier of a network. Here those of the cluster's nodes are told from
//! others. A node that sends with another's address is the network's to stop, as
//! without a tunnel.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_TUNINFO_IPV6},
    helpers::bpf_skb_get_tunnel_key,
    macros::classifier,
    programs::TcContext,
};
use vetch_ebpf_common::{Address, Site, addresses};

use crate::{
    access::is_for_us,
    find,
    forward::Hook,
    from_net, node,
    parse::parse,
    verdict::{Error, PASS, verdict},
    work::work,
};

#[classifier]
pub fn from_tunnel(ctx: TcContext) -> i32 {
    verdict(&ctx, Site::FromNet, handle(&ctx))
}

#[inline(always)]
fn handle(ctx: &TcContext) -> Result<i32, Error> {
    let work = work()?;
    parse(ctx, &mut work.packet)?;
    if !is_from_node(ctx.skb.skb) {
        return Err(Error::Tunnel);
    }
    if !is_for_us(ctx) {
        return Ok(PASS);
    }
    from_net::take(ctx, work, Hook::Tunnel)
}

/// The first fields of `struct bpf_tunnel_key`, which kernels of all sizes of it fill.
#[repr(C)]
#[derive(Clone, Copy)]
struct TunnelKey {
    id: u32,
    /// In the machine's order for IPv4, as in a packet for IPv6.
    remote: [u32; 4],
    rest: u32,
}

/// Whether the outer packet came from another node of the cluster.
#[inline(never)]
pub fn is_from_node(skb: *mut __sk_buff) -> bool {
    let remote = if let Some(key) = outer(skb, 0) {
        Some((key.id, Address::v4_bits(key.remote[0].to_be())))
    } else {
        outer(skb, BPF_F_TUNINFO_IPV6).map(|key| (key.id, Address::v6_bits(key.remote)))
    };
    remote.is_some_and(|(id, address)| {
        id == node::vni() && find::address(address) & addresses::PEER != 0
    })
}

/// None if it was of another family.
#[inline(always)]
fn outer(skb: *mut __sk_buff, family: u32) -> Option<TunnelKey> {
    let mut key = TunnelKey {
        id: 0,
        remote: [0; 4],
        rest: 0,
    };
    // SAFETY: the helper fills as many bytes as it is told (24 are those before
    // `tunnel_label`), or clears them.
    let got = unsafe {
        bpf_skb_get_tunnel_key(
            skb,
            (&raw mut key).cast(),
            size_of::<TunnelKey>() as u32,
            family.into(),
        )
    };
    (got == 0).then_some(key)
}
