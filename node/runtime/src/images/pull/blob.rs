//! A blob's bytes, those and as many as its descriptor says: a registry that never ends its answer is
//! left at the first byte too many. containerd compares both, too, when it commits a blob.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};

use crate::images::manifest::{self, Descriptor, Hash};

pub struct Blob<S> {
    inner: S,
    digest: String,
    hash: Hash,
    size: u64,
    seen: u64,
}

impl<S> Blob<S> {
    /// `hash` is of the digest's algorithm.
    pub fn new(inner: S, described: &Descriptor, hash: Hash) -> Blob<S> {
        Blob {
            inner,
            digest: described.digest.clone(),
            hash,
            size: described.size,
            seen: 0,
        }
    }

    fn one(&mut self, bytes: Bytes) -> io::Result<Bytes> {
        self.seen += bytes.len() as u64;
        if self.seen > self.size {
            let (digest, size) = (&self.digest, self.size);
            return Err(wrong(format!(
                "{digest} is over the {size} bytes that its manifest says"
            )));
        }
        self.hash.update(&bytes);
        Ok(bytes)
    }

    fn end(&mut self) -> Option<io::Error> {
        let Blob {
            digest,
            hash,
            size,
            seen,
            ..
        } = self;
        let algorithm = digest
            .split_once(':')
            .map_or("", |(algorithm, _)| algorithm);
        let got = format!("{algorithm}:{}", manifest::hex(&hash.finalize_reset()));
        if got != *digest {
            return Some(wrong(format!("expected {digest}, got {got}")));
        }
        (seen != size).then(|| {
            wrong(format!(
                "{digest} has {seen} bytes, and its manifest says {size}"
            ))
        })
    }
}

fn wrong(words: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, words)
}

impl<S: Stream<Item = io::Result<Bytes>> + Unpin> Stream for Blob<S> {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(match ready!(self.inner.poll_next_unpin(context)) {
            Some(Ok(bytes)) => Some(self.one(bytes)),
            Some(Err(error)) => Some(Err(error)),
            None => self.end().map(Err),
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::{TryStreamExt as _, stream};

    use super::*;

    #[tokio::test]
    async fn neither_other_bytes_nor_more_nor_less() {
        let abc = manifest::digest_of(b"abc");
        let ab = manifest::digest_of(b"ab");
        let long = manifest::digest_like(&format!("sha512:{}", "0".repeat(128)), b"abc").unwrap();
        for (chunks, digest, size, want) in [
            (&["ab", "c"][..], &abc, 3, Ok(3)),
            (&["a", "bc"], &long, 3, Ok(3)),
            (&[], &manifest::digest_of(b""), 0, Ok(0)),
            (
                &["abc", "d"],
                &abc,
                3,
                Err(format!("{abc} is over the 3 bytes that its manifest says")),
            ),
            (
                &["a"],
                &abc,
                0,
                Err(format!("{abc} is over the 0 bytes that its manifest says")),
            ),
            (&["ab"], &abc, 3, Err(format!("expected {abc}, got {ab}"))),
            (
                &["abc"],
                &abc,
                4,
                Err(format!("{abc} has 3 bytes, and its manifest says 4")),
            ),
        ] {
            let chunks = stream::iter(chunks.iter().map(|text| Ok(Bytes::from(*text))));
            let described = Descriptor {
                digest: digest.clone(),
                size,
                platform: None,
                annotations: Default::default(),
            };
            let hash = manifest::hash_of(digest).unwrap();
            let got = Blob::new(chunks, &described, hash)
                .try_fold(0, |sum, bytes| async move { Ok(sum + bytes.len()) })
                .await;
            assert_eq!(got.map_err(|error| error.to_string()), want);
        }
    }
}
