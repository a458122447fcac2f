//! From frames to bytes.

use bytes::{BufMut as _, BytesMut};

use super::{CONTROL, FIN, LENGTH_LIMIT, UNIDIRECTIONAL, VERSION, kind};
use crate::block::Headers;
use crate::frame::Frame;
use crate::zlib::{Compressor, ZlibError};

/// One direction of a connection.
pub struct Encoder {
    compressor: Compressor,
}

impl Encoder {
    pub fn new() -> Result<Encoder, ZlibError> {
        Ok(Encoder {
            compressor: Compressor::new()?,
        })
    }

    /// Appends the frame to `output`. Headers have to be few enough for a frame; data is divided where it is not.
    pub fn encode(&mut self, frame: &Frame, output: &mut BytesMut) -> Result<(), ZlibError> {
        match frame {
            Frame::SynStream {
                stream,
                associated,
                priority,
                fin,
                unidirectional,
                headers,
            } => {
                let block = self.block(headers)?;
                let flags = flag(*fin, FIN) | flag(*unidirectional, UNIDIRECTIONAL);
                head(output, kind::SYN_STREAM, flags, 10 + block.len());
                output.put_u32(*stream);
                output.put_u32(*associated);
                output.put_slice(&[priority << 5, 0]);
                output.put_slice(&block);
            }
            Frame::SynReply {
                stream,
                fin,
                headers,
            }
            | Frame::Headers {
                stream,
                fin,
                headers,
            } => {
                let kind = match frame {
                    Frame::SynReply { .. } => kind::SYN_REPLY,
                    _ => kind::HEADERS,
                };
                let block = self.block(headers)?;
                head(output, kind, flag(*fin, FIN), 4 + block.len());
                output.put_u32(*stream);
                output.put_slice(&block);
            }
            Frame::RstStream { stream, status } => {
                head(output, kind::RST_STREAM, 0, 8);
                output.put_u32(*stream);
                output.put_u32(status.0);
            }
            Frame::Ping(number) => {
                head(output, kind::PING, 0, 4);
                output.put_u32(*number);
            }
            Frame::GoAway { last, status } => {
                head(output, kind::GOAWAY, 0, 8);
                output.put_u32(*last);
                output.put_u32(status.0);
            }
            Frame::Data { stream, fin, bytes } => {
                let mut bytes = &bytes[..];
                loop {
                    let (now, later) = bytes.split_at(bytes.len().min(LENGTH_LIMIT));
                    output.put_u32(*stream);
                    output.put_u8(flag(*fin && later.is_empty(), FIN));
                    output.put_uint(now.len() as u64, 3);
                    output.put_slice(now);
                    if later.is_empty() {
                        break;
                    }
                    bytes = later;
                }
            }
        }
        Ok(())
    }

    fn block(&mut self, headers: &Headers) -> Result<Vec<u8>, ZlibError> {
        self.compressor.deflate(&headers.write())
    }
}

fn flag(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

fn head(output: &mut BytesMut, kind: u16, flags: u8, length: usize) {
    output.put_u16(CONTROL | VERSION);
    output.put_u16(kind);
    output.put_u8(flags);
    output.put_uint(length as u64, 3);
}
