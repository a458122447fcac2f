//! Frames and bytes.
//!
//! ```text
//! control frame                                data frame
//! +-+-------------+---------------+            +-+-----------------------------+
//! |1|  version 3  |     type      |            |0|          stream             |
//! +-+-----+-------+---------------+            +-+-----+-----------------------+
//! | flags |        length         |            | flags |        length         |
//! +-------+-----------------------+            +-------+-----------------------+
//! ```

mod decode;
mod encode;

pub use decode::{DecodeError, Decoder};
pub use encode::Encoder;

const VERSION: u16 = 3;
const CONTROL: u16 = 1 << 15;
/// Of both kinds of frames, in bytes.
const HEAD: usize = 8;
/// The length of a frame has 24 bits.
const LENGTH_LIMIT: usize = (1 << 24) - 1;

/// Of control frames (2.6).
mod kind {
    pub const SYN_STREAM: u16 = 1;
    pub const SYN_REPLY: u16 = 2;
    pub const RST_STREAM: u16 = 3;
    pub const PING: u16 = 6;
    pub const GOAWAY: u16 = 7;
    pub const HEADERS: u16 = 8;
}

/// Of DATA, SYN_STREAM, SYN_REPLY and HEADERS.
const FIN: u8 = 1;
/// Of SYN_STREAM.
const UNIDIRECTIONAL: u8 = 2;

#[cfg(test)]
mod tests;
