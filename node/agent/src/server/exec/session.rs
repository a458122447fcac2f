//! One process and its client, from the handshake to the last byte.
//!
//! Both directions hold at most a message each: a client that does not read holds up the process by its full pipe, a
//! process that does not read holds up the client by the full connection. The status comes after all the process has
//! written. A client that goes away takes the process with it: a terminal is hung up, and what is left is killed.

use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, interval_at, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::channels::{self, ERROR, Protocol, STDERR, STDOUT, Told};
use super::options::Options;
use super::stdio::{self, Ends, Input, Output};

/// Of a client's message: golang.org/x/net/websocket's, which kubelets use.
const MESSAGE_LIMIT: usize = 32 << 20;
const READ_BUFFER: usize = 32 * 1024;
/// A client that vanished without a word is found out by what it does not acknowledge.
const PING: Duration = Duration::from_secs(30);
/// How long a client has to close its end: closed before, with what it has sent still unread, its connection would be
/// reset and its output lost.
const LINGER: Duration = Duration::from_secs(10);
/// What a pipe holds at most, pipe(7): one of the process's children may go on filling it.
const REST: usize = 1 << 20;

/// Killed when dropped.
pub trait Process: Send {
    /// Its exit code, or why there is none. May be dropped and called again.
    fn wait(&mut self) -> impl Future<Output = Result<i32, String>> + Send;
}

type Sink<S> = SplitSink<WebSocketStream<S>, Message>;

/// The error: the client went away before the end.
pub async fn serve<S, P, F>(
    stream: S,
    protocol: Protocol,
    options: &Options,
    start: impl FnOnce([OwnedFd; 3]) -> F,
) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
    P: Process,
    F: Future<Output = Result<P, String>>,
{
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        // What is sent goes out at once.
        .write_buffer_size(0)
        .max_message_size(Some(MESSAGE_LIMIT))
        .max_frame_size(Some(MESSAGE_LIMIT));
    let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    let (mut sink, mut client) = socket.split();
    greet(&mut sink, options).await?;
    let outcome = match stdio::open(options) {
        Err(error) => Err(error.to_string()),
        Ok((ends, theirs)) => match start(theirs).await {
            Err(why) => Err(why),
            Ok(mut process) => {
                let Ends {
                    mut input,
                    stdout,
                    stderr,
                } = ends;
                tokio::select! {
                    outcome = speak(&mut sink, [stdout, stderr], &mut process) => outcome?,
                    () = listen(&mut client, protocol, &mut input) => {
                        return Err(Error::ConnectionClosed);
                    }
                }
            }
        },
    };
    let status = channels::status(outcome).to_string();
    send(&mut sink, [&[ERROR], status.as_bytes()].concat()).await?;
    let close = CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    sink.send(Message::Close(Some(close))).await?;
    let gone = async move {
        while let Some(Ok(_)) = client.next().await {}
        if let Ok(mut socket) = sink.reunite(client) {
            let _ = socket.get_mut().shutdown().await;
        }
    };
    // Then the connection is closed all the same.
    let _ = timeout(LINGER, gone).await;
    Ok(())
}

/// Tells the client that it is heard, as the kubelet does: an empty message on the lowest channel it reads.
async fn greet<S>(sink: &mut Sink<S>, options: &Options) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let channel = match (options.stdout, options.stderr) {
        (true, _) => STDOUT,
        (_, true) => STDERR,
        _ => ERROR,
    };
    send(sink, vec![channel]).await
}

async fn send<S>(sink: &mut Sink<S>, message: Vec<u8>) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    sink.send(Message::Binary(message.into())).await
}

/// Sends what the process writes until it has ended; returns how.
async fn speak<S, P>(
    sink: &mut Sink<S>,
    [mut stdout, mut stderr]: [Option<Output>; 2],
    process: &mut P,
) -> Result<Result<i32, String>, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
    P: Process,
{
    let mut ping = interval_at(Instant::now() + PING, PING);
    let outcome = loop {
        let (output, message) = tokio::select! {
            outcome = process.wait() => break outcome,
            message = next(&stdout) => (&mut stdout, message),
            message = next(&stderr) => (&mut stderr, message),
            _ = ping.tick() => {
                sink.send(Message::Ping(Bytes::new())).await?;
                continue;
            }
        };
        match message {
            Some(message) if output.as_ref().is_some_and(|output| output.wanted) => {
                send(sink, message).await?;
            }
            Some(_) => {}
            // It may run on.
            None => *output = None,
        }
    };
    for output in [&stdout, &stderr].into_iter().flatten() {
        let mut left = REST;
        while left > 0
            && let Some(message) = output.rest()
        {
            left = left.saturating_sub(message.len());
            if output.wanted {
                send(sink, message).await?;
            }
        }
    }
    Ok(outcome)
}

async fn next(output: &Option<Output>) -> Option<Vec<u8>> {
    match output {
        Some(output) => output.next().await,
        None => std::future::pending().await,
    }
}

/// Passes on what the client says until it is gone. Pings are answered on the way.
async fn listen<S>(
    client: &mut SplitStream<WebSocketStream<S>>,
    protocol: Protocol,
    input: &mut Input,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = client.next().await {
        if message.is_close() {
            return;
        }
        if !(message.is_binary() || message.is_text()) {
            continue;
        }
        let bytes = message.into_data();
        match channels::read(protocol, &bytes) {
            Told::Input(bytes) => {
                if let Some(stdin) = &input.stdin
                    && stdin.write_all(bytes).await.is_err()
                {
                    // The process reads no more.
                    input.stdin = None;
                }
            }
            Told::EndOfInput => input.end(),
            Told::Resize(size) => input.resize(size),
            Told::Nothing => {}
        }
    }
}

#[cfg(test)]
mod tests;
