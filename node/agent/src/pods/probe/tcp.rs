//! Asking by opening a connection.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, TCPSocketAction};
use tokio::net::TcpStream;
use vetch_streaming::dial_words;

use super::{Outcome, resolve_port};

pub async fn ask(
    action: &TCPSocketAction,
    container: &Container,
    pod_ip: IpAddr,
    timeout: Duration,
) -> Outcome {
    let port = match resolve_port(&action.port, container) {
        Ok(port) => port,
        Err(words) => return Outcome::Error(words),
    };
    let host = match action.host.as_deref() {
        Some(host) if !host.is_empty() => host.to_owned(),
        _ => pod_ip.to_string(),
    };
    match tokio::time::timeout(timeout, TcpStream::connect((host.as_str(), port))).await {
        Ok(Ok(_)) => Outcome::Success,
        Ok(Err(error)) => Outcome::Failure(dial_words(&host, port, &error)),
        Err(_) => Outcome::Failure(dial_words(&host, port, &io::ErrorKind::TimedOut.into())),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

    use super::*;

    #[tokio::test]
    async fn open_and_closed_ports() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let action = TCPSocketAction {
            host: None,
            port: IntOrString::Int(address.port().into()),
        };
        let container = Container::default();
        let timeout = Duration::from_secs(5);
        let open = ask(&action, &container, address.ip(), timeout).await;
        assert_eq!(open, Outcome::Success);
        drop(listener);
        let closed = ask(&action, &container, address.ip(), timeout).await;
        assert_eq!(
            closed,
            Outcome::Failure(format!("dial tcp {address}: connect: connection refused"))
        );
    }
}
