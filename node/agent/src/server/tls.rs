//! Connections: TLS with the node's certificate; a client certificate is
//! welcome and verified, not required.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::RootCertStore;
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls_pki_types::CertificateDer;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;
use tracing::debug;

use super::certificate::Serving;
use super::user::User;

const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// After an accept that failed: too many descriptors, mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Go's listeners have the same, and so kubelets: a client that vanished is known for it after 150 s.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(15))
    .with_interval(Duration::from_secs(15))
    .with_retries(9);

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the kubeconfig's certificate authority is not usable")]
    Authority(#[source] rustls::Error),
    #[error("the kubeconfig's certificate authority cannot verify clients")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// The user of the connection's certificate, if it showed one.
#[derive(Clone)]
pub struct Certificate(pub Option<User>);

/// Without `authorities` no client certificate is accepted, only tokens.
pub fn config(
    serving: Arc<Serving>,
    authorities: &[CertificateDer<'static>],
) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).map_err(TlsError::Authority)?;
    }
    let builder = rustls::ServerConfig::builder();
    let builder = if roots.is_empty() {
        builder.with_client_cert_verifier(Arc::new(NoClientAuth))
    } else {
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots))
            .allow_unauthenticated()
            .build()?;
        builder.with_client_cert_verifier(verifier)
    };
    let mut config = builder.with_cert_resolver(serving);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Until dropped.
pub async fn serve(listener: TcpListener, tls: Arc<rustls::ServerConfig>, router: Router) {
    let acceptor = TlsAcceptor::from(tls);
    // Dropped with this: no connection outlives the server. One whose protocol was changed is its handler's.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener) => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (acceptor, router) = (acceptor.clone(), router.clone());
                connections.spawn(async move {
                    if let Err(error) = connection(stream, acceptor, router).await {
                        debug!(%peer, %error, "connection ended");
                    }
                });
            }
            Err(error) => {
                debug!(%error, "accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Followers of logs that vanished without a word end with their connection, also over HTTP/1.1, which has no pings.
async fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE)?;
    Ok((stream, peer))
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    router: Router,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let stream = tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await??;
    let user = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first())
        .and_then(User::from_certificate);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Certificate(user.clone()));
        router.clone().oneshot(request)
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE_LIMIT);
    builder
        .http2()
        .timer(TokioTimer::new())
        // Followers of logs that vanished without a word end with their connection.
        .keep_alive_interval(Some(Duration::from_secs(30)));
    builder
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn a_client_that_vanishes_is_missed() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), accept(&listener));
        let (stream, peer) = accepted.unwrap();
        assert_eq!(peer, client.unwrap().local_addr().unwrap());
        assert!(stream.nodelay().unwrap());
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        let seconds = Duration::from_secs(15);
        assert_eq!(socket.tcp_keepalive_time().unwrap(), seconds);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), seconds);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 9);
    }
}
