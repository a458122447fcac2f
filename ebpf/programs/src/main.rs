//! The programs in the kernel: services at the socket, devices of containers.
//!
//! A socket that dials a service's address is pointed at a backend before
//! there is a packet; the address the application sees stays the service's.
//! One file per hook; what they share is [`find`], [`balance`], [`redirect`],
//! [`reverse`] and [`maps`]. [`devices`] stands alone: it needs no map.
//! Minimum kernel: 5.18, for `bpf_set_retval`.

#![no_std]
#![no_main]

mod address;
mod answer;
mod balance;
mod connect;
mod count;
mod devices;
mod find;
mod maps;
mod node;
mod redirect;
mod reverse;
mod sendmsg;

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 11] = *b"Apache-2.0\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
