//! What a service-port is: where its backends are, and how one is chosen.

use crate::Frontend;

/// `slot_base` (22 bits), number of `cluster` and of `local` backends (16
/// bits each), `generation` (10 bits).
///
/// The block of slots has the cluster's backends first and the node's own
/// behind them. One aligned 8-byte store of the word moves every client of a
/// service-port to another block at one instant. The generation tells a reader
/// that was slow whether the block it looks at is still the one it was sent to.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceWord(u64);

const BASE_BITS: u32 = 22;
const COUNT_BITS: u32 = 16;
const GENERATION_BITS: u32 = 10;
const LOCAL_SHIFT: u32 = BASE_BITS + COUNT_BITS;
const GENERATION_SHIFT: u32 = LOCAL_SHIFT + COUNT_BITS;

const _: () = assert!(GENERATION_SHIFT + GENERATION_BITS == u64::BITS);
const _: () = assert!(size_of::<ServiceWord>() == 8);
const _: () = assert!(crate::MAX_SLOTS <= 1 << BASE_BITS);

impl ServiceWord {
    /// The most backends of one service-port, in each of the two lists.
    pub const MAX_BACKENDS: usize = (1 << COUNT_BITS) - 1;

    pub const fn new(slot_base: u32, cluster: u16, local: u16, generation: u32) -> Self {
        let base = (slot_base & ((1 << BASE_BITS) - 1)) as u64;
        let generation = (generation & ((1 << GENERATION_BITS) - 1)) as u64;
        Self(
            base | (cluster as u64) << BASE_BITS
                | (local as u64) << LOCAL_SHIFT
                | generation << GENERATION_SHIFT,
        )
    }

    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    #[inline(always)]
    pub const fn bits(self) -> u64 {
        self.0
    }

    #[inline(always)]
    pub const fn slot_base(self) -> u32 {
        (self.0 & ((1 << BASE_BITS) - 1)) as u32
    }

    /// Backends for clients that may be sent anywhere.
    #[inline(always)]
    pub const fn cluster(self) -> u32 {
        ((self.0 >> BASE_BITS) & ((1 << COUNT_BITS) - 1)) as u32
    }

    /// Backends on this node, for policy Local.
    #[inline(always)]
    pub const fn local(self) -> u32 {
        ((self.0 >> LOCAL_SHIFT) & ((1 << COUNT_BITS) - 1)) as u32
    }

    #[inline(always)]
    pub const fn generation(self) -> u32 {
        (self.0 >> GENERATION_SHIFT) as u32
    }

    /// The generation after this one; 0 is kept for slots that belong to none.
    pub const fn next_generation(self) -> u32 {
        let next = (self.generation() + 1) & ((1 << GENERATION_BITS) - 1);
        if next == 0 { 1 } else { next }
    }
}

/// How a service-port treats its clients. One word in the map, stored before
/// the [`ServiceWord`]: any mixture of an old and a new one is valid.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    flags: u32,
    affinity_seconds: u32,
}

const _: () = assert!(size_of::<Terms>() == 8);

impl Terms {
    /// `internalTrafficPolicy: Local`.
    pub const INTERNAL_LOCAL: u32 = 1;
    /// `externalTrafficPolicy: Local`.
    pub const EXTERNAL_LOCAL: u32 = 2;
    /// `sessionAffinity: ClientIP`.
    pub const AFFINITY: u32 = 4;
    /// The client's address chooses among the slots (a Maglev table) instead
    /// of chance.
    pub const HASH: u32 = 8;
    /// Of two slots that chance chooses, the one whose backend has fewer live
    /// connections with this node.
    pub const LEAST: u32 = 16;

    /// The upper half of the flags tells one bearer of a service-port's number
    /// from the next.
    const INCARNATION_SHIFT: u32 = 16;

    #[inline(always)]
    pub const fn new(flags: u32, affinity_seconds: u32) -> Self {
        Self {
            flags,
            affinity_seconds,
        }
    }

    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Self {
        Self::new(bits as u32, (bits >> 32) as u32)
    }

    pub const fn bits(self) -> u64 {
        self.flags as u64 | (self.affinity_seconds as u64) << 32
    }

    #[inline(always)]
    pub const fn has(self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Which bearer of the service-port's number these are the terms of: a
    /// connection that outlives its service is not counted for another.
    #[inline(always)]
    pub const fn incarnation(self) -> u16 {
        (self.flags >> Self::INCARNATION_SHIFT) as u16
    }

    pub const fn with_incarnation(self, incarnation: u16) -> Self {
        let flags = self.flags & ((1 << Self::INCARNATION_SHIFT) - 1);
        Self {
            flags: flags | (incarnation as u32) << Self::INCARNATION_SHIFT,
            ..self
        }
    }

    /// `sessionAffinityConfig.clientIP.timeoutSeconds`.
    #[inline(always)]
    pub const fn affinity_seconds(self) -> u32 {
        self.affinity_seconds
    }

    /// Which of the two lists serves a client. Clients inside (pods, the node)
    /// reach every endpoint by an external address too: Kubernetes' short
    /// circuit.
    #[inline(always)]
    pub const fn list(self, frontend: &Frontend, from: From) -> List {
        let local = if frontend.has(Frontend::EXTERNAL) {
            matches!(from, From::Outside) && self.has(Self::EXTERNAL_LOCAL)
        } else {
            self.has(Self::INTERNAL_LOCAL)
        };
        if local { List::Local } else { List::Cluster }
    }
}

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// In a pod of this node, or one of its processes.
    Inside,
    Outside,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    Cluster,
    Local,
}

/// What the programs find under a service-port's number.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Service {
    word: ServiceWord,
    terms: Terms,
}

const _: () = assert!(size_of::<Service>() == 16);

impl Service {
    /// In words of 8 bytes.
    pub const WORDS: usize = size_of::<Self>() / 8;
    pub const WORD: usize = core::mem::offset_of!(Service, word) / 8;
    pub const TERMS: usize = core::mem::offset_of!(Service, terms) / 8;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_touch_each_other() {
        for (base, cluster, local, generation) in [
            (0, 0, 0, 0),
            ((1 << 22) - 1, 0, 0, 0),
            (0, u16::MAX, 0, 0),
            (0, 0, u16::MAX, 0),
            (0, 0, 0, (1 << 10) - 1),
            (12345, 678, 90, 12),
        ] {
            let word = ServiceWord::new(base, cluster, local, generation);
            assert_eq!(
                (
                    word.slot_base(),
                    word.cluster(),
                    word.local(),
                    word.generation()
                ),
                (base, cluster.into(), local.into(), generation)
            );
            assert_eq!(ServiceWord::from_bits(word.bits()), word);
        }
        let terms = Terms::new(Terms::AFFINITY | Terms::HASH, 10_800);
        assert_eq!(Terms::from_bits(terms.bits()), terms);
        for incarnation in [1, u16::MAX, 0] {
            let born = terms.with_incarnation(7).with_incarnation(incarnation);
            assert_eq!(born.incarnation(), incarnation);
            assert_eq!(born.affinity_seconds(), 10_800);
            assert!(born.has(Terms::AFFINITY) && !born.has(Terms::LEAST));
        }
    }

    #[test]
    fn the_generation_wraps_past_zero() {
        assert_eq!(ServiceWord::default().next_generation(), 1);
        assert_eq!(
            ServiceWord::new(0, 0, 0, (1 << 10) - 1).next_generation(),
            1
        );
    }

    #[test]
    fn policies_choose_the_list() {
        let (inside, outside) = (From::Inside, From::Outside);
        let cluster_ip = Frontend::new(1, 0);
        let node_port = Frontend::new(1, Frontend::EXTERNAL);
        for (flags, frontend, from, list) in [
            (0, cluster_ip, inside, List::Cluster),
            (0, node_port, outside, List::Cluster),
            (Terms::INTERNAL_LOCAL, cluster_ip, inside, List::Local),
            (Terms::INTERNAL_LOCAL, cluster_ip, outside, List::Local),
            (Terms::INTERNAL_LOCAL, node_port, outside, List::Cluster),
            (Terms::EXTERNAL_LOCAL, node_port, outside, List::Local),
            (Terms::EXTERNAL_LOCAL, node_port, inside, List::Cluster),
            (Terms::EXTERNAL_LOCAL, cluster_ip, inside, List::Cluster),
        ] {
            assert_eq!(
                Terms::new(flags, 0).list(&frontend, from),
                list,
                "{flags} {frontend:?} {from:?}"
            );
        }
    }
}
