//! A connection, and the streams its client opens.
//!
//! One task reads, writes and hands out. It holds one piece of what the client said at most: while that piece's stream
//! has no room nothing is read, so that a client is held up by who does not listen, as with spdystream. What is to be
//! written does not wait for that.

mod stream;
mod streams;

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at, sleep_until, timeout};

use crate::block::Headers;
use crate::codec::{DecodeError, Decoder, Encoder};
use crate::frame::{Frame, GoAway};
use crate::session::{Event, Heard, Session, SessionError};
use crate::zlib::ZlibError;
use stream::Said;
use streams::Streams;

pub use stream::{Closed, Input, Output, Stream};

/// What is read at once, in bytes: a piece is no longer.
const READ: usize = 32 * 1024;
/// Pieces a stream holds before the connection waits for it.
const PIECES: usize = 4;
/// Opened streams that nobody has looked at.
const WAITING: usize = 16;
/// Pieces of all streams that wait to be written.
const SAID: usize = 8;
/// More bytes are not taken before these are written.
const OUTPUT_LIMIT: usize = 64 * 1024;
/// A client that vanished without a word is found out by what it does not acknowledge.
const PING: Duration = Duration::from_secs(30);
/// A server's pings have even numbers.
const PING_NUMBER: u32 = 2;
/// How long a client has to close its end after all is said: closed before, with what it has sent still unread, its
/// connection would be reset and what it was told lost.
const LINGER: Duration = Duration::from_secs(10);
/// For a last word to somebody who may not listen.
const GOODBYE: Duration = Duration::from_secs(1);

/// Why a connection ended, unless the client closed it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("reading")]
    Read(#[source] io::Error),
    #[error("writing")]
    Write(#[source] io::Error),
    #[error("the client sends what is no SPDY/3.1")]
    Decode(#[from] DecodeError),
    #[error("the client breaks SPDY's rules")]
    Session(#[from] SessionError),
    #[error("headers")]
    Encode(#[from] ZlibError),
}

/// The streams the client opens.
pub struct Incoming {
    opened: mpsc::Receiver<Stream>,
    /// The connection lives as long as somebody has one.
    _said: mpsc::UnboundedSender<Said>,
}

impl Incoming {
    /// `None` when the connection has ended.
    pub async fn next(&mut self) -> Option<Stream> {
        self.opened.recv().await
    }
}

/// Serves `io` until the client closes it. Without [`Incoming`] and streams it has a few seconds for that, once all that
/// was said is written. `accept` says which streams are wanted; others are reset with PROTOCOL_ERROR.
///
/// The future is the connection: dropped, it ends, and every stream with it.
pub fn serve<T>(
    io: T,
    accept: impl Fn(&Headers) -> bool,
) -> (impl Future<Output = Result<(), Error>>, Incoming)
where
    T: AsyncRead + AsyncWrite,
{
    let (said, hears) = mpsc::unbounded_channel();
    let (streams, opened) = Streams::new(said.downgrade());
    let incoming = Incoming {
        opened,
        _said: said,
    };
    (run(io, accept, streams, hears), incoming)
}

async fn run<T>(
    io: T,
    accept: impl Fn(&Headers) -> bool,
    mut streams: Streams,
    mut said: mpsc::UnboundedReceiver<Said>,
) -> Result<(), Error>
where
    T: AsyncRead + AsyncWrite,
{
    let (mut reader, mut writer) = tokio::io::split(io);
    let (mut decoder, mut input) = (Decoder::default(), BytesMut::new());
    let mut speaker = Speaker::new()?;
    let mut next = None;
    let (mut flushed, mut finished, mut deadline) = (true, false, None);
    let mut ping = interval_at(Instant::now() + PING, PING);
    let ended = loop {
        if next.is_none() && speaker.has_room() {
            let heard = match decoder.decode(&mut input) {
                Ok(Some(frame)) => speaker.hear(frame, &accept).map(Some),
                Ok(None) => Ok(None),
                Err(error) => Err(error.into()),
            };
            match heard {
                Ok(Some(event)) => {
                    next = event.and_then(|event| streams.next(event));
                    continue;
                }
                Ok(None) => {}
                Err(error) => {
                    speaker.say_goodbye();
                    let _ = timeout(GOODBYE, writer.write_all_buf(&mut speaker.output)).await;
                    break Err(error);
                }
            }
        }
        let (full, empty) = (!speaker.has_room(), speaker.output.is_empty());
        if finished && empty && flushed && deadline.is_none() {
            deadline = Some(Instant::now() + LINGER);
        }
        if input.capacity() - input.len() < READ / 8 {
            input.reserve(READ);
        }
        tokio::select! {
            read = reader.read_buf(&mut input), if next.is_none() && !full => match read {
                Ok(0) => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(Error::Read(error)),
            },
            () = streams.deliver(&mut next), if next.is_some() => {}
            heard = said.recv(), if !finished && !full => match heard {
                Some(said) => {
                    if let Said::Dropped(stream) = said {
                        streams.forget(stream);
                    }
                    speaker.pass_on(said)?;
                }
                None => finished = true,
            },
            written = write(&mut writer, &mut speaker.output), if !empty || !flushed => match written {
                Ok(()) => flushed = empty,
                Err(error) => break Err(Error::Write(error)),
            },
            _ = ping.tick(), if !full => speaker.say(&Frame::Ping(PING_NUMBER))?,
            () = until(deadline) => break Ok(()),
        }
    };
    let _ = timeout(GOODBYE, writer.shutdown()).await;
    ended
}

/// Some of it, or a flush where all is written. May be dropped and called again.
async fn write(writer: &mut (impl AsyncWrite + Unpin), output: &mut BytesMut) -> io::Result<()> {
    match output.is_empty() {
        true => writer.flush().await,
        false => writer.write_buf(output).await.map(drop),
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// What is to be said, in bytes.
struct Speaker {
    session: Session,
    encoder: Encoder,
    output: BytesMut,
}

impl Speaker {
    fn new() -> Result<Speaker, Error> {
        Ok(Speaker {
            session: Session::default(),
            encoder: Encoder::new()?,
            output: BytesMut::new(),
        })
    }

    fn has_room(&self) -> bool {
        self.output.len() < OUTPUT_LIMIT
    }

    /// Answers, and returns what is not yet known to the stream's owner.
    fn hear(
        &mut self,
        frame: Frame,
        accept: impl FnOnce(&Headers) -> bool,
    ) -> Result<Option<Event>, Error> {
        let Heard { answer, event } = self.session.hear(frame, accept)?;
        if let Some(answer) = answer {
            self.say(&answer)?;
        }
        Ok(event)
    }

    /// For a stream's owner.
    fn pass_on(&mut self, said: Said) -> Result<(), Error> {
        let frame = match said {
            Said::Bytes { stream, bytes, .. } => self.session.say(stream, false, bytes),
            Said::End(stream) => self.session.say(stream, true, Bytes::new()),
            Said::Dropped(stream) => self.session.cancel(stream),
        };
        match frame {
            Some(frame) => self.say(&frame),
            // The client has reset it.
            None => Ok(()),
        }
    }

    fn say(&mut self, frame: &Frame) -> Result<(), Error> {
        Ok(self.encoder.encode(frame, &mut self.output)?)
    }

    fn say_goodbye(&mut self) {
        // Without headers nothing is compressed, and so nothing fails.
        let _ = self.say(&Frame::GoAway {
            last: self.session.last(),
            status: GoAway::PROTOCOL_ERROR,
        });
    }
}

#[cfg(test)]
mod tests;
