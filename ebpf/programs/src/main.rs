//! The programs in the kernel: services at the socket and by the packet, devices
//! of containers.
//!
//! A socket that dials a service's address is pointed at a backend before
//! there is a packet; the address the application sees stays the service's.
//! [`connect`], [`sendmsg`] and [`answer`] have those hooks; they share
//! [`redirect`] and [`reverse`].
//!
//! What becomes of a TCP connection that was so begun is followed by
//! [`connection`].
//!
//! Other packets are rewritten on their way. [`from_pod`], [`to_pod`],
//! [`from_net`] and [`to_net`] have those hooks: they [`parse`], follow a flow
//! ([`flows`]) or make one ([`dial`], [`ports`]), rewrite ([`nat`]) and send on
//! ([`forward`]). A packet that is refused goes through [`refuse`], one that
//! asks where an announced address is through [`neighbour`]. [`from_wire`] is
//! before them all, at the driver: the same path again, for the packets that
//! leave by the link they came by, to where [`next_hop`] has seen others go.
//! Between nodes packets may go as they came ([`tunnel`]), and what nodes that share no
//! link send each other's pods comes in VXLAN ([`from_tunnel`]). What pods send out of
//! the cluster goes with the node's address ([`masquerade`]). What pods may say and hear is
//! for their NetworkPolicies to let pass ([`policy`]).
//!
//! Both choose with [`find`] and [`balance`], which may ask [`live`]; [`maps`] has what the daemon
//! writes. What does not get through is counted ([`count`]) and told of
//! ([`event`]), and what begins is told of while somebody follows ([`begin`]).
//! [`sweep`] takes out of the tables what has outlived its time.
//! [`devices`] stands alone: it needs no map.
//!
//! Minimum kernel: 5.18, for `bpf_set_retval`.

#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(
    internal_features,
    reason = "atomic addition has no other door: see `live`"
)]

mod access;
mod address;
mod answer;
mod balance;
mod begin;
mod connect;
mod connection;
mod count;
mod devices;
mod dial;
mod event;
mod find;
mod flows;
mod forward;
mod fragments;
mod from_net;
mod from_pod;
mod from_tunnel;
mod from_wire;
mod live;
mod maps;
mod masquerade;
mod nat;
mod neighbour;
mod next_hop;
mod node;
mod parse;
mod peers;
mod policy;
mod ports;
mod redirect;
mod refuse;
mod reset;
mod reverse;
mod sendmsg;
mod sweep;
mod to_net;
mod to_pod;
mod tunnel;
mod tunnel_error;
mod turn;
mod unreachable;
mod verdict;
mod work;

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 11] = *b"Apache-2.0\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
