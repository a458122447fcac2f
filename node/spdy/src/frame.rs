//! What the two ends say to each other.

use bytes::Bytes;

use crate::block::Headers;

/// 31 bits. The client's are odd, and each is higher than the one before.
pub type StreamId = u32;

/// The bits of a stream's number.
pub const STREAM_BITS: u32 = 0x7fff_ffff;

/// A frame, as far as a server has use for it. SETTINGS, WINDOW_UPDATE, CREDENTIAL and what is unknown is not among
/// them. The numbers in parentheses are the draft's sections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Opens a stream (2.6.1).
    SynStream {
        stream: StreamId,
        /// The stream it belongs to, or 0.
        associated: StreamId,
        /// From 0, the highest, to 7.
        priority: u8,
        /// The sender has nothing to say on it.
        fin: bool,
        /// The receiver has nothing to say on it.
        unidirectional: bool,
        headers: Headers,
    },
    /// Accepts one (2.6.2).
    SynReply {
        stream: StreamId,
        fin: bool,
        headers: Headers,
    },
    /// Ends one both ways, at once (2.6.3).
    RstStream { stream: StreamId, status: Reset },
    /// Comes back as it is from who did not begin it; the client's numbers are odd (2.6.5).
    Ping(u32),
    /// No stream after `last` will be looked at (2.6.6).
    GoAway { last: StreamId, status: GoAway },
    /// More headers of a stream (2.6.7).
    Headers {
        stream: StreamId,
        fin: bool,
        headers: Headers,
    },
    /// A stream's bytes (2.2.2). Decoded, a frame comes in pieces as the connection has them: the last one has its
    /// `fin`.
    Data {
        stream: StreamId,
        fin: bool,
        bytes: Bytes,
    },
}

/// Why a stream is reset (2.6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset(pub u32);

impl Reset {
    pub const PROTOCOL_ERROR: Reset = Reset(1);
    pub const INVALID_STREAM: Reset = Reset(2);
    pub const REFUSED_STREAM: Reset = Reset(3);
    pub const CANCEL: Reset = Reset(5);
}

/// Why a connection ends (2.6.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoAway(pub u32);

impl GoAway {
    pub const OK: GoAway = GoAway(0);
    pub const PROTOCOL_ERROR: GoAway = GoAway(1);
}
