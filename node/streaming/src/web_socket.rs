//! WebSockets as kubelets have them.

use std::future::ready;
use std::io;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};

/// Of a client's message: golang.org/x/net/websocket's, which kubelets use.
const MESSAGE_LIMIT: usize = 32 << 20;
const READ_BUFFER: usize = 32 * 1024;

/// `stream`: behind the handshake.
pub async fn open<S>(stream: S) -> WebSocketStream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        // What is sent goes out at once.
        .write_buffer_size(0)
        .max_message_size(Some(MESSAGE_LIMIT))
        .max_frame_size(Some(MESSAGE_LIMIT));
    WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await
}

/// A connection within the WebSocket's binary messages, wherever they are divided (KEP-4006's tunnel for SPDY). It ends
/// with the client's close message; shut down, it says one.
pub fn tunnel<S>(socket: WebSocketStream<S>) -> impl AsyncRead + AsyncWrite + Send
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let (sink, messages) = socket.split();
    let bytes = messages
        .take_while(|message| ready(!matches!(message, Ok(Message::Close(_)))))
        .filter_map(|message| {
            ready(match message {
                Ok(Message::Binary(bytes)) => Some(Ok(bytes)),
                Ok(Message::Text(_)) => Some(Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a text message in a tunnel",
                ))),
                Ok(_) => None,
                Err(error) => Some(Err(io::Error::other(error))),
            })
        });
    let sink = sink
        .with(|bytes: Bytes| ready(Ok::<_, Error>(Message::Binary(bytes))))
        .sink_map_err(io::Error::other);
    let writer = SinkWriter::new(CopyToBytes::new(sink));
    tokio::io::join(StreamReader::new(bytes), writer)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_tunnel_knows_no_messages() {
        let (ours, theirs) = tokio::io::duplex(1024);
        let mut client = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
        let mut tunnel = Box::pin(tunnel(open(theirs).await));
        for piece in [&b"ab"[..], b"", b"c"] {
            let message = Message::Binary(Bytes::from_static(piece));
            client.send(message).await.unwrap();
        }
        client.send(Message::Ping(Bytes::new())).await.unwrap();
        client
            .send(Message::Binary(Bytes::from_static(b"d")))
            .await
            .unwrap();
        let mut four = [0; 4];
        tunnel.read_exact(&mut four).await.unwrap();
        assert_eq!(&four, b"abcd");

        tunnel.write_all(b"efg").await.unwrap();
        tunnel.flush().await.unwrap();
        let mut answers = Vec::new();
        while let Some(Ok(message)) = client.next().await {
            match message {
                Message::Binary(bytes) => {
                    answers.extend_from_slice(&bytes);
                    client.close(None).await.unwrap();
                    assert_eq!(tunnel.read(&mut four).await.unwrap(), 0);
                    tunnel.shutdown().await.unwrap();
                }
                Message::Pong(_) => {}
                // The client goes on until the connection itself is closed.
                Message::Close(_) => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(answers, b"efg");
    }

    #[tokio::test]
    async fn text_is_no_part_of_a_tunnel() {
        let (ours, theirs) = tokio::io::duplex(1024);
        let mut client = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
        let mut tunnel = Box::pin(tunnel(open(theirs).await));
        client.send(Message::text("a")).await.unwrap();
        let error = tunnel.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
