//! HTTPS on bound listeners; the client's certificate becomes its user.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::pki_types::CertificateDer;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tracing::debug;
use vetch_identity::User;

use crate::dispatch::Certificate;

const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_LIMIT: Duration = Duration::from_secs(15);

/// Go's listeners have the same, and so kube-apiserver: a client that vanished is known for it after 150 s.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(15))
    .with_interval(Duration::from_secs(15))
    .with_retries(9);

/// A bound socket; whoever binds it reports a taken port.
pub type Listener = TcpListener;

/// Reads a user out of a verified client certificate.
pub type CertificateUser = fn(&CertificateDer<'_>) -> Option<User>;

/// Serves until told to stop.
pub async fn serve(
    listeners: Vec<Listener>,
    tls: Arc<rustls::ServerConfig>,
    router: Router,
    certificate_user: CertificateUser,
    shutdown: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(tls);
    let mut tasks = tokio::task::JoinSet::new();
    for listener in listeners {
        let (acceptor, router, shutdown) = (acceptor.clone(), router.clone(), shutdown.clone());
        tasks.spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = shutdown.cancelled() => return,
                    accepted = accept(&listener) => accepted,
                };
                match accepted {
                    Ok((stream, peer)) => {
                        let (acceptor, router) = (acceptor.clone(), router.clone());
                        tokio::spawn(async move {
                            if let Err(error) =
                                connection(stream, acceptor, router, certificate_user).await
                            {
                                debug!(%peer, %error, "connection ended");
                            }
                        });
                    }
                    // Out of descriptors, or a connection that was gone before it was taken.
                    Err(error) => {
                        debug!(%error, "accept");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

/// Whoever vanishes without a word ends what follows something for them, whatever it speaks: HTTP/2 has its pings,
/// HTTP/1.1 and WebSockets have nothing else.
async fn accept(listener: &Listener) -> io::Result<(TcpStream, SocketAddr)> {
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_keepalive(&KEEPALIVE)?;
    Ok((stream, peer))
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    router: Router,
    certificate_user: CertificateUser,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let peer: SocketAddr = stream.peer_addr()?;
    let stream = tokio::time::timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await??;
    let user = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first())
        .and_then(certificate_user);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (mut parts, body) = request.into_parts();
        if let Some(user) = &user {
            parts.extensions.insert(Certificate(user.clone()));
        }
        parts.extensions.insert(peer);
        router
            .clone()
            .oneshot(Request::from_parts(parts, Body::new(body)))
    });
    let mut builder = Builder::new(TokioExecutor::new());
    // Watches of a client that vanished without a word end with its connection.
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(PING_EVERY))
        .keep_alive_timeout(PING_LIMIT)
        .max_concurrent_streams(1000);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE_LIMIT);
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
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
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
