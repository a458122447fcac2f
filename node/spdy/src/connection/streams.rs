//! Who owns which stream, and how it gets to know.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::stream::{Piece, Said, Stream};
use super::{PIECES, SAID, WAITING};
use crate::frame::StreamId;
use crate::session::Event;

pub struct Streams {
    /// Weak: who may still say something has one.
    said: mpsc::WeakUnboundedSender<Said>,
    room: Arc<Semaphore>,
    owned: HashMap<StreamId, Owned>,
    opened: mpsc::Sender<Stream>,
}

struct Owned {
    pieces: mpsc::Sender<Piece>,
    /// Tells the owner when it is dropped.
    _gone: DropGuard,
}

/// Something that waits until its owner has room for it.
pub enum Next {
    Opened(Stream),
    Piece(mpsc::Sender<Piece>, Piece),
}

impl Streams {
    /// With what comes out of it.
    pub fn new(said: mpsc::WeakUnboundedSender<Said>) -> (Streams, mpsc::Receiver<Stream>) {
        let (opened, streams) = mpsc::channel(WAITING);
        let all = Streams {
            said,
            room: Arc::new(Semaphore::new(SAID)),
            owned: HashMap::new(),
            opened,
        };
        (all, streams)
    }

    pub fn next(&mut self, event: Event) -> Option<Next> {
        match event {
            Event::Opened {
                stream,
                headers,
                ended,
            } => {
                // Without it nobody is left who would answer, and the connection is about to end.
                let said = self.said.upgrade()?;
                let (pieces, receiver) = mpsc::channel(PIECES);
                let gone = CancellationToken::new();
                let parts = (said, self.room.clone(), gone.clone());
                self.owned.insert(
                    stream,
                    Owned {
                        pieces,
                        _gone: gone.drop_guard(),
                    },
                );
                let stream = Stream::new(stream, headers, ended, receiver, parts);
                Some(Next::Opened(stream))
            }
            Event::Bytes {
                stream,
                bytes,
                ended,
            } => {
                let to = self.owned.get(&stream)?.pieces.clone();
                Some(Next::Piece(to, Piece { bytes, ended }))
            }
            Event::Reset(stream) => {
                self.forget(stream);
                None
            }
        }
    }

    /// Returns when it is where it belongs, or nobody wants it. May be dropped and called again.
    pub async fn deliver(&self, next: &mut Option<Next>) {
        match next {
            Some(Next::Opened(_)) => {
                let permit = self.opened.reserve().await;
                if let (Ok(permit), Some(Next::Opened(stream))) = (permit, next.take()) {
                    permit.send(stream);
                }
            }
            Some(Next::Piece(to, _)) => {
                let permit = to.clone().reserve_owned().await;
                if let (Ok(permit), Some(Next::Piece(_, piece))) = (permit, next.take()) {
                    permit.send(piece);
                }
            }
            None => {}
        }
    }

    pub fn forget(&mut self, stream: StreamId) {
        self.owned.remove(&stream);
    }
}
