//! Header blocks are one zlib stream a direction, begun with a dictionary both know (2.6.10.1): a block that is left
//! out, or read wrong, spoils all that follow.

mod dictionary;

use zlib_rs::{Deflate, DeflateError, DeflateFlush, Inflate, InflateError, InflateFlush, Status};

use dictionary::DICTIONARY;

/// What a client may use; ours is smaller.
const MAX_WINDOW_BITS: u8 = 15;
/// The dictionary fits into it, as does a usual block.
const WINDOW_BITS: u8 = 11;
/// Blocks of a few bytes gain nothing from more.
const LEVEL: i32 = 1;
const CHUNK: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ZlibError {
    #[error("it is not compressed by zlib with SPDY/3's dictionary")]
    Invalid,
    #[error("it ends the compressed stream, which goes on as long as the connection")]
    Ended,
    #[error("it has more than {limit} bytes once inflated")]
    TooLong { limit: usize },
    #[error("zlib refuses to compress: {0:?}")]
    Compress(DeflateError),
}

pub struct Decompressor(Inflate);

impl Default for Decompressor {
    fn default() -> Decompressor {
        Decompressor(Inflate::new(true, MAX_WINDOW_BITS))
    }
}

impl Decompressor {
    /// After an error the stream is of no more use.
    pub fn inflate(&mut self, mut block: &[u8], limit: usize) -> Result<Vec<u8>, ZlibError> {
        let mut inflated = Vec::new();
        let mut chunk = [0; CHUNK];
        loop {
            let (read_before, written_before) = (self.0.total_in(), self.0.total_out());
            let status = self
                .0
                .decompress(block, &mut chunk, InflateFlush::SyncFlush);
            let read = since(read_before, self.0.total_in());
            let written = since(written_before, self.0.total_out());
            block = &block[read..];
            inflated.extend_from_slice(&chunk[..written]);
            if inflated.len() > limit {
                return Err(ZlibError::TooLong { limit });
            }
            match status {
                Err(InflateError::NeedDict { .. }) => {
                    let known = self.0.set_dictionary(&DICTIONARY);
                    known.map_err(|_| ZlibError::Invalid)?;
                }
                Err(_) => return Err(ZlibError::Invalid),
                Ok(Status::StreamEnd) => return Err(ZlibError::Ended),
                Ok(_) if block.is_empty() && written < CHUNK => return Ok(inflated),
                Ok(_) if read == 0 && written == 0 => return Err(ZlibError::Invalid),
                Ok(_) => {}
            }
        }
    }
}

pub struct Compressor(Deflate);

impl Compressor {
    pub fn new() -> Result<Compressor, ZlibError> {
        let mut deflate = Deflate::new(LEVEL, true, WINDOW_BITS);
        let known = deflate.set_dictionary(&DICTIONARY);
        known.map_err(ZlibError::Compress)?;
        Ok(Compressor(deflate))
    }

    /// All of the block, so that it can be inflated without the next.
    pub fn deflate(&mut self, mut block: &[u8]) -> Result<Vec<u8>, ZlibError> {
        let mut deflated = Vec::new();
        let mut chunk = [0; CHUNK];
        loop {
            let (read_before, written_before) = (self.0.total_in(), self.0.total_out());
            let status = self.0.compress(block, &mut chunk, DeflateFlush::SyncFlush);
            status.map_err(ZlibError::Compress)?;
            block = &block[since(read_before, self.0.total_in())..];
            let written = since(written_before, self.0.total_out());
            deflated.extend_from_slice(&chunk[..written]);
            // A full chunk may have been too small.
            if written < CHUNK {
                return Ok(deflated);
            }
        }
    }
}

/// At most a slice's length.
fn since(before: u64, now: u64) -> usize {
    (now - before) as usize
}

#[cfg(test)]
mod tests;
