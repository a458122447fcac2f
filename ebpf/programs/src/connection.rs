//! TCP connections that were pointed at a backend, from their first packet to
//! their end: how long it took to reach it, and what was said.
//!
//! A socket remembers in a storage of its own, which goes with it; one that was
//! not pointed anywhere has none, and is asked nothing after its first packet.

use aya_ebpf::{
    bindings::{
        BPF_SK_STORAGE_GET_F_CREATE, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG,
        BPF_SOCK_OPS_TCP_CONNECT_CB, bpf_sock,
    },
    btf_maps::SkStorage,
    helpers::{bpf_ktime_get_ns, bpf_sk_storage_get, bpf_sock_ops_cb_flags_set},
    macros::{btf_map, sock_ops},
    programs::{SockAddrContext, SockOpsContext},
};
use vetch_ebpf_common::{Address, BackendKey, Connection, Endpoint, tcp};

use crate::{balance::terms, count, live};

/// By the socket. Where maps are pinned is for the loader to say: the
/// definition has no room for it.
#[btf_map]
static CONNECTIONS: SkStorage<Connection> = SkStorage::new();

/// The kernel minds no answer to what is asked here, and what another program
/// has answered stays.
const OK: u32 = 1;

const ENOMEM: i32 = -12;

#[sock_ops]
pub fn sock_ops(ctx: SockOpsContext) -> u32 {
    match ctx.op() {
        BPF_SOCK_OPS_TCP_CONNECT_CB => begin(&ctx),
        BPF_SOCK_OPS_STATE_CB => change(&ctx),
        _ => {}
    }
    OK
}

/// The first packet is about to go.
#[inline(always)]
fn begin(ctx: &SockOpsContext) {
    let Some(connection) = of(ctx) else {
        return;
    };
    if !connection.begin(remote(ctx), now()) {
        return;
    }
    let flags = ctx.cb_flags() | BPF_SOCK_OPS_STATE_CB_FLAG;
    // SAFETY: the helper takes any flags. It fails for a socket that has no
    // connection, and for flags that are not known; these are from 4.16.
    let set = unsafe { bpf_sock_ops_cb_flags_set(ctx.ops, flags as i32) };
    // Without them nobody would tell of its end.
    if set == 0 && connection.is_counted_live() {
        connection.epoch = live::socket_opened(&key(connection));
    }
}

/// The state is about to be another: asked for by [`begin`].
#[inline(always)]
fn change(ctx: &SockOpsContext) {
    let Some(connection) = of(ctx) else {
        return;
    };
    let ops = ctx.ops;
    // SAFETY: the verifier lets a sock_ops program read these fields, each by
    // its whole size; `args` are the two states.
    let (from, to, acked, received) = unsafe {
        (
            (&raw const (*ops).__bindgen_anon_1.args[0]).read_volatile(),
            (&raw const (*ops).__bindgen_anon_1.args[1]).read_volatile(),
            (&raw const (*ops).bytes_acked).read_volatile(),
            (&raw const (*ops).bytes_received).read_volatile(),
        )
    };
    if to == tcp::ESTABLISHED {
        if let Some(took) = connection.establish(now())
            && is_of_its_service(connection)
        {
            count::latency(connection.service, took);
        }
        return;
    }
    let Some(ended) = connection.change(from, to, acked, received) else {
        return;
    };
    if connection.epoch != 0 {
        live::socket_closed(&key(connection), connection.epoch);
        connection.epoch = 0;
    }
    if is_of_its_service(connection) {
        count::bytes(connection.service, ended.sent, ended.received);
    }
}

#[inline(always)]
fn key(connection: &Connection) -> BackendKey {
    BackendKey::new(connection.service, connection.backend)
}

/// Whether the number still means the service-port that was dialled.
#[inline(always)]
fn is_of_its_service(connection: &Connection) -> bool {
    terms(connection.service).incarnation() == connection.incarnation
}

/// Must come before the call is pointed at the backend: what asks for the peer
/// asks this.
#[inline(always)]
pub fn remember(ctx: &SockAddrContext, mut connection: Connection) -> Result<(), i32> {
    // SAFETY: a sock_addr program has a socket; the value is copied.
    let stored = unsafe {
        storage(
            (*ctx.sock_addr).__bindgen_anon_1.sk,
            &raw mut connection,
            BPF_SK_STORAGE_GET_F_CREATE.into(),
        )
    };
    match stored {
        Some(stored) => {
            // What an earlier call has left.
            *stored = connection;
            Ok(())
        }
        None => Err(ENOMEM),
    }
}

/// What the application dialled, if the socket was pointed at this backend.
#[inline(always)]
pub fn dialled(ctx: &SockAddrContext, backend: Endpoint) -> Option<Endpoint> {
    // SAFETY: as above; nothing is made.
    let connection = unsafe {
        storage(
            (*ctx.sock_addr).__bindgen_anon_1.sk,
            core::ptr::null_mut(),
            0,
        )
    }?;
    (connection.backend == backend).then_some(connection.dialled)
}

#[inline(always)]
fn of(ctx: &SockOpsContext) -> Option<&mut Connection> {
    // SAFETY: readable in one word.
    let sk = unsafe { (&raw const (*ctx.ops).__bindgen_anon_2.sk).read_volatile() };
    if sk.is_null() {
        return None;
    }
    // SAFETY: a socket, and nothing is made.
    unsafe { storage(sk, core::ptr::null_mut(), 0) }
}

/// # Safety
/// `sk` is the context's own; its lock is held, so that nobody else has the
/// value until the program ends.
#[inline(always)]
unsafe fn storage<'a>(
    sk: *mut bpf_sock,
    value: *mut Connection,
    flags: u64,
) -> Option<&'a mut Connection> {
    let map = (&raw const CONNECTIONS).cast_mut().cast();
    // SAFETY: the map's own type of value; the helper checks the socket.
    unsafe {
        bpf_sk_storage_get(map, sk.cast(), value.cast(), flags)
            .cast::<Connection>()
            .as_mut()
    }
}

/// Whom the socket talks to. The port is in the upper half of its word.
#[inline(always)]
fn remote(ctx: &SockOpsContext) -> Endpoint {
    const AF_INET: u32 = 2;
    let ops = ctx.ops;
    // SAFETY: the verifier lets a sock_ops program read these fields by words
    // of 4 bytes.
    unsafe {
        let address = if (&raw const (*ops).family).read_volatile() == AF_INET {
            Address::v4_bits((&raw const (*ops).remote_ip4).read_volatile())
        } else {
            Address::v6_bits([
                (&raw const (*ops).remote_ip6[0]).read_volatile(),
                (&raw const (*ops).remote_ip6[1]).read_volatile(),
                (&raw const (*ops).remote_ip6[2]).read_volatile(),
                (&raw const (*ops).remote_ip6[3]).read_volatile(),
            ])
        };
        let port = (&raw const (*ops).remote_port).read_volatile() >> 16;
        Endpoint::new(address, (port as u16).to_ne_bytes())
    }
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}
