//! Conversations with a service, by packet: how the packets of each direction
//! are rewritten, and how long that is remembered.
//!
//! A conversation has two entries, one for each direction, and each can make
//! the other: whichever is left when the map has dropped its least used
//! brings the other back. Of one that is answered past this node there is the
//! client's only.

mod lifetime;
mod tuple;

pub use lifetime::{Direction, Fate, Phase, State};
pub use tuple::Tuple;

use crate::Endpoint;

/// What becomes of the packets with a [`Tuple`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// What they are rewritten to: source, destination or both.
    pub to: Tuple,
    /// When the last one was, to [`Flow::REFRESH`]; `CLOCK_MONOTONIC`.
    pub seen: u64,
    pub service: u32,
    /// The uplink that the client's packets come by; 0 for a client on this
    /// node.
    pub link: u32,
    /// Of the service's word when its backend was known to serve.
    pub generation: u16,
    /// [`Flow::REPLY`], [`Flow::LIVE`], [`Flow::DIRECT`], [`Flow::OUTSIDE`].
    flags: u8,
    pub state: State,
    pad: u32,
}

const _: () = assert!(size_of::<Flow>() == 64);

const SECOND: u64 = 1_000_000_000;

impl Flow {
    /// The backend's packets.
    const REPLY: u8 = 1;
    /// It is counted among its backend's live connections.
    const LIVE: u8 = 2;
    /// Its packets go as they are to the backend's node, which answers the
    /// client itself.
    const DIRECT: u8 = 4;
    /// Between a pod of this node and a host outside the cluster, and no service's.
    const OUTSIDE: u8 = 8;
    /// How often an entry is written at most while nothing happens but packets.
    pub const REFRESH: u64 = SECOND;

    /// The client's direction.
    #[inline(always)]
    pub const fn new(to: Tuple, service: u32, generation: u32, tcp_flags: u8, now: u64) -> Self {
        Self {
            to,
            seen: now,
            service,
            link: 0,
            generation: generation as u16,
            flags: 0,
            state: State::new().after(Direction::Original, tcp_flags),
            pad: 0,
        }
    }

    /// Its service-port balances by live connections.
    #[inline(always)]
    pub const fn count_live(&mut self) {
        self.flags |= Self::LIVE;
    }

    /// Whether it is to be counted, as long as it is not closed.
    #[inline(always)]
    pub const fn is_counted_live(&self) -> bool {
        self.flags & Self::LIVE != 0
    }

    /// From now on it has no other half.
    #[inline(always)]
    pub const fn answer_directly(&mut self) {
        self.flags |= Self::DIRECT;
    }

    /// Whether its answers go past this node.
    #[inline(always)]
    pub const fn is_direct(&self) -> bool {
        self.flags & Self::DIRECT != 0
    }

    /// Its two ends are a pod and a host outside the cluster: what the pod began
    /// goes with another source, what the host began goes as it is.
    #[inline(always)]
    pub const fn cross_border(&mut self) {
        self.flags |= Self::OUTSIDE;
    }

    /// Whether they are. Then it is the business of the node's uplinks alone.
    #[inline(always)]
    pub const fn is_outside(&self) -> bool {
        self.flags & Self::OUTSIDE != 0
    }

    /// What its ends have said after another packet.
    #[inline(always)]
    pub const fn after(&self, direction: Direction, tcp_flags: u8) -> State {
        let state = self.state.after(direction, tcp_flags);
        if self.is_direct() {
            state.with(State::implied(self.to.protocol, tcp_flags))
        } else {
            state
        }
    }

    /// Who answers; `key` is the entry's own.
    #[inline(always)]
    pub const fn backend(&self, key: &Tuple) -> Endpoint {
        match self.direction() {
            Direction::Original => self.to.destination(),
            Direction::Reply => key.source(),
        }
    }

    #[inline(always)]
    pub const fn direction(&self) -> Direction {
        if self.flags & Self::REPLY == 0 {
            Direction::Original
        } else {
            Direction::Reply
        }
    }

    /// The entry of the other direction.
    #[inline(always)]
    pub const fn twin(&self, key: &Tuple) -> (Tuple, Self) {
        let twin = Self {
            to: key.reverse(),
            flags: self.flags ^ Self::REPLY,
            ..*self
        };
        (self.to.reverse(), twin)
    }

    /// Whether its time is over. Going on with it harms nobody; a new
    /// conversation has the right to its ports.
    #[inline(always)]
    pub const fn is_over(&self, now: u64) -> bool {
        // Processors differ by a tick of the coarse clock.
        now.saturating_sub(self.seen) > self.state.lifetime(self.to.protocol)
    }

    #[inline(always)]
    pub const fn needs_refresh(&self, now: u64) -> bool {
        now.saturating_sub(self.seen) >= Self::REFRESH
    }

    /// What a packet of the client's means for the flow. `generation` is the
    /// service's now.
    #[inline(always)]
    pub fn fate(&self, tcp_flags: u8, now: u64, generation: impl FnOnce() -> u32) -> Fate {
        match self.to.protocol {
            lifetime::TCP => {
                let again = tcp_flags & (State::SYN | State::ACK) == State::SYN;
                let anew = again
                    && (self.state.is_closing()
                        || self.is_over(now)
                        // Asked before, not answered, and the backends have changed.
                        || !self.state.is_answered()
                            && self.generation as u32 != generation());
                if anew { Fate::Anew } else { Fate::Kept }
            }
            _ if self.is_over(now) => Fate::Anew,
            lifetime::UDP if self.generation as u32 != generation() => Fate::IfServing,
            _ => Fate::Kept,
        }
    }
}

#[cfg(test)]
mod tests;
