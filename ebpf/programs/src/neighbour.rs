//! ARP and neighbour solicitations for addresses this node announces, which no
//! interface of it has.

use aya_ebpf::{bindings::TC_ACT_SHOT, programs::TcContext};
use vetch_ebpf_common::{
    ALL_NODES_MAC, Address, Advertisement, Arp, Mac, Solicitation, Uplink, addresses,
};

use crate::{
    find,
    maps::UPLINKS,
    refuse::Silent,
    turn::{self, NETWORK},
};

const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IPV6: u16 = 0x86dd;
const ICMPV6: u8 = 58;
/// A solicitation has one option of 8 bytes; some have a nonce too.
const OPTIONS: u32 = 1;

/// None for any other packet.
#[inline(always)]
pub fn answer(ctx: &TcContext) -> Option<i32> {
    let answered = match turn::ethertype(ctx).ok()? {
        ETH_P_ARP => answer_arp(ctx)?,
        ETH_P_IPV6 => answer_solicitation(ctx)?,
        _ => return None,
    };
    // A packet that broke on the way is nobody's any more.
    Some(answered.unwrap_or(TC_ACT_SHOT as i32))
}

#[inline(always)]
fn answer_arp(ctx: &TcContext) -> Option<Result<i32, Silent>> {
    let asked: Arp = turn::load(ctx, NETWORK).ok()?;
    let mac = announced(ctx, asked.asked()?)?;
    let answer = asked.answer(mac);
    Some(turn::store(ctx, NETWORK, &answer).and_then(|()| turn::send(ctx, asked.sender_mac, mac)))
}

#[inline(always)]
fn answer_solicitation(ctx: &TcContext) -> Option<Result<i32, Silent>> {
    // Most packets of the family go on from here.
    let next: u8 = turn::load(ctx, NETWORK + 6).ok()?;
    if next != ICMPV6 {
        return None;
    }
    let asked = Solicitation::read(&turn::load(ctx, NETWORK).ok()?)?;
    let mac = announced(ctx, asked.target)?;
    let checksum = turn::sum::<OPTIONS>(ctx, NETWORK + 40, u32::from(asked.len))
        .ok()?
        .pseudo_header(asked.source, asked.destination, ICMPV6, asked.len)
        .finish();
    if checksum != 0 {
        return None;
    }
    let [_, asker]: [Mac; 2] = turn::load(ctx, 0).ok()?;
    let to = if asked.is_probe() {
        ALL_NODES_MAC
    } else {
        asker
    };
    Some(advertise(ctx, Advertisement::answer(&asked, mac), to, mac))
}

#[inline(always)]
fn advertise(ctx: &TcContext, answer: Advertisement, to: Mac, mac: Mac) -> Result<i32, Silent> {
    turn::set_len(ctx, NETWORK + Advertisement::LEN as u32)?;
    turn::store(ctx, NETWORK, answer.words())?;
    turn::send(ctx, to, mac)
}

/// The interface's own MAC, if the address is announced at it.
#[inline(always)]
fn announced(ctx: &TcContext, address: Address) -> Option<Mac> {
    if find::address(address) & addresses::ANNOUNCED == 0 {
        return None;
    }
    // SAFETY: the context is the kernel's. The value is 8 bytes that the
    // daemon replaces whole; a removed one is freed after this program.
    let uplink = unsafe { UPLINKS.get((*ctx.skb.skb).ifindex) };
    uplink.map(|Uplink { mac, .. }| *mac)
}
