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

struct Speaker<S> {
    sink: SplitSink<WebSocketStream<S>, Message>,
    protocol: Protocol,
}

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
    let mut speaker = Speaker { sink, protocol };
    let mut client = Client { messages, protocol };
    speaker.say(vec![greeted(options)]).await?;
    session::serve(&mut speaker, &mut client, start).await?;
    let close = CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    speaker.sink.send(Message::Close(Some(close))).await?;
    let gone = async move {
        while let Some(Ok(_)) = client.messages.next().await {}
        if let Ok(mut socket) = speaker.sink.reunite(client.messages) {
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
    fn protocol(&self) -> Protocol {
        self.protocol
    }

    async fn say(&mut self, message: Vec<u8>) -> Result<(), Gone> {
        let message = match self.protocol.is_text() {
            true => Message::text(channels::to_text(&message)),
            false => Message::Binary(message.into()),
        };
        Ok(self.sink.send(message).await?)
    }

    async fn ping(&mut self) -> Result<(), Gone> {
        Ok(self.sink.send(Message::Ping(Bytes::new())).await?)
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Hear for Client<S> {
    /// Pings are answered on the way.
    async fn hear(&mut self) -> Option<Told> {
        let message = self.messages.next().await?.ok()?;
        if message.is_close() {
            return None;
        }
        if !(message.is_binary() || message.is_text()) {
            return Some(Told::Nothing);
        }
        let message = message.into_data();
        let message = match self.protocol.is_text() {
            true => channels::from_text(&message),
            false => Some(message),
        };
        Some(message.map_or(Told::Nothing, |message| {
            channels::read(self.protocol, &message)
        }))
    }
}

#[cfg(test)]
mod tests;
