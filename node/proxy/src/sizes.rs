//! How much the programs remember of connections, by the machine's memory.

use std::io;

use vetch_ebpf_common::{MAX_FRAGMENTS, maps};

/// The most entries of the tables that the programs fill; a full one drops its
/// least used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSizes {
    /// Two for each conversation that is balanced by the packet.
    pub flows: u32,
    /// One for each datagram in fragments that is under way.
    pub fragments: u32,
    /// One for each socket that was pointed at a backend.
    pub reverse: u32,
    /// One for each client of a service-port with session affinity.
    pub affinity: u32,
    /// One for each conversation of a pod that a NetworkPolicy selects.
    pub conversations: u32,
}

/// An entry of `FLOWS` is some 160 bytes, so that it takes 0.125 % of
/// the memory; the others are half as many, and smaller.
const MEMORY_OF_A_FLOW: u64 = 128 << 10;
/// Of a machine of 2 GiB, and of one of 128 GiB.
const LEAST_FLOWS: u64 = 1 << 14;
const MOST_FLOWS: u64 = 1 << 20;

impl TableSizes {
    /// `bytes` is all of the machine's memory. Powers of two, because it is in
    /// those that the kernel makes buckets.
    pub fn of_memory(bytes: u64) -> Self {
        let wanted = (bytes / MEMORY_OF_A_FLOW).clamp(LEAST_FLOWS, MOST_FLOWS);
        let flows = 1 << wanted.ilog2();
        Self {
            flows,
            fragments: MAX_FRAGMENTS,
            reverse: flows / 2,
            affinity: flows / 2,
            conversations: flows,
        }
    }

    pub fn of_machine() -> io::Result<Self> {
        let info = nix::sys::sysinfo::sysinfo()?;
        Ok(Self::of_memory(info.ram_total()))
    }

    /// By the maps' names.
    pub fn by_name(&self) -> [(&'static str, u32); 5] {
        [
            (maps::FLOWS, self.flows),
            (maps::FRAGMENTS, self.fragments),
            (maps::REVERSE, self.reverse),
            (maps::AFFINITY, self.affinity),
            (maps::CONVERSATIONS, self.conversations),
        ]
    }
}

#[cfg(test)]
mod tests {
    use vetch_ebpf_common::{MAX_AFFINITY, MAX_FLOWS, MAX_REVERSE};

    use super::*;

    #[test]
    fn tables_grow_with_the_memory() {
        const GIB: u64 = 1 << 30;
        for (memory, flows) in [
            (0, 1 << 14),
            (GIB, 1 << 14),
            (4 * GIB, 1 << 15),
            // What the kernel leaves of 8.
            (8 * GIB - GIB / 16, 1 << 15),
            (16 * GIB, MAX_FLOWS),
            (128 * GIB, 1 << 20),
            (1024 * GIB, 1 << 20),
        ] {
            assert_eq!(TableSizes::of_memory(memory).flows, flows, "{memory}");
        }
        let sizes = TableSizes::of_memory(16 * GIB);
        assert_eq!((sizes.reverse, sizes.affinity), (MAX_REVERSE, MAX_AFFINITY));
    }
}
