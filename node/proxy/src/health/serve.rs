//! Listening, for as long as somebody wants the answers.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use axum::Router;
use tokio::net::TcpListener;
use tracing::warn;

/// Between two tries for an address that somebody else has.
const RETRY: Duration = Duration::from_secs(5);

/// Serves until dropped; an address that is taken is asked for again.
pub async fn serve(what: &'static str, address: SocketAddr, router: Router) -> Infallible {
    let mut told = false;
    loop {
        let bound = if address.ip().is_unspecified() {
            everywhere(address.port()).await
        } else {
            TcpListener::bind(address).await
        };
        match bound {
            Ok(listener) => on(listener, router.clone()).await,
            Err(error) if !told => {
                told = true;
                warn!(%address, %error, "cannot serve {what}; trying again");
            }
            Err(_) => {}
        }
        tokio::time::sleep(RETRY).await;
    }
}

pub async fn on(listener: TcpListener, router: Router) {
    if let Err(error) = axum::serve(listener, router).await {
        warn!(%error, "a health server ended");
    }
}

/// A port of every address of the node, of both families where there are two.
pub async fn everywhere(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        // No IPv6 in this kernel.
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
        }
        result => result,
    }
}
