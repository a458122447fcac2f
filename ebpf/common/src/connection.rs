//! A TCP connection whose backend was chosen when it was dialled: what its
//! socket remembers, and what is counted of it.

use crate::Endpoint;

#[cfg(test)]
mod tests;

/// The storage of a socket (`BPF_MAP_TYPE_SK_STORAGE`, 5.2). It goes with the
/// socket, and one that was never pointed at a backend has none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// The service's address, which the application is shown.
    pub dialled: Endpoint,
    pub backend: Endpoint,
    /// When the first packet was about to go; `CLOCK_MONOTONIC`, nanoseconds.
    started: u64,
    /// Received when the other end had acknowledged that this one is done.
    received: u64,
    /// Of the [`Live`](crate::Live) that it is counted in; 0 if in none.
    pub epoch: u64,
    /// The service-port's number, and which bearer of that number it was.
    pub service: u32,
    pub incarnation: u16,
    stage: u8,
    flags: u8,
}

const _: () = assert!(size_of::<Connection>() == 80);

/// A connection that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// What applications gave and got, without headers and what was sent again.
    pub sent: u64,
    pub received: u64,
}

/// States of a TCP socket, from include/net/tcp_states.h.
pub mod tcp {
    pub const ESTABLISHED: u32 = 1;
    pub const FIN_WAIT2: u32 = 5;
    pub const CLOSE: u32 = 7;
    pub const CLOSE_WAIT: u32 = 8;
    pub const LAST_ACK: u32 = 9;
    pub const CLOSING: u32 = 11;
}

impl Connection {
    /// A value of `stage`: there is none, or no more.
    const NONE: u8 = 0;
    /// Pointed at the backend.
    const POINTED: u8 = 1;
    /// On its way to the backend.
    const OPENING: u8 = 2;
    const OPEN: u8 = 3;

    /// A flag: its service-port balances by live connections.
    const LEAST: u8 = 1;
    /// The other end has acknowledged that this one is done.
    const SELF_DONE: u8 = 2;
    const PEER_DONE: u8 = 4;

    #[inline(always)]
    pub const fn new(
        dialled: Endpoint,
        backend: Endpoint,
        service: u32,
        incarnation: u16,
        least: bool,
    ) -> Self {
        Self {
            dialled,
            backend,
            started: 0,
            received: 0,
            epoch: 0,
            service,
            incarnation,
            stage: Self::POINTED,
            flags: if least { Self::LEAST } else { 0 },
        }
    }

    /// Its service-port balances by live connections.
    #[inline(always)]
    pub const fn is_counted_live(&self) -> bool {
        self.flags & Self::LEAST != 0
    }

    /// Whether a socket that is about to send its first packet to `remote` does
    /// that because it was pointed there: it may have failed before and have
    /// dialled another address since, or be at it for the second time.
    #[inline(always)]
    pub fn begin(&mut self, remote: Endpoint, now: u64) -> bool {
        if self.stage != Self::POINTED || remote != self.backend {
            return false;
        }
        self.stage = Self::OPENING;
        self.started = now;
        true
    }

    /// How long it took, in nanoseconds; none for what was not begun here.
    #[inline(always)]
    pub const fn establish(&mut self, now: u64) -> Option<u64> {
        if self.stage != Self::OPENING {
            return None;
        }
        self.stage = Self::OPEN;
        Some(now.saturating_sub(self.started))
    }

    /// It is about to be in the state `to`; `acked` and `received` as `tcp_info`
    /// has them, in which the first packet and each end's last count as a byte
    /// of their own. What was said comes with its end, once.
    ///
    /// Of a connection that is reset after one end was done, that last byte may
    /// be taken for one that was not there.
    #[inline(always)]
    pub const fn change(&mut self, from: u32, to: u32, acked: u64, received: u64) -> Option<Ended> {
        match to {
            tcp::FIN_WAIT2 => {
                self.flags |= Self::SELF_DONE;
                self.received = received;
                None
            }
            tcp::CLOSE_WAIT | tcp::CLOSING => {
                self.flags |= Self::PEER_DONE;
                None
            }
            tcp::CLOSE => self.end(from, acked, received),
            _ => None,
        }
    }

    #[inline(always)]
    const fn end(&mut self, from: u32, acked: u64, received: u64) -> Option<Ended> {
        let (stage, flags) = (self.stage, self.flags);
        if stage < Self::OPENING {
            return None;
        }
        self.stage = Self::NONE;
        let waited = flags & Self::SELF_DONE != 0;
        let self_done = waited || from == tcp::LAST_ACK || from == tcp::CLOSING;
        // A socket nobody holds any more leaves the wait for the other end's
        // last packet to the kernel, and ends before it has come.
        let peer_done = flags & Self::PEER_DONE != 0 || waited && received > self.received;
        Some(Ended {
            sent: acked.saturating_sub(1 + self_done as u64),
            received: received.saturating_sub(peer_done as u64),
        })
    }
}
