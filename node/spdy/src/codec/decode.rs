//! From bytes to frames.

use std::ops::RangeInclusive;

use bytes::{Buf as _, Bytes, BytesMut};

use super::{CONTROL, FIN, HEAD, UNIDIRECTIONAL, VERSION, kind};
use crate::block::{BlockError, Headers};
use crate::frame::{Frame, GoAway, Reset, STREAM_BITS, StreamId};
use crate::zlib::{Decompressor, ZlibError};

/// Of a control frame that is looked at. The draft asks for 8 KiB at least (2.2.1).
const CONTROL_LIMIT: usize = 64 * 1024;
/// Of a header block, once inflated.
const BLOCK_LIMIT: usize = 64 * 1024;

/// After it nothing more can be understood: header blocks depend on those before.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("a control frame of version {0}, where version 3 is spoken")]
    Version(u16),
    #[error("a control frame of type {kind} with {length} bytes")]
    Length { kind: u16, length: usize },
    #[error("a frame about stream 0, which is none")]
    NoStream,
    #[error("a header block that cannot be inflated")]
    Zlib(#[from] ZlibError),
    #[error("a header block that cannot be read")]
    Block(#[from] BlockError),
}

/// One direction of a connection.
#[derive(Default)]
pub struct Decoder {
    rest: Rest,
    decompressor: Decompressor,
}

/// What the frame at hand still has.
#[derive(Clone, Copy, Default)]
enum Rest {
    #[default]
    Nothing,
    Data {
        stream: StreamId,
        fin: bool,
        left: usize,
    },
    /// Of a control frame that nobody has use for.
    Ignored(usize),
}

enum Begun {
    Whole(Frame),
    Partly(Rest),
}

impl Decoder {
    /// Takes the next frame, or piece of a DATA frame, off the front of `input`; `None` when more of it is needed.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, DecodeError> {
        loop {
            match self.rest {
                Rest::Nothing => match self.begin(input)? {
                    Some(Begun::Whole(frame)) => return Ok(Some(frame)),
                    Some(Begun::Partly(rest)) => self.rest = rest,
                    None => return Ok(None),
                },
                // One without bytes has a piece too.
                Rest::Data { stream, fin, left } if left == 0 || !input.is_empty() => {
                    let bytes = input.split_to(left.min(input.len())).freeze();
                    let left = left - bytes.len();
                    self.rest = match left {
                        0 => Rest::Nothing,
                        left => Rest::Data { stream, fin, left },
                    };
                    let fin = fin && left == 0;
                    return Ok(Some(Frame::Data { stream, fin, bytes }));
                }
                Rest::Ignored(0) => self.rest = Rest::Nothing,
                Rest::Ignored(left) if !input.is_empty() => {
                    let there = left.min(input.len());
                    input.advance(there);
                    self.rest = Rest::Ignored(left - there);
                }
                Rest::Data { .. } | Rest::Ignored(_) => return Ok(None),
            }
        }
    }

    /// The head of a frame, and with it all of a control frame that is looked at.
    fn begin(&mut self, input: &mut BytesMut) -> Result<Option<Begun>, DecodeError> {
        let Some(&[a, b, c, d, flags, x, y, z]) = input.first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([0, x, y, z]) as usize;
        let first = u16::from_be_bytes([a, b]);
        if first & CONTROL == 0 {
            input.advance(HEAD);
            return Ok(Some(Begun::Partly(Rest::Data {
                stream: some(u32::from_be_bytes([a, b, c, d]))?,
                fin: flags & FIN != 0,
                left: length,
            })));
        }
        let version = first & !CONTROL;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let kind = u16::from_be_bytes([c, d]);
        let Some(lengths) = lengths(kind) else {
            input.advance(HEAD);
            return Ok(Some(Begun::Partly(Rest::Ignored(length))));
        };
        if !lengths.contains(&length) {
            return Err(DecodeError::Length { kind, length });
        }
        if input.len() < HEAD + length {
            return Ok(None);
        }
        input.advance(HEAD);
        let body = input.split_to(length).freeze();
        let frame = self.control(kind, flags, body)?;
        Ok(Some(Begun::Whole(frame)))
    }

    /// `body` has one of its kind's [`lengths`].
    fn control(&mut self, kind: u16, flags: u8, mut body: Bytes) -> Result<Frame, DecodeError> {
        let first = body.get_u32();
        let stream = first & STREAM_BITS;
        let fin = flags & FIN != 0;
        Ok(match kind {
            kind::PING => Frame::Ping(first),
            kind::GOAWAY => Frame::GoAway {
                last: stream,
                status: GoAway(body.get_u32()),
            },
            kind::RST_STREAM => Frame::RstStream {
                stream: some(stream)?,
                status: Reset(body.get_u32()),
            },
            kind::SYN_STREAM => {
                let stream = some(stream)?;
                let associated = body.get_u32() & STREAM_BITS;
                let priority = body.get_u8() >> 5;
                // A slot of CREDENTIAL frames, which nobody sends.
                body.advance(1);
                Frame::SynStream {
                    stream,
                    associated,
                    priority,
                    fin,
                    unidirectional: flags & UNIDIRECTIONAL != 0,
                    headers: self.headers(&body)?,
                }
            }
            kind::SYN_REPLY => Frame::SynReply {
                stream: some(stream)?,
                fin,
                headers: self.headers(&body)?,
            },
            _ => Frame::Headers {
                stream: some(stream)?,
                fin,
                headers: self.headers(&body)?,
            },
        })
    }

    fn headers(&mut self, block: &[u8]) -> Result<Headers, DecodeError> {
        let block = self.decompressor.inflate(block, BLOCK_LIMIT)?;
        Ok(Headers::read(&block)?)
    }
}

/// How long a frame of the kind may be; `None`: it is ignored, as long as it may be.
fn lengths(kind: u16) -> Option<RangeInclusive<usize>> {
    match kind {
        kind::SYN_STREAM => Some(10..=CONTROL_LIMIT),
        kind::SYN_REPLY | kind::HEADERS => Some(4..=CONTROL_LIMIT),
        kind::RST_STREAM | kind::GOAWAY => Some(8..=8),
        kind::PING => Some(4..=4),
        _ => None,
    }
}

fn some(stream: StreamId) -> Result<StreamId, DecodeError> {
    match stream {
        0 => Err(DecodeError::NoStream),
        stream => Ok(stream),
    }
}
