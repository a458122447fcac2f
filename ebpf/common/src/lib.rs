//! What the programs in the kernel and the node daemon share: keys and values
//! of the maps, and decisions that are tested outside the kernel.
//!
//! Addresses and ports are byte arrays in network order, as they stand in a
//! packet; everything else is in the machine's order. All padding is explicit
//! and zero, for a hash map compares every byte of a key. What a change here
//! does to maps that are already pinned is [`LAYOUT`]'s business.

#![no_std]

mod device;
mod frontend;
mod reverse;
mod service;
mod slot;

pub use device::DeviceRequest;
pub use frontend::{Frontend, FrontendKey, Protocol, UnknownProtocol};
pub use reverse::{Endpoint, ReverseKey};
pub use service::ServiceWord;
pub use slot::Slot;

/// Names of the maps, as the programs declare them.
pub mod maps {
    pub const FRONTENDS: &str = "FRONTENDS";
    pub const SERVICES: &str = "SERVICES";
    pub const SLOTS: &str = "SLOTS";
    pub const REVERSE: &str = "REVERSE";
}

/// Most frontends: an address, port and protocol each.
pub const MAX_FRONTENDS: u32 = 1 << 16;
/// Most service-ports.
pub const MAX_SERVICES: u32 = 1 << 16;
/// Most backends of all service-ports together.
pub const MAX_SLOTS: u32 = 1 << 18;
/// Socket-to-backend relations remembered; the least used goes first.
pub const MAX_REVERSE: u32 = 1 << 16;

/// Identifies the layout of the maps. Maps of another layout are neither read
/// nor written: the daemon fills new ones and then swaps the programs.
pub const LAYOUT: u32 = fnv1a(&[
    // Raised by hand when the meaning of a field changes and its size does not.
    1,
    size_of::<FrontendKey>() as u32,
    size_of::<Frontend>() as u32,
    size_of::<ServiceWord>() as u32,
    size_of::<Slot>() as u32,
    size_of::<ReverseKey>() as u32,
    size_of::<Endpoint>() as u32,
    MAX_FRONTENDS,
    MAX_SERVICES,
    MAX_SLOTS,
    MAX_REVERSE,
]);

const fn fnv1a(words: &[u32]) -> u32 {
    let mut hash: u32 = 0x811c_9dc5;
    let mut at = 0;
    while at < words.len() {
        let bytes = words[at].to_le_bytes();
        let mut byte = 0;
        while byte < bytes.len() {
            hash = (hash ^ bytes[byte] as u32).wrapping_mul(0x0100_0193);
            byte += 1;
        }
        at += 1;
    }
    hash
}
