//! TCP connections into a pod, from where its own processes reach its ports.
//!
//! The client speaks SPDY, either behind `Upgrade: SPDY/3.1` or, since kubectl 1.31, within a WebSocket (KEP-4006): a
//! stock kubelet understands that since 1.36, and a stock API server takes SPDY out of it for older ones. Each
//! connection is a pair of streams ([`pairs`]), one for what the two say and one for why they cannot.
//! [`dial`] connects, [`carry`] carries bytes. Clients that know no SPDY name their ports before, and
//! have one connection to each ([`channels`]).

mod carry;
mod channels;
mod dial;
mod pairs;
mod ports;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;
use tracing::debug;
use vetch_runtime::{Chain, SandboxStatus};

use crate::upgrade::{Agreed, Offer, Refused, go_on, shake_hands};
use crate::web_socket;
use channels::Encoding;
pub use dial::dial_words;
use dial::{Target, Unreachable};
use pairs::{Asked, Pairs};

const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const CHANNELS: &str = "v4.channel.k8s.io";
const BASE64_CHANNELS: &str = "v4.base64.channel.k8s.io";
const OFFER: Offer = Offer {
    web_sockets: &[TUNNEL, CHANNELS, BASE64_CHANNELS],
    spdy: &["portforward.k8s.io"],
};
/// The kubelet waits as long for the other stream of a pair.
const PAIR_LIMIT: Duration = Duration::from_secs(30);

/// Answers with the change of protocol; the connections are carried beside.
pub fn port_forward(
    sandbox: SandboxStatus,
    mut request: Request,
    shutdown: &CancellationToken,
) -> Result<Response, Refused> {
    let (response, agreed) = shake_hands(&request, &OFFER)?;
    let encoding = match agreed {
        Agreed::WebSocket(CHANNELS) => Some(Encoding::Binary),
        Agreed::WebSocket(BASE64_CHANNELS) => Some(Encoding::Base64),
        _ => None,
    };
    let target = Target::of(sandbox);
    if let Some(encoding) = encoding {
        let query = request.uri().query().unwrap_or_default();
        let ports = ports::read(query).map_err(|words| (StatusCode::BAD_REQUEST, words))?;
        go_on(shutdown, &mut request, move |stream| async move {
            let socket = web_socket::open(stream).await;
            channels::forward(socket, encoding, ports, &target).await;
        });
        return Ok(response);
    }
    go_on(shutdown, &mut request, move |stream| async move {
        match agreed {
            Agreed::Spdy(_) => forward(stream, target).await,
            Agreed::WebSocket(_) => {
                let socket = web_socket::open(stream).await;
                forward(web_socket::tunnel(socket), target).await;
            }
        }
    });
    Ok(response)
}

/// What a client hears of a port nobody answers at.
fn refusal(port: u16, target: &Target, why: &Unreachable) -> String {
    let Target { sandbox, uid, .. } = target;
    format!("error forwarding port {port} to pod {sandbox}, uid {uid}: {why}")
}

/// Until the client goes; every connection ends with it.
async fn forward(client: impl AsyncRead + AsyncWrite, target: Target) {
    let target = Arc::new(target);
    let wanted = |headers: &_| Asked::read(0, headers).is_some();
    let (connection, mut streams) = vetch_spdy::serve(client, wanted);
    let carried = async {
        let mut pairs = Pairs::default();
        let mut running = JoinSet::new();
        let mut look = interval(PAIR_LIMIT);
        loop {
            tokio::select! {
                stream = streams.next() => {
                    let Some(stream) = stream else { return };
                    let Some(asked) = Asked::read(stream.id, &stream.headers) else { continue };
                    if let Some(pair) = pairs.add(asked, stream, Instant::now()) {
                        let target = target.clone();
                        running.spawn(async move { carry::carry(pair, &target).await });
                    }
                }
                Some(_) = running.join_next() => {}
                now = look.tick() => pairs.forget(now - PAIR_LIMIT),
            }
        }
    };
    let (ended, ()) = tokio::join!(connection, carried);
    if let Err(error) = ended {
        debug!(error = %Chain(&error), "port-forward: the client is gone");
    }
}

#[cfg(test)]
mod tests;
