//! A layer's bytes, with a limit on those before an entry: long names and extensions are kept in
//! memory whole, and a few kilobytes of a packed layer can be gigabytes of such.

use std::cell::Cell;
use std::io::{self, Read};

/// Of one entry: name, target, extensions and the map of a sparse file. Go's archive/tar, which
/// containerd unpacks with, takes a mebibyte of each (its maxSpecialFileSize).
pub const MAX_DESCRIPTION: u64 = 4 << 20;
/// While an entry's content is read, which nobody keeps.
pub const CONTENT: u64 = u64::MAX;

pub struct Bounded<'a, R> {
    inner: R,
    left: &'a Cell<u64>,
}

impl<'a, R> Bounded<'a, R> {
    /// As many bytes as are `left`, which who reads may set anew.
    pub fn new(inner: R, left: &'a Cell<u64>) -> Bounded<'a, R> {
        Bounded { inner, left }
    }
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 && !bytes.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("an entry is described by over {MAX_DESCRIPTION} bytes"),
            ));
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let length = self.inner.read(&mut bytes[..most])?;
        if left != CONTENT {
            self.left.set(left - length as u64);
        }
        Ok(length)
    }
}
