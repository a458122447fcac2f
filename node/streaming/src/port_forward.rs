//! TCP connections into a pod, from where its own processes reach its ports.
//!
//! The client speaks SPDY, either behind `Upgrade: SPDY/3.1` or, since kubectl 1.31, within a WebSocket (KEP-4006): a
//! stock kubelet understands that since 1.36, and a stock API server takes SPDY out of it for older ones. Each
//! connection is a pair of streams ([`pairs`]), one for what the two say and one for why they cannot.
//! [`dial`] connects, [`carry`] carries bytes.

mod carry;
mod dial;
mod pairs;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;
use tracing::debug;
use vetch_runtime::{Chain, SandboxStatus};

use crate::upgrade::{Agreed, Offer, Refused, go_on, shake_hands};
use crate::web_socket;
use dial::Target;
pub use dial::dial_words;
use pairs::{Asked, Pairs};

const OFFER: Offer = Offer {
    web_sockets: &["SPDY/3.1+portforward.k8s.io"],
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
    let target = Target::of(sandbox);
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
