//! Pointing a call at a backend.

use aya_ebpf::{helpers::bpf_set_retval, programs::SockAddrContext};
use aya_log_ebpf::debug;
use vetch_ebpf_common::{
    Address, Connection, Endpoint, Event, EventKind, From, Frontend, Pod, Protocol, Reason, Site,
    Terms,
};

use crate::{
    address::{self, Family},
    balance::{Choice, Client, choose, in_source_ranges, terms},
    begin, connection, count, event,
    find::{Found, find},
    maps::NETNS_FLAGS,
    node, reverse,
};

/// The verdicts of a sock_addr program.
pub const PROCEED: i32 = 1;
const REFUSE: i32 = 0;

const ECONNREFUSED: i32 = 111;

/// Sends the call to a backend of the service it is for, if it is for one.
#[inline(always)]
pub fn to_backend(ctx: &SockAddrContext, family: Family, protocol: u8, site: Site) -> i32 {
    let service = address::remote(ctx, family);
    let found = find(service, protocol, || node::is_node(address::netns(ctx)));
    let frontend = match found {
        Found::NotAService => return PROCEED,
        Found::UnknownPort => {
            let call = Call::new(site, protocol, service, Event::NO_SERVICE);
            return refuse(ctx, &call, Reason::UnknownPort);
        }
        Found::Frontend(frontend) => frontend,
    };
    let netns = address::netns(ctx);
    if !at_the_socket(netns, protocol, &frontend, service.addr()) {
        return PROCEED;
    }
    let call = Call::new(site, protocol, service, frontend.service());
    let cookie = address::cookie(ctx);
    let client = Client {
        from: From::Inside,
        address: Address::from_words([netns, 0]),
        hash: spread(cookie),
        // The socket may go on with the same peer in further calls.
        always_hash: matches!(site, Site::Sendmsg),
        counts: true,
    };
    let backend = match choose(&frontend, &client) {
        Choice::Backend(backend) => backend,
        Choice::Refuse(reason) => return refuse(ctx, &call, reason),
        // Goes on to the service's address, where the packet finds its end.
        Choice::Drop(reason) => {
            count::reason(reason);
            return PROCEED;
        }
    };
    translated(ctx, &call, &backend);
    if !remember(ctx, &service, &backend, frontend.service(), protocol) {
        return refuse(ctx, &call, Reason::Memory);
    }
    address::set_remote(ctx, family, backend);
    log(ctx, &service, protocol, &backend);
    PROCEED
}

/// Tells who follows, before the backend is remembered: by that the first datagram
/// to it is told from those behind. As [`refuse`], a function for the stack's sake.
#[inline(never)]
fn translated(ctx: &SockAddrContext, call: &Call, backend: &Endpoint) {
    if !begin::is_followed() {
        return;
    }
    let cookie = address::cookie(ctx);
    if call.protocol == Protocol::Udp as u8 && reverse::knows(cookie, *backend, call.protocol) {
        return;
    }
    begin::call(
        call.site,
        address::netns(ctx),
        &call.service,
        backend,
        call.number,
        call.protocol,
    );
}

/// Where the socket was pointed, for what asks or tells of it later; false
/// where there is no room. As [`refuse`], a function for the stack's sake.
#[inline(never)]
fn remember(
    ctx: &SockAddrContext,
    service: &Endpoint,
    backend: &Endpoint,
    number: u32,
    protocol: u8,
) -> bool {
    if protocol != Protocol::Tcp as u8 {
        return reverse::remember(address::cookie(ctx), *service, *backend, protocol).is_ok();
    }
    let terms = terms(number);
    let (incarnation, least) = (terms.incarnation(), terms.has(Terms::LEAST));
    let connection = Connection::new(*service, *backend, number, incarnation, least);
    connection::remember(ctx, connection).is_ok()
}

/// Whether calls of this namespace are balanced here, not by the packet.
#[inline(always)]
fn at_the_socket(netns: u64, protocol: u8, frontend: &Frontend, to: Address) -> bool {
    if node::is_node(netns) {
        return !frontend.has(Frontend::SOURCE_RANGES)
            || in_source_ranges(frontend.service(), node::address(to.is_v4()));
    }
    // SAFETY: one aligned u32, written whole; freed only after a grace period.
    let flags = unsafe { NETNS_FLAGS.get(netns) }.copied().unwrap_or(0);
    let by_packet = if protocol == Protocol::Udp as u8 {
        Pod::UDP_BY_PACKET
    } else {
        Pod::TCP_BY_PACKET
    };
    // Source ranges ask for the client's address, which a packet has.
    flags & by_packet == 0 && !frontend.has(Frontend::SOURCE_RANGES)
}

/// What there is to tell of a call that is refused.
struct Call {
    site: Site,
    protocol: u8,
    service: Endpoint,
    number: u32,
}

impl Call {
    #[inline(always)]
    const fn new(site: Site, protocol: u8, service: Endpoint, number: u32) -> Self {
        Self {
            site,
            protocol,
            service,
            number,
        }
    }
}

/// ECONNREFUSED, as from a closed port: EPERM makes in-kernel clients such as
/// NFS try again for ever. A function of its own: three ways lead here, and the
/// stack of the calls that get through has no room for its words.
#[inline(never)]
fn refuse(ctx: &SockAddrContext, call: &Call, reason: Reason) -> i32 {
    count::reason(reason);
    tell(ctx, call, reason);
    let service = call.service;
    // SAFETY: the helper has no preconditions; 5.18.
    unsafe { bpf_set_retval(-ECONNREFUSED) };
    let port = u16::from_be_bytes(service.port());
    match service.addr().to_v4_bits() {
        Some(to) => debug!(ctx, "{:i}:{} refused", u32::from_be(to), port),
        None => debug!(ctx, "[{:i}]:{} refused", service.addr().octets(), port),
    }
    REFUSE
}

#[inline(always)]
fn tell(ctx: &SockAddrContext, call: &Call, reason: Reason) {
    let Some(mut event) = event::due(call.site, EventKind::Refusal, reason) else {
        return;
    };
    event.dst = call.service.addr();
    event.dport = call.service.port();
    event.netns = address::netns(ctx);
    event.service = call.number;
    event.protocol = call.protocol;
    event::write(&event);
}

#[inline(never)]
fn log(ctx: &SockAddrContext, service: &Endpoint, protocol: u8, backend: &Endpoint) {
    let (port, at_port) = (
        u16::from_be_bytes(service.port()),
        u16::from_be_bytes(backend.port()),
    );
    match (service.addr().to_v4_bits(), backend.addr().to_v4_bits()) {
        (Some(to), Some(at)) => debug!(
            ctx,
            "{:i}:{} protocol {} -> {:i}:{}",
            u32::from_be(to),
            port,
            protocol,
            u32::from_be(at),
            at_port
        ),
        _ => debug!(
            ctx,
            "[{:i}]:{} protocol {} -> [{:i}]:{}",
            service.addr().octets(),
            port,
            protocol,
            backend.addr().octets(),
            at_port
        ),
    }
}

/// Cookies are consecutive; the multiplier is 2^64 over the golden ratio.
#[inline(always)]
fn spread(cookie: u64) -> u32 {
    (cookie.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}
