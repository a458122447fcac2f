//! What NetworkPolicies let pass, at the links of pods that they select.
//!
//! Judged is what pods have said or will hear: behind a service the backend, not
//! what was dialled. What a pod sends is judged where it comes out of its link,
//! for its receiver too if that is on this node; what comes from elsewhere
//! before it goes into the pod's link.
//!
//! A conversation is judged by the tuple of its first packet, with its first
//! packet and then once a second: what policies do not let pass any more ends
//! within that time. Its answers pass as long as it does.

use aya_ebpf::{bindings::BPF_ANY, maps::lpm_trie::Key, programs::TcContext};
use vetch_ebpf_common::{
    Address, Conversation, Direction, Pod, Protocol, Rule, RuleSet, Site, Tuple, addresses,
    policy::{End, Lookup, Standing, is_ephemeral, opens, permits},
};

use crate::{
    access::{came_by, ifindex, read},
    begin, find, flows, forward,
    maps::{BLOCKS, CONVERSATIONS, FLOWS, IDENTITIES, POLICIES, RULES},
    parse::{Kind, Packet},
    verdict::Error,
    work::{Work, work},
};

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// Whether the packet in hand is rewritten by the flow in hand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Translated {
    No,
    Yes,
}

/// Where there are none, nobody asks more than this.
#[inline(always)]
fn in_force() -> bool {
    // SAFETY: one aligned u32.
    POLICIES
        .get_ptr(0)
        .is_some_and(|word| unsafe { word.read_volatile() } != 0)
}

/// Of a pod's packet, before it is rewritten.
#[inline(always)]
pub fn leaves(ctx: &TcContext, work: &mut Work, translated: Translated) -> Result<(), Error> {
    if in_force() {
        sent(ctx, work, translated)
    } else {
        Ok(())
    }
}

/// Of a packet from the network, before it is rewritten.
#[inline(always)]
pub fn enters(ctx: &TcContext, work: &mut Work, translated: Translated) -> Result<(), Error> {
    if in_force() {
        received(ctx, work, translated)
    } else {
        Ok(())
    }
}

/// Of a packet that the stack sends to a pod. Its node may always: what comes from
/// no link is of its processes.
#[inline(always)]
pub fn arrives(ctx: &TcContext, work: &mut Work, translated: Translated) -> Result<(), Error> {
    if in_force() && came_by(ctx) != 0 {
        routed(ctx, work, translated)
    } else {
        Ok(())
    }
}

#[inline(never)]
fn sent(ctx: &TcContext, work: &mut Work, translated: Translated) -> Result<(), Error> {
    // What has another's address is the stack's to drop.
    let Some(sender) = forward::pod(&work.packet.src) else {
        return Ok(());
    };
    if sender.ifindex != ifindex(ctx) {
        return Ok(());
    }
    take(work, translated);
    let receiver = forward::pod(&work.judged.dst);
    // A pod cannot keep itself out, nor its node.
    let keeps = match receiver {
        Some(receiver) if receiver.ifindex == sender.ifindex => return Ok(()),
        Some(_) => true,
        None => !sender.is_held() || find::address(work.judged.dst) & addresses::NODE == 0,
    };
    if !keeps {
        return Ok(());
    }
    ask(ctx, &work.packet, Some(sender), receiver, LEAVES)
}

#[inline(never)]
fn received(ctx: &TcContext, work: &mut Work, translated: Translated) -> Result<(), Error> {
    take(work, translated);
    let receiver = forward::pod(&work.judged.dst);
    ask(ctx, &work.packet, None, receiver, ENTERS)
}

#[inline(never)]
fn routed(ctx: &TcContext, work: &mut Work, translated: Translated) -> Result<(), Error> {
    take(work, translated);
    // An answer that a program has rewritten already: what was dialled says whose.
    if translated == Translated::No
        && let Some(flow) = FLOWS.get_ptr(&work.reversed)
    {
        // SAFETY: as in `flows::get`.
        let flow = unsafe { &*flow };
        match flow.direction() {
            // With the node's address: nothing that pods know.
            _ if flow.is_outside() => {}
            Direction::Original => {
                work.reversed = flow.to;
                work.judged = flow.to.reverse();
            }
            // A pod cannot keep itself out, whoever it looks like.
            Direction::Reply if flow.to.dst == work.judged.dst => return Ok(()),
            Direction::Reply => {}
        }
    }
    let receiver = forward::pod(&work.judged.dst);
    ask(ctx, &work.packet, None, receiver, ARRIVES)
}

/// The tuple that the pods know. Answers are rewritten to what the client has
/// dialled, and judged as what the backend said; those from outside the cluster come to
/// the node's address, and are judged as what the pod hears.
#[inline(always)]
fn take(work: &mut Work, translated: Translated) {
    let flow = &work.flow;
    let to = flow.is_outside() || flow.direction() == Direction::Original;
    work.judged = if translated == Translated::Yes && to {
        work.flow.to
    } else {
        work.packet.tuple
    };
    work.reversed = work.judged.reverse();
}

/// How [`judge`] is asked: the first byte tells what [`opens`], the flags above…
const ERROR: u64 = 1 << 8;
const OPENS: u64 = 1 << 9;
/// …which ends are held.
const SENDER: u64 = 1 << 10;
const RECEIVER: u64 = 1 << 11;
/// …and where, for who is told of it.
const SITE: u32 = 12;
const LEAVES: u64 = (Site::FromPod as u64) << SITE;
const ENTERS: u64 = (Site::FromNet as u64) << SITE;
const ARRIVES: u64 = (Site::ToPod as u64) << SITE;

/// What it answers.
const ALLOWED: u32 = 0;
const NOT_OUT: u32 = 1;
const NOT_IN: u32 = 2;

#[inline(always)]
fn ask(
    ctx: &TcContext,
    packet: &Packet,
    sender: Option<&Pod>,
    receiver: Option<&Pod>,
    site: u64,
) -> Result<(), Error> {
    let mut sets = 0;
    let mut way = site;
    let mut flags = 0;
    if let Some(pod) = sender
        && pod.is_held()
    {
        way |= SENDER;
        flags |= pod.flags;
        sets |= u64::from(pod.ingress) | u64::from(pod.egress) << 16;
    }
    if let Some(pod) = receiver
        && pod.is_held()
    {
        way |= RECEIVER;
        flags |= pod.flags;
        sets |= u64::from(pod.ingress) << 32 | u64::from(pod.egress) << 48;
    }
    if way & (SENDER | RECEIVER) == 0 {
        return Ok(());
    }
    if flags & Pod::POLICY_PENDING != 0 {
        return Err(Error::PolicyPending);
    }
    let first = first(ctx, packet);
    way |= u64::from(first);
    if packet.kind == Kind::IcmpError {
        way |= ERROR;
    } else if opens(packet.ip.protocol, first) {
        way |= OPENS;
    }
    match judge(way, sets) {
        ALLOWED => Ok(()),
        NOT_OUT => Err(Error::PolicyEgress),
        _ => Err(Error::PolicyIngress),
    }
}

/// TCP's flags, or the type of an ICMP message that is not about another packet.
#[inline(always)]
fn first(ctx: &TcContext, packet: &Packet) -> u8 {
    match packet.kind {
        Kind::Transport => packet.tcp_flags(ctx),
        Kind::Other | Kind::Echo | Kind::EchoAnswer
            if matches!(packet.ip.protocol, ICMP | ICMPV6) =>
        {
            read(ctx, packet.ip.l4).unwrap_or(0)
        }
        _ => 0,
    }
}

/// Whether the tuple in hand passes, as a global function: looked at once.
/// `sets` are the sender's and the receiver's, the lower half of each for ingress.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn judge(way: u64, sets: u64) -> u32 {
    let Ok(work) = work() else {
        return NOT_IN;
    };
    let mut fresh = 0;
    if way & SENDER != 0 {
        match end(work, way, sets as u32, 1) {
            NOT => return NOT_OUT,
            NEW => fresh |= SENDER,
            _ => {}
        }
    }
    if way & RECEIVER != 0 {
        match end(work, way, (sets >> 32) as u32, 0) {
            NOT => return NOT_IN,
            NEW => fresh |= RECEIVER,
            _ => {}
        }
    }
    if fresh != 0 {
        remember(&work.judged, way, fresh);
        begin::allowed(work, (way >> SITE) as u8);
    }
    ALLOWED
}

/// What an end says.
const NOT: u32 = 0;
/// Of a conversation that it does not know, and will.
const NEW: u32 = 1;
const PASSES: u32 = 2;
/// It does not know it.
const UNKNOWN: u32 = 3;

/// `sets` are the end's own.
#[inline(never)]
fn end(work: &Work, way: u64, sets: u32, sends: u32) -> u32 {
    let (own, other) = if sends != 0 {
        (End::Initiator, End::Responder)
    } else {
        (End::Responder, End::Initiator)
    };
    // What begins is judged by itself, whatever was on its ports before.
    if way & OPENS == 0 {
        let said = known(&work.judged, sets, how(own, way, Direction::Original));
        if said != UNKNOWN {
            return said;
        }
        let said = known(&work.reversed, sets, how(other, way, Direction::Reply));
        if said != UNKNOWN {
            return said;
        }
    }
    if way & ERROR != 0 {
        // About nothing that is known: a message as any other.
        return if lets(&work.judged, sets, own as u32 | PORTLESS) {
            PASSES
        } else {
            NOT
        };
    }
    if lets(&work.judged, sets, own as u32) {
        return NEW;
    }
    // A connection from before the pod had policies, or one that was forgotten: its
    // segments open nothing, and the pod might have dialled the other end from this
    // port. It is not remembered, so that nothing else passes for its sake.
    if sends == 0
        && way & OPENS == 0
        && work.judged.protocol == Protocol::Tcp as u8
        && is_ephemeral(work.judged.dport)
        && lets(&work.reversed, sets, other as u32)
    {
        return PASSES;
    }
    NOT
}

/// How [`known`] is asked: an [`End`], the direction, TCP's flags.
const RESPONDER: u32 = End::Responder as u32;
const REPLY: u32 = 1 << 1;

#[inline(always)]
fn how(end: End, way: u64, direction: Direction) -> u32 {
    let reply = if direction == Direction::Reply {
        REPLY
    } else {
        0
    };
    let silent = if way & ERROR != 0 {
        0
    } else {
        way as u32 & 0xff
    };
    end as u32 | reply | silent << 8
}

/// What the end knows of the conversation that began with `key`.
#[inline(never)]
fn known(key: &Tuple, sets: u32, how: u32) -> u32 {
    let end = if how & RESPONDER != 0 {
        End::Responder
    } else {
        End::Initiator
    };
    let direction = if how & REPLY != 0 {
        Direction::Reply
    } else {
        Direction::Original
    };
    let Some(entry) = CONVERSATIONS.get_ptr_mut(key) else {
        return UNKNOWN;
    };
    let now = flows::now();
    // SAFETY: copied before it is used. An element recycled in between shows
    // another conversation once, which takes as many newer ones as the map holds.
    let mut talk = unsafe { *entry };
    let Some(standing) = talk.standing(end, key.protocol, now) else {
        return UNKNOWN;
    };
    let flags = if key.protocol == Protocol::Tcp as u8 {
        (how >> 8) as u8
    } else {
        0
    };
    let state = talk.state.after(direction, flags);
    let due = standing == Standing::Due;
    if !due && state == talk.state {
        return PASSES;
    }
    if due {
        if !lets(key, sets, end as u32) {
            return NOT;
        }
        talk.judge(end, now);
        talk.seen = now;
    }
    talk.state = state;
    // SAFETY: as above; another processor's change of this instant is lost, and
    // made again with its next packet.
    unsafe { entry.write_volatile(talk) };
    PASSES
}

/// Asks the rules without a port or protocol: as of an ICMP message.
const PORTLESS: u32 = 1 << 1;

/// Whether the end's rules let it take part in the conversation that begins with
/// `key`. `how` is an [`End`], and [`PORTLESS`].
#[inline(never)]
fn lets(key: &Tuple, sets: u32, how: u32) -> bool {
    let (end, number, peer) = if how & RESPONDER != 0 {
        (End::Responder, sets as u16, &key.src)
    } else {
        (End::Initiator, (sets >> 16) as u16, &key.dst)
    };
    let Some(set) = RuleSet::new(end.policy(), number) else {
        return true;
    };
    let (protocol, port) = if how & PORTLESS != 0 {
        (ICMP, [0; 2])
    } else {
        (key.protocol, key.dport)
    };
    permits(&Maps, set, peer, protocol, port)
}

/// A conversation that one or both ends let begin.
#[inline(never)]
fn remember(key: &Tuple, way: u64, fresh: u64) {
    let now = flows::now();
    let flags = if key.protocol == Protocol::Tcp as u8 {
        way as u8
    } else {
        0
    };
    let mut talk = Conversation::new(now, Direction::Original, flags);
    // SAFETY: as in `known`.
    if let Some(other) = unsafe { CONVERSATIONS.get(key) } {
        talk = talk.with_judged(other);
    }
    if fresh & SENDER != 0 {
        talk.judge(End::Initiator, now);
    }
    if fresh & RECEIVER != 0 {
        talk.judge(End::Responder, now);
    }
    // Without room the first answer is not known, and the next packet tries again.
    let _ = CONVERSATIONS.insert(key, talk, BPF_ANY.into());
}

pub struct Maps;

impl Lookup for Maps {
    #[inline(always)]
    fn identity(&self, address: &Address) -> u32 {
        // SAFETY: one aligned u32, written whole; a removed element is freed only
        // after this program has ended (RCU).
        unsafe { IDENTITIES.get(address) }.copied().unwrap_or(0)
    }

    #[inline(always)]
    fn block(&self, address: &Address) -> u32 {
        let [a, b, c, d] = address.bits();
        BLOCKS
            .get(Key::new(128, [a, b, c, d]))
            .copied()
            .unwrap_or(0)
    }

    #[inline(always)]
    fn has(&self, rule: &Rule) -> bool {
        RULES.get(Key::new(Rule::PORT, *rule)).is_some()
    }
}
