//! SPDY/3.1, the framing of streams that HTTP/2 came from, as a server speaks it.
//!
//! [`Decoder`] and [`Encoder`] turn bytes into [`Frame`]s and back, the session decides what a frame means, and
//! [`serve`] runs both over any connection: the client opens [`Stream`]s, which are read and written side by side. What
//! the streams are for is the caller's to know.
//!
//! The protocol is `spdy-protocol-draft3-1` of chromium.org, with what its one living implementation, moby/spdystream,
//! makes of it: it neither sends nor heeds SETTINGS and WINDOW_UPDATE. Nor does this: a stream that is not read holds up
//! its whole connection, as there, and memory is bounded by [`STREAMS`] times a few reads.

mod block;
mod codec;
mod connection;
mod frame;
mod session;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod zlib;

pub use block::{BlockError, Headers};
pub use codec::{DecodeError, Decoder, Encoder};
pub use connection::{Closed, Error, Incoming, Input, Output, Stream, serve};
pub use frame::{Frame, GoAway, Reset, StreamId};
pub use session::{STREAMS, SessionError};
pub use zlib::ZlibError;
