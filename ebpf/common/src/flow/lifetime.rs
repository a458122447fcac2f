//! What is known of a conversation's two ends, and how long to wait for more.

/// Whose packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The client's.
    Original,
    /// The backend's.
    Reply,
}

/// What becomes of a flow with the client's next packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Kept,
    /// Kept if the backend still serves. TCP's end with their ends, datagrams
    /// leave a backend that is gone.
    IfServing,
    /// A backend is chosen as if there were no flow.
    Anew,
}

/// How far a conversation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    New,
    Answered,
    /// One end has said that it is done.
    Closing,
    Closed,
}

impl Phase {
    pub const ALL: [Self; 4] = [Self::New, Self::Answered, Self::Closing, Self::Closed];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Answered => "answered",
            Self::Closing => "closing",
            Self::Closed => "closed",
        }
    }
}

const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// What the two ends have said.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State(u8);

const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;

impl State {
    /// Flags of a TCP header.
    pub const FIN: u8 = 1;
    pub const SYN: u8 = 2;
    pub const RST: u8 = 4;
    pub const ACK: u8 = 16;

    const ANSWERED: u8 = 1;
    const CLIENT_DONE: u8 = 2;
    const BACKEND_DONE: u8 = 4;
    const BOTH_DONE: u8 = Self::CLIENT_DONE | Self::BACKEND_DONE;
    const RESET: u8 = 8;

    #[inline(always)]
    pub const fn new() -> Self {
        Self(0)
    }

    /// After a packet; `tcp_flags` is 0 for other protocols. Nothing is taken
    /// back: the next conversation on the same ports begins with a new flow.
    #[inline(always)]
    pub const fn after(self, direction: Direction, tcp_flags: u8) -> Self {
        let (mut said, done) = match direction {
            Direction::Original => (0, Self::CLIENT_DONE),
            Direction::Reply => (Self::ANSWERED, Self::BACKEND_DONE),
        };
        if tcp_flags & Self::FIN != 0 {
            said |= done;
        }
        if tcp_flags & Self::RST != 0 {
            said |= Self::RESET;
        }
        Self(self.0 | said)
    }

    /// What a later packet of the client's says of a backend whose answers go
    /// past this node. Who goes on has been answered. After its own FIN a
    /// client says nothing by which the backend's could be known, so its own
    /// stands for both.
    #[inline(always)]
    pub const fn implied(protocol: u8, tcp_flags: u8) -> Self {
        if protocol != TCP {
            return Self(Self::ANSWERED);
        }
        let mut said = 0;
        if tcp_flags & (Self::SYN | Self::ACK) == Self::ACK {
            said |= Self::ANSWERED;
        }
        if tcp_flags & Self::FIN != 0 {
            said |= Self::BACKEND_DONE;
        }
        Self(said)
    }

    /// What either of two entries knows.
    #[inline(always)]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[inline(always)]
    pub const fn is_answered(self) -> bool {
        self.0 & Self::ANSWERED != 0
    }

    /// One end has said that it is done.
    #[inline(always)]
    pub const fn is_closing(self) -> bool {
        self.0 & (Self::BOTH_DONE | Self::RESET) != 0
    }

    /// Neither end has anything more to say.
    #[inline(always)]
    pub const fn is_closed(self) -> bool {
        self.0 & Self::RESET != 0 || self.0 & Self::BOTH_DONE == Self::BOTH_DONE
    }

    #[inline(always)]
    pub const fn phase(self) -> Phase {
        if self.is_closed() {
            Phase::Closed
        } else if self.is_closing() {
            Phase::Closing
        } else if self.is_answered() {
            Phase::Answered
        } else {
            Phase::New
        }
    }

    /// In nanoseconds, as nf_conntrack and kube-proxy's settings of it have
    /// them, but for TCP's five days.
    #[inline(always)]
    pub const fn lifetime(self, protocol: u8) -> u64 {
        match protocol {
            TCP if self.0 & Self::RESET != 0 => 10 * SECOND,
            TCP if self.is_closed() => 2 * MINUTE,
            // One end may go on for long after the other's FIN: kube-proxy's
            // --conntrack-tcp-timeout-close-wait.
            TCP if self.is_closing() => 60 * MINUTE,
            // Longer than the two hours after which Linux probes idle
            // connections, nine times, 75 s apart.
            TCP if self.is_answered() => 133 * MINUTE,
            TCP => 2 * MINUTE,
            UDP if self.is_answered() => 2 * MINUTE,
            UDP => 30 * SECOND,
            // A question and its answer; a tool goes on asking for as long as it likes.
            ICMP | ICMPV6 => 30 * SECOND,
            // SCTP: heartbeats come every 30 s.
            _ if self.is_answered() => 210 * SECOND,
            _ => 30 * SECOND,
        }
    }
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}
