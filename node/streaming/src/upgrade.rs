//! From a request to a connection that speaks another protocol.
//!
//! Kubernetes' clients ask for WebSockets with a subprotocol, older ones for SPDY/3.1 with the same names in a header of
//! their own.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use http::header::{CONNECTION, HeaderName, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_util::sync::CancellationToken;
use tracing::debug;

/// The kubelet's code and words.
pub type Refused = (StatusCode, String);

/// Asked for, and agreed on, with SPDY.
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const SPDY: &str = "SPDY/3.1";

/// The names of what can be spoken over each.
pub struct Offer {
    /// With the empty one, for clients that name none.
    pub web_sockets: &'static [&'static str],
    pub spdy: &'static [&'static str],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreed {
    WebSocket(&'static str),
    Spdy(&'static str),
}

/// The answer that changes the protocol, and what is spoken then: the first of the client's names that is offered.
pub fn shake_hands(request: &Request, offer: &Offer) -> Result<(Response, Agreed), Refused> {
    let headers = request.headers();
    let bad = |words: String| (StatusCode::BAD_REQUEST, words);
    let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok());
    match upgrade {
        None => Err(bad("Upgrade request required".to_owned())),
        Some(asked) if asked.eq_ignore_ascii_case("websocket") => {
            let mut response = create_response_with_body(request, Body::empty)
                .map_err(|error| bad(format!("unable to upgrade: {error}")))?;
            let asked = names(headers, SEC_WEBSOCKET_PROTOCOL);
            let named = if asked.is_empty() {
                &[""][..]
            } else {
                asked.as_slice()
            };
            let name = choose(named, offer.web_sockets).ok_or_else(|| {
                let words = format!(
                    "requested protocol(s) are not supported: [{}]; supports [{}]",
                    asked.join(" "),
                    offer.web_sockets.join(" ")
                );
                // As Go's server refuses a handshake.
                (StatusCode::FORBIDDEN, words)
            })?;
            if !name.is_empty() {
                let agreed = HeaderValue::from_static(name);
                response
                    .headers_mut()
                    .insert(SEC_WEBSOCKET_PROTOCOL, agreed);
            }
            Ok((response, Agreed::WebSocket(name)))
        }
        Some(asked) if asked.eq_ignore_ascii_case(SPDY) => {
            let asked = names(headers, STREAM_PROTOCOL);
            if asked.is_empty() {
                let header = "X-Stream-Protocol-Version";
                return Err(bad(format!("unable to upgrade: {header} is required")));
            }
            let name = choose(&asked, offer.spdy).ok_or_else(|| {
                let words = format!(
                    "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{}]",
                    asked.join(" "),
                    offer.spdy.join(" ")
                );
                (StatusCode::FORBIDDEN, words)
            })?;
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            for (header, value) in [
                (CONNECTION, "Upgrade"),
                (UPGRADE, SPDY),
                (STREAM_PROTOCOL, name),
            ] {
                let value = HeaderValue::from_static(value);
                response.headers_mut().insert(header, value);
            }
            Ok((response, Agreed::Spdy(name)))
        }
        Some(other) => Err(bad(format!(
            "unable to upgrade: {other} is not spoken here"
        ))),
    }
}

fn names(headers: &HeaderMap, header: HeaderName) -> Vec<&str> {
    let values = headers.get_all(header).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect()
}

fn choose(asked: &[&str], offered: &[&'static str]) -> Option<&'static str> {
    let known = |name: &&str| offered.iter().copied().find(|own| own == name);
    asked.iter().find_map(known)
}

/// Runs `session` beside, once the connection has changed its protocol. It ends with the server.
pub fn go_on<S, F>(shutdown: &CancellationToken, request: &mut Request, session: S)
where
    S: FnOnce(TokioIo<Upgraded>) -> F + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let upgrade = hyper::upgrade::on(request);
    let shutdown = shutdown.clone();
    let session = async move {
        match upgrade.await {
            Ok(stream) => session(TokioIo::new(stream)).await,
            Err(error) => debug!(%error, "a connection was not upgraded"),
        }
    };
    tokio::spawn(async move { shutdown.run_until_cancelled(session).await });
}

#[cfg(test)]
mod tests;
