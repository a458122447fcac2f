//! A client, for tests of what a server makes of its streams.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::{Decoder, Encoder, Frame, Headers, StreamId};

/// Until the other side has to have done something.
const LIMIT: Duration = Duration::from_secs(40);

/// Panics where the connection fails.
pub struct Client<T> {
    pub io: T,
    pub encoder: Encoder,
    pub decoder: Decoder,
    pub input: BytesMut,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Client<T> {
    pub fn new(io: T) -> Client<T> {
        Client {
            io,
            encoder: Encoder::new().unwrap(),
            decoder: Decoder::default(),
            input: BytesMut::new(),
        }
    }

    pub async fn say(&mut self, frame: Frame) {
        let mut bytes = BytesMut::new();
        self.encoder.encode(&frame, &mut bytes).unwrap();
        let saying = async {
            self.io.write_all(&bytes).await.unwrap();
            self.io.flush().await.unwrap();
        };
        timeout(LIMIT, saying).await.expect("it is read");
    }

    pub async fn open(&mut self, stream: StreamId, headers: &[(&str, &str)]) {
        self.say(Frame::SynStream {
            stream,
            associated: 0,
            priority: 0,
            fin: false,
            unidirectional: false,
            headers: Headers::new(headers.iter().copied()),
        })
        .await;
    }

    /// `None` when the server has closed the connection.
    pub async fn hear(&mut self) -> Option<Frame> {
        let hearing = async {
            loop {
                if let Some(frame) = self.decoder.decode(&mut self.input).unwrap() {
                    return Some(frame);
                }
                if self.io.read_buf(&mut self.input).await.unwrap() == 0 {
                    return None;
                }
            }
        };
        timeout(LIMIT, hearing).await.expect("something is said")
    }

    /// The server's next word is that it takes the stream.
    pub async fn accepted(&mut self, stream: StreamId) {
        let reply = Frame::SynReply {
            stream,
            fin: false,
            headers: Headers::default(),
        };
        assert_eq!(self.hear().await, Some(reply));
    }

    /// All that is said on a stream, by itself, until its end.
    pub async fn all(&mut self, stream: StreamId) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            match self.hear().await {
                Some(Frame::Data {
                    stream: same,
                    fin,
                    bytes,
                }) if same == stream => {
                    all.extend_from_slice(&bytes);
                    if fin {
                        return all;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

pub fn data(stream: StreamId, fin: bool, bytes: &[u8]) -> Frame {
    let bytes = Bytes::copy_from_slice(bytes);
    Frame::Data { stream, fin, bytes }
}
