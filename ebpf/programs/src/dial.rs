//! The first packet of a conversation: is it for a service, and for which
//! backend?

use vetch_ebpf_common::{
    Address, Flow, Frontend, Reason, Site, Terms, Tuple, addresses, client_seed,
};

use crate::{
    access::{Context, ifindex},
    balance::{Choice, Client, choose, generation, in_source_ranges, terms},
    begin, count,
    find::{self, Found, find},
    flows,
    forward::{self, Hook},
    node,
    parse::Kind,
    ports::claim,
    tunnel,
    verdict::Error,
    work::Work,
};

/// Makes a flow and records it, in steps, for the stack is short.
#[inline(always)]
pub fn dial<C: Context>(ctx: &C, work: &mut Work, hook: Hook) -> Result<(), Error> {
    plan(ctx, work, hook)?;
    claim(work)?;
    begin::flow(
        ctx,
        if C::COMES_AGAIN {
            Site::FromWire
        } else {
            hook.site()
        },
    );
    // Else it was counted when it was chosen. A refusal is for the program to
    // count that says it.
    if C::COMES_AGAIN {
        count::connection(work.flow.service);
    }
    Ok(())
}

/// The flow of a packet that has none, which is still to be recorded;
/// [`Error::Pass`] if it is not for a service.
#[inline(never)]
pub fn plan<C: Context>(ctx: &C, work: &mut Work, hook: Hook) -> Result<(), Error> {
    let Work { packet, flow, .. } = work;
    let key = &packet.tuple;
    match packet.kind {
        Kind::Transport => {}
        Kind::LaterFragment if is_services(key.dst) => return Err(Error::Fragment),
        _ => return Err(Error::Pass),
    }
    let frontend = match find(key.destination(), key.protocol, || false) {
        Found::NotAService => return Err(Error::Pass),
        Found::UnknownPort => return Err(Error::UnknownPort),
        Found::Frontend(frontend) => frontend,
    };
    // A pod dials with its own address only.
    if hook == Hook::Pod && !forward::is_behind(ctx, &key.src) {
        return Err(Error::Pass);
    }
    admit(&frontend, key.src)?;
    let generation = generation(frontend.service());
    let mut to = backend(&frontend, key, hook, !C::COMES_AGAIN)?;
    let direct = hook == Hook::Net && tunnel::is_wanted(packet, &to.dst);
    if !direct {
        to.src = source(key, &to, hook);
    }
    *flow = Flow::new(
        to,
        frontend.service(),
        generation,
        packet.tcp_flags(ctx),
        flows::now(),
    );
    if direct {
        flow.answer_directly();
    }
    if terms(frontend.service()).has(Terms::LEAST) {
        flow.count_live();
    }
    if matches!(hook, Hook::Net | Hook::Tunnel) {
        flow.link = ifindex(ctx);
    }
    Ok(())
}

/// Whether all that is for the address is for services: one of the node's own has
/// other ports too.
#[inline(always)]
fn is_services(address: Address) -> bool {
    find::address(address) & (addresses::SERVICE | addresses::NODE) == addresses::SERVICE
}

#[inline(always)]
pub fn admit(frontend: &Frontend, client: Address) -> Result<(), Error> {
    if frontend.has(Frontend::SOURCE_RANGES) && !in_source_ranges(frontend.service(), client) {
        return Err(Error::SourceRange);
    }
    Ok(())
}

/// The client's tuple, to the backend.
#[inline(always)]
fn backend(frontend: &Frontend, key: &Tuple, hook: Hook, counts: bool) -> Result<Tuple, Error> {
    let client = Client {
        from: hook.from(),
        address: key.src,
        hash: client_seed(key.src),
        always_hash: false,
        counts,
    };
    match choose(frontend, &client) {
        Choice::Backend(backend) => Ok(Tuple::new(key.source(), backend, key.protocol)),
        Choice::Refuse(Reason::Torn) => Err(Error::Torn),
        Choice::Refuse(_) => Err(Error::NoEndpoints),
        Choice::Drop(_) => Err(Error::NoLocalEndpoints),
    }
}

/// The client's address, or the node's if the backend's answers would not come
/// back this way by themselves: a pod that reached itself would answer itself,
/// and a backend on another node the client.
#[inline(always)]
fn source(key: &Tuple, to: &Tuple, hook: Hook) -> Address {
    let here = match hook {
        Hook::Pod | Hook::Node => to.dst != key.src,
        Hook::Net | Hook::Tunnel => {
            forward::pod(&to.dst).is_some() || find::address(to.dst) & addresses::NODE != 0
        }
    };
    if here {
        return key.src;
    }
    node::address(key.src.is_v4())
}
