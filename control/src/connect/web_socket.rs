//! A stream as the messages of a WebSocket, each piece in one of its own, for browsers: they read no binary stream as
//! it comes. Kubernetes' names for it, its empty message at the start, and its close message at the end. Their token is
//! read, and taken out, before: see [`vetch_server::upgrade`].

use std::fmt::Display;
use std::pin::pin;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{SinkExt as _, Stream, StreamExt as _};
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderValue, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tracing::debug;
use vetch_server::status::{Result, Status};
use vetch_server::upgrade;

/// What a client may ask to hear, by the names of subprotocols. Who names none hears bytes.
const PROTOCOLS: [(&str, Form); 2] = [
    ("binary.k8s.io", Form::Binary),
    ("base64.binary.k8s.io", Form::Base64),
];

/// Of what a client says, which has nothing to say here.
const MESSAGE_LIMIT: usize = 64 * 1024;
const READ_BUFFER: usize = 4 * 1024;

/// How long a client has to close its end: closed before, with what it has sent still unread, its connection would be
/// reset and the last messages lost.
const LINGER: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Binary,
    /// In text messages.
    Base64,
}

impl Form {
    fn message(self, piece: Bytes) -> Message {
        match self {
            Form::Binary => Message::Binary(piece),
            Form::Base64 => Message::text(STANDARD.encode(piece)),
        }
    }
}

/// The answer that changes the protocol; the stream follows it, until it ends or the client leaves.
pub fn answer<S, E>(mut request: Request<Body>, pieces: S) -> Result<Response>
where
    S: Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: Display + Send + 'static,
{
    let (response, form) = shake_hands(&request)?;
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgraded.await {
            Ok(connection) => {
                if let Err(error) = say(TokioIo::new(connection), form, pieces).await {
                    debug!(%error, "the client of a WebSocket left");
                }
            }
            Err(error) => debug!(%error, "a connection was not upgraded"),
        }
    });
    Ok(response)
}

fn shake_hands(request: &Request<Body>) -> Result<(Response, Form)> {
    let mut response = create_response_with_body(request, Body::empty)
        .map_err(|error| Status::bad_request(format!("unable to upgrade: {error}")))?;
    let asked: Vec<&str> = upgrade::subprotocols(request.headers()).collect();
    if asked.is_empty() {
        return Ok((response, Form::Binary));
    }
    let known = |name: &&str| PROTOCOLS.into_iter().find(|(own, _)| own == name);
    let Some((name, form)) = asked.iter().find_map(known) else {
        // The code Go's server refuses a handshake with.
        return Err(Status::new(
            StatusCode::FORBIDDEN,
            "Forbidden",
            format!(
                "requested protocol(s) are not supported: [{}]; supports [{}]",
                asked.join(" "),
                PROTOCOLS.map(|(own, _)| own).join(" ")
            ),
        ));
    };
    response
        .headers_mut()
        .insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
    Ok((response, form))
}

/// `connection`: behind the handshake.
async fn say<C, S, E>(connection: C, form: Form, pieces: S) -> Result<(), Error>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: Stream<Item = Result<Bytes, E>>,
    E: Display,
{
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        // What is sent goes out at once.
        .write_buffer_size(0)
        .max_message_size(Some(MESSAGE_LIMIT))
        .max_frame_size(Some(MESSAGE_LIMIT));
    let mut socket = WebSocketStream::from_raw_socket(connection, Role::Server, Some(config)).await;
    let mut pieces = pin!(pieces);
    // By it the client knows that it is heard, though there may be nothing to tell for long.
    socket.send(form.message(Bytes::new())).await?;
    let code = loop {
        let piece = tokio::select! {
            piece = pieces.next() => piece,
            // Pings are answered on the way.
            heard = socket.next() => match heard {
                Some(Ok(_)) => continue,
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
        };
        match piece {
            Some(Ok(piece)) if piece.is_empty() => {}
            Some(Ok(piece)) => socket.send(form.message(piece)).await?,
            // What broke off is not to be taken for whole.
            Some(Err(error)) => {
                debug!(%error, "a stream for a WebSocket broke off");
                break CloseCode::Error;
            }
            None => break CloseCode::Normal,
        }
    };
    let close = CloseFrame {
        code,
        reason: "".into(),
    };
    socket.send(Message::Close(Some(close))).await?;
    let gone = async {
        while let Some(Ok(_)) = socket.next().await {}
        let _ = socket.get_mut().shutdown().await;
    };
    // Then the connection is closed all the same.
    let _ = timeout(LINGER, gone).await;
    Ok(())
}

#[cfg(test)]
mod tests;
