//! A stream, as its owner has it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::READ;
use crate::block::Headers;
use crate::frame::StreamId;

/// The client has reset the stream, or the connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream is no more")]
pub struct Closed;

/// Reset when both its halves are dropped before both have ended.
pub struct Stream {
    pub id: StreamId,
    /// What it was opened with.
    pub headers: Headers,
    pub input: Input,
    pub output: Output,
}

/// What the client says.
pub struct Input {
    pieces: mpsc::Receiver<Piece>,
    ended: bool,
    _handle: Arc<Handle>,
}

/// What the client is told.
pub struct Output {
    handle: Arc<Handle>,
    ended: bool,
}

/// What comes to a stream.
pub struct Piece {
    pub bytes: Bytes,
    /// Nothing comes after it.
    pub ended: bool,
}

/// What comes from one.
pub enum Said {
    Bytes {
        stream: StreamId,
        bytes: Bytes,
        /// Makes room for another when it is dropped.
        _room: OwnedSemaphorePermit,
    },
    End(StreamId),
    /// Nobody has it any more.
    Dropped(StreamId),
}

/// What both halves hold.
pub struct Handle {
    id: StreamId,
    said: mpsc::UnboundedSender<Said>,
    /// In pieces; for all streams of the connection.
    room: Arc<Semaphore>,
    gone: CancellationToken,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let _ = self.said.send(Said::Dropped(self.id));
    }
}

impl Stream {
    /// `ended`: the client has nothing to say on it.
    pub(super) fn new(
        id: StreamId,
        headers: Headers,
        ended: bool,
        pieces: mpsc::Receiver<Piece>,
        (said, room, gone): (
            mpsc::UnboundedSender<Said>,
            Arc<Semaphore>,
            CancellationToken,
        ),
    ) -> Stream {
        let handle = Arc::new(Handle {
            id,
            said,
            room,
            gone,
        });
        Stream {
            id,
            headers,
            input: Input {
                pieces,
                ended,
                _handle: handle.clone(),
            },
            output: Output {
                handle,
                ended: false,
            },
        }
    }
}

impl Input {
    /// The next bytes; `None` when the client has said all. May be dropped and called again.
    pub async fn read(&mut self) -> Result<Option<Bytes>, Closed> {
        while !self.ended {
            let Piece { bytes, ended } = self.pieces.recv().await.ok_or(Closed)?;
            self.ended = ended;
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }
}

impl Output {
    /// Returns when all of it is on its way; dropped before, some of it may be.
    pub async fn write(&self, bytes: impl Into<Bytes>) -> Result<(), Closed> {
        let mut bytes = bytes.into();
        let Handle {
            id,
            said,
            room,
            gone,
        } = &*self.handle;
        while !bytes.is_empty() {
            let room = tokio::select! {
                biased;
                () = gone.cancelled() => return Err(Closed),
                room = room.clone().acquire_owned() => room.map_err(|_| Closed)?,
            };
            let piece = Said::Bytes {
                stream: *id,
                bytes: bytes.split_to(bytes.len().min(READ)),
                _room: room,
            };
            said.send(piece).map_err(|_| Closed)?;
        }
        Ok(())
    }

    /// Nothing comes after what was written. The client's half stays as it is.
    pub fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            // Who is gone needs no end.
            let _ = self.handle.said.send(Said::End(self.handle.id));
        }
    }

    /// Returns when nothing that is written arrives any more.
    pub fn closed(&self) -> WaitForCancellationFutureOwned {
        self.handle.gone.clone().cancelled_owned()
    }
}
