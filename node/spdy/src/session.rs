//! What a frame means to a server: which streams there are, which of their halves are open, what is to be answered.

use std::collections::HashMap;

use bytes::Bytes;

use crate::block::Headers;
use crate::frame::{Frame, Reset, StreamId};

/// How many streams a connection has at once; more are refused.
pub const STREAMS: usize = 1024;

/// The connection ends by it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// 2.3.2
    #[error("stream {stream} is opened after {last}; a client's are odd, and each is higher")]
    Order { stream: StreamId, last: StreamId },
}

/// What the owner of a stream learns. `ended`: the client has nothing more to say on it.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    Opened {
        stream: StreamId,
        headers: Headers,
        ended: bool,
    },
    Bytes {
        stream: StreamId,
        bytes: Bytes,
        ended: bool,
    },
    /// It is no more, both ways.
    Reset(StreamId),
}

/// What is to be answered, and what happened.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heard {
    pub answer: Option<Frame>,
    pub event: Option<Event>,
}

#[derive(Debug, Default)]
pub struct Session {
    /// The highest stream there was.
    last: StreamId,
    open: HashMap<StreamId, Halves>,
    /// The client opens no more.
    gone_away: bool,
}

/// Who still may say something.
#[derive(Clone, Copy, Debug)]
struct Halves {
    client: bool,
    server: bool,
}

impl Session {
    pub fn last(&self) -> StreamId {
        self.last
    }

    /// `accept`: whether a stream with such headers is wanted.
    pub fn hear(
        &mut self,
        frame: Frame,
        accept: impl FnOnce(&Headers) -> bool,
    ) -> Result<Heard, SessionError> {
        match frame {
            Frame::SynStream {
                stream,
                fin,
                unidirectional,
                headers,
                ..
            } => {
                // What nobody may answer on is of no use here.
                let wanted = !unidirectional && accept(&headers);
                self.open(stream, fin, headers, wanted)
            }
            Frame::Data { stream, fin, bytes } => Ok(self.data(stream, fin, bytes)),
            Frame::Headers { stream, fin, .. } => Ok(self.data(stream, fin, Bytes::new())),
            Frame::RstStream { stream, .. } => Ok(match self.open.remove(&stream) {
                Some(_) => event(Event::Reset(stream)),
                None => Heard::default(),
            }),
            Frame::Ping(number) if number % 2 == 1 => Ok(answer(Frame::Ping(number))),
            Frame::GoAway { .. } => {
                self.gone_away = true;
                Ok(Heard::default())
            }
            // Of pings and streams that a server would have begun.
            Frame::Ping(_) | Frame::SynReply { .. } => Ok(Heard::default()),
        }
    }

    fn open(
        &mut self,
        stream: StreamId,
        fin: bool,
        headers: Headers,
        wanted: bool,
    ) -> Result<Heard, SessionError> {
        let last = self.last;
        if stream.is_multiple_of(2) || stream <= last {
            return Err(SessionError::Order { stream, last });
        }
        self.last = stream;
        if self.gone_away {
            return Ok(Heard::default());
        }
        if !wanted || self.open.len() >= STREAMS {
            let status = match wanted {
                true => Reset::REFUSED_STREAM,
                false => Reset::PROTOCOL_ERROR,
            };
            return Ok(answer(Frame::RstStream { stream, status }));
        }
        let halves = Halves {
            client: !fin,
            server: true,
        };
        self.open.insert(stream, halves);
        Ok(Heard {
            answer: Some(Frame::SynReply {
                stream,
                fin: false,
                headers: Headers::default(),
            }),
            event: Some(Event::Opened {
                stream,
                headers,
                ended: fin,
            }),
        })
    }

    fn data(&mut self, stream: StreamId, fin: bool, bytes: Bytes) -> Heard {
        let Some(halves) = self.open.get_mut(&stream) else {
            // It may have been on its way while the stream was reset.
            return match stream <= self.last {
                true => Heard::default(),
                false => answer(Frame::RstStream {
                    stream,
                    status: Reset::INVALID_STREAM,
                }),
            };
        };
        if !halves.client {
            self.open.remove(&stream);
            return Heard {
                answer: Some(Frame::RstStream {
                    stream,
                    status: Reset::PROTOCOL_ERROR,
                }),
                event: Some(Event::Reset(stream)),
            };
        }
        if fin {
            halves.client = false;
            self.forget_closed(stream);
        }
        match fin || !bytes.is_empty() {
            true => event(Event::Bytes {
                stream,
                bytes,
                ended: fin,
            }),
            false => Heard::default(),
        }
    }

    /// The frame by which the server says something; `None`: the stream is no more.
    pub fn say(&mut self, stream: StreamId, fin: bool, bytes: Bytes) -> Option<Frame> {
        let halves = self.open.get_mut(&stream).filter(|halves| halves.server)?;
        if fin {
            halves.server = false;
            self.forget_closed(stream);
        }
        Some(Frame::Data { stream, fin, bytes })
    }

    /// The frame that ends a stream both ways, where it has not ended.
    pub fn cancel(&mut self, stream: StreamId) -> Option<Frame> {
        self.open.remove(&stream)?;
        let status = Reset::CANCEL;
        Some(Frame::RstStream { stream, status })
    }

    fn forget_closed(&mut self, stream: StreamId) {
        let halves = self.open.get(&stream);
        if halves.is_some_and(|halves| !halves.client && !halves.server) {
            self.open.remove(&stream);
        }
    }
}

fn answer(frame: Frame) -> Heard {
    Heard {
        answer: Some(frame),
        event: None,
    }
}

fn event(event: Event) -> Heard {
    Heard {
        answer: None,
        event: Some(event),
    }
}

#[cfg(test)]
mod tests;
