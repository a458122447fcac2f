//! A conversation that rules have let pass.

use super::PolicyType;
use crate::{Direction, State};

/// A pod's part in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Who sent the first packet.
    Initiator,
    Responder,
}

impl End {
    /// By whose rules the end is held.
    #[inline(always)]
    pub const fn policy(self) -> PolicyType {
        match self {
            Self::Initiator => PolicyType::Egress,
            Self::Responder => PolicyType::Ingress,
        }
    }
}

/// What is remembered of it, by the tuple of its first packet. Each end that is
/// a pod's here and selected by a policy has to let it pass for itself: that it
/// is known says nothing to the other.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// `CLOCK_MONOTONIC`, to a tick.
    pub seen: u64,
    /// In which tick the end's rules let it pass last; 0 for never.
    judged: [u32; 2],
    pub state: State,
    pad: [u8; 7],
}

const _: () = assert!(size_of::<Conversation>() == 24);

impl Conversation {
    #[inline(always)]
    pub const fn new(now: u64, direction: Direction, tcp_flags: u8) -> Self {
        Self {
            seen: now,
            judged: [0; 2],
            state: State::new().after(direction, tcp_flags),
            pad: [0; 7],
        }
    }

    /// 1.07 s: for so long an answer of the rules holds.
    #[inline(always)]
    pub const fn tick(now: u64) -> u32 {
        // Never 0.
        (now >> 30) as u32 | 1 << 31
    }

    #[inline(always)]
    pub const fn judge(&mut self, end: End, now: u64) {
        self.judged[end as usize] = Self::tick(now);
    }

    /// Whether what the end's rules said last holds; None if so much time has gone
    /// without a packet that the conversation is over. Whoever was never asked, or did
    /// not let it pass, is to be asked: who began it is known.
    #[inline(always)]
    pub const fn standing(&self, end: End, protocol: u8, now: u64) -> Option<Standing> {
        if now.saturating_sub(self.seen) > self.state.lifetime(protocol) {
            None
        } else if self.judged[end as usize] == Self::tick(now) {
            Some(Standing::Holds)
        } else {
            Some(Standing::Due)
        }
    }

    /// As if all of it had been so much earlier, in nanoseconds: for tests.
    pub const fn aged(mut self, by: u64) -> Self {
        self.seen = self.seen.saturating_sub(by);
        let mut end = 0;
        while end < self.judged.len() {
            if self.judged[end] != 0 {
                self.judged[end] = self.judged[end].wrapping_sub((by >> 30) as u32) | 1 << 31;
            }
            end += 1;
        }
        self
    }

    /// Takes over what the other end of the same conversation was told.
    #[inline(always)]
    pub const fn with_judged(mut self, other: &Self) -> Self {
        self.judged = other.judged;
        self
    }
}

/// How an end's rules stand to a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// They let it pass in this tick.
    Holds,
    /// To be asked, or asked again: policies and peers change.
    Due,
}
