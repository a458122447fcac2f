//! A session in the messages of a WebSocket.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::channels::{self, ERROR, Protocol, STDERR, STDOUT, Told};
use super::options::Options;
use super::session::{self, Gone, Hear, Process, Speak};
use super::stdio::Ends;
use crate::web_socket;

/// How long a client has to close its end: closed before, with what it has sent still unread, its connection would be
/// reset and its output lost.
const LINGER: Duration = Duration::from_secs(10);

struct Speaker<S>(SplitSink<WebSocketStream<S>, Message>);

struct Client<S> {
    messages: SplitStream<WebSocketStream<S>>,
    protocol: Protocol,
}

/// `stream`: behind the handshake.
pub async fn serve<S, P>(
    stream: S,
    protocol: Protocol,
    options: &Options,
    start: impl Future<Output = Result<(Ends, P), String>>,
) -> Result<(), Gone>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
    P: Process,
{
    let (sink, messages) = web_socket::open(stream).await.split();
    let (mut speaker, mut client) = (Speaker(sink), Client { messages, protocol });
    speaker.say(vec![greeted(options)]).await?;
    session::serve(&mut speaker, &mut client, start).await?;
    let close = CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    speaker.0.send(Message::Close(Some(close))).await?;
    let gone = async move {
        while let Some(Ok(_)) = client.messages.next().await {}
        if let Ok(mut socket) = speaker.0.reunite(client.messages) {
            let _ = socket.get_mut().shutdown().await;
        }
    };
    // Then the connection is closed all the same.
    let _ = timeout(LINGER, gone).await;
    Ok(())
}

/// The channel of the empty message by which the client knows that it is heard, as from kubelets: the lowest it reads.
fn greeted(options: &Options) -> u8 {
    match (options.stdout, options.stderr) {
        (true, _) => STDOUT,
        (_, true) => STDERR,
        _ => ERROR,
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Speak for Speaker<S> {
    async fn say(&mut self, message: Vec<u8>) -> Result<(), Gone> {
        Ok(self.0.send(Message::Binary(message.into())).await?)
    }

    async fn ping(&mut self) -> Result<(), Gone> {
        Ok(self.0.send(Message::Ping(Bytes::new())).await?)
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Hear for Client<S> {
    /// Pings are answered on the way.
    async fn hear(&mut self) -> Option<Told> {
        let message = self.messages.next().await?.ok()?;
        if message.is_close() {
            return None;
        }
        Some(match message.is_binary() || message.is_text() {
            true => channels::read(self.protocol, &message.into_data()),
            false => Told::Nothing,
        })
    }
}

#[cfg(test)]
mod tests;
