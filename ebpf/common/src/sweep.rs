//! What a sweep of the connection tables takes away, and what it counts.

use crate::{Flow, Phase};

/// What a sweep found. Halves are entries of `FLOWS`, of which a conversation
/// has two.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// When it began: `CLOCK_MONOTONIC`, which flows and fragments are timed by…
    pub now: u64,
    /// …and `CLOCK_BOOTTIME`, for affinity.
    pub boot: u64,
    /// Clients' halves that stay, by [`Sweep::index`].
    pub live: [u32; Self::KINDS],
    /// Backends' halves that stay. More or fewer than the clients' means that
    /// the least used were dropped.
    pub replies: u32,
    /// Conversations whose time was over.
    pub expired: u32,
    /// Those of them that had one half only.
    pub orphans: u32,
    pub affinity: u32,
    pub affinity_expired: u32,
    pub fragments: u32,
    pub fragments_expired: u32,
    /// Entries of `REVERSE`: who of them is closed cannot be told by a program.
    pub reverse: u32,
    pub traffic: u32,
    pad: u32,
}

const _: () = assert!(size_of::<Sweep>() == 120);

impl Sweep {
    /// The protocols that have flows, in the order of their indices; ICMPv6 is
    /// counted with ICMP.
    pub const PROTOCOLS: [u8; 4] = [6, 17, 132, 1];
    const KINDS: usize = Self::PROTOCOLS.len() * Phase::ALL.len();

    /// Of a protocol and what its two ends have said.
    #[inline(always)]
    pub const fn index(protocol: u8, phase: Phase) -> usize {
        let protocol = match protocol {
            6 => 0,
            17 => 1,
            132 => 2,
            _ => 3,
        };
        protocol * Phase::ALL.len() + phase as usize
    }

    /// Entries of `FLOWS` that stay.
    pub fn flows(&self) -> u32 {
        self.live.iter().sum::<u32>() + self.replies
    }

    /// Nothing yet.
    #[inline(always)]
    pub const fn at(now: u64, boot: u64) -> Self {
        Self {
            now,
            boot,
            live: [0; Self::KINDS],
            replies: 0,
            expired: 0,
            orphans: 0,
            affinity: 0,
            affinity_expired: 0,
            fragments: 0,
            fragments_expired: 0,
            reverse: 0,
            traffic: 0,
            pad: 0,
        }
    }
}

impl Flow {
    /// Whether both halves' time is over by what either of them knows. Packets
    /// write to both, yet not at one instant.
    #[inline(always)]
    pub const fn is_over_with(&self, twin: &Self, now: u64) -> bool {
        let seen = if self.seen > twin.seen {
            self.seen
        } else {
            twin.seen
        };
        let state = self.state.with(twin.state);
        now.saturating_sub(seen) > state.lifetime(self.to.protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Address, Direction, Endpoint, State, Tuple};

    const SECOND: u64 = 1_000_000_000;

    fn flow(protocol: u8, seen: u64, state: State) -> Flow {
        let end = Endpoint::new(Address::v4([10, 0, 0, 1]), [0, 80]);
        let mut flow = Flow::new(Tuple::new(end, end, protocol), 1, 1, 0, seen);
        flow.state = state;
        flow
    }

    #[test]
    fn a_pair_is_over_when_both_say_so() {
        let new = State::new();
        let answered = new.after(Direction::Reply, 0);
        let reset = answered.after(Direction::Reply, State::RST);
        let now = 10_000 * SECOND;
        let ago = |seconds: u64| now - seconds * SECOND;
        for (what, protocol, one, other, over) in [
            ("both idle", 17, (31, new), (31, new), true),
            ("at the limit", 17, (30, new), (30, new), false),
            ("one was seen later", 17, (31, new), (29, new), false),
            (
                "one knows of the answer",
                17,
                (31, new),
                (31, answered),
                false,
            ),
            (
                "one knows of the reset",
                6,
                (11, answered),
                (11, reset),
                true,
            ),
            ("reset just now", 6, (300, answered), (9, reset), false),
            ("SCTP", 132, (211, answered), (220, answered), true),
        ] {
            let one = flow(protocol, ago(one.0), one.1);
            let other = flow(protocol, ago(other.0), other.1);
            assert_eq!(one.is_over_with(&other, now), over, "{what}");
            assert_eq!(other.is_over_with(&one, now), over, "{what}, reversed");
        }
    }

    #[test]
    fn every_kind_has_a_place() {
        let mut seen = [false; Sweep::KINDS];
        for protocol in Sweep::PROTOCOLS {
            for phase in Phase::ALL {
                let index = Sweep::index(protocol, phase);
                assert!(!core::mem::replace(&mut seen[index], true));
            }
        }
        assert!(seen.iter().all(|seen| *seen));
        let mut sweep = Sweep::at(1, 2);
        sweep.live = core::array::from_fn(|at| at as u32);
        sweep.replies = 10;
        assert_eq!(sweep.flows(), 130);
    }
}
