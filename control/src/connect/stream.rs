//! pods/exec, pods/attach and pods/portforward: the kubelet of the pod's node speaks with the client, over a connection
//! whose protocol both agree on; the API server finds the container and carries the bytes.
//!
//! Kubernetes' own translates: v5 of the remote command protocol, and SPDY within a WebSocket, into SPDY as kubelets
//! spoke it before WebSockets. Here both ends have to know what is asked for, as Vetch's nodes do, and kubelets since 1.36
//! (ExtendWebSocketsToKubelet). An older kubelet refuses it, and kubectl then asks for SPDY, which is carried as well.

use std::sync::Arc;

use axum::response::Response;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::Method;
use hyper::upgrade::OnUpgrade;
use rustls::ClientConfig;
use vetch_identity::{Kept, TlsError};
use vetch_server::Server;
use vetch_server::connect::{Forward, Forwarded};
use vetch_server::request::Query;
use vetch_server::status::{Result, Status};
use vetch_server::upgrade;

use super::carry;
use super::kubelet::{self, unreachable};
use super::proxy::Place;

/// What this answers.
pub const KEYS: [&str; 3] = ["pods/exec", "pods/attach", "pods/portforward"];

pub struct Streams {
    tls: Arc<ClientConfig>,
}

impl Streams {
    pub fn new(certificate: Arc<Kept>) -> Result<Streams, TlsError> {
        Ok(Streams {
            tls: Arc::new(vetch_identity::client_config(certificate)?),
        })
    }

    async fn carry(&self, server: &Server, forwarded: Forwarded) -> Result<Response> {
        let Forwarded {
            target,
            mut request,
        } = forwarded;
        if !matches!(*request.method(), Method::GET | Method::POST) {
            return Err(Status::method_not_allowed());
        }
        let query = Query::parse(request.uri());
        let namespace = target.namespace.as_deref().unwrap_or_default();
        let name = target.name.as_deref().unwrap_or_default();
        let written = request.uri().query().unwrap_or_default();
        let subresource = target.subresource.map_or("", |sub| sub.name);
        let (kubelet, path) = match subresource {
            "portforward" => {
                let kubelet = kubelet::locate_pod(server, &target).await?;
                let path = format!("/portForward/{namespace}/{name}{}", ports(written));
                (kubelet, path)
            }
            _ => {
                let located = kubelet::locate(server, &target, query.text("container")).await?;
                let container = located.container;
                let options = passed_on(written, &query);
                let path = format!("/{subresource}/{namespace}/{name}/{container}?{options}");
                (located.kubelet, path)
            }
        };
        let kubelet = kubelet.ok_or_else(|| {
            Status::bad_request(format!("pod {name} does not have a host assigned"))
        })?;
        if upgrade::protocol(request.headers()).is_none() {
            return Err(Status::bad_request("Upgrade request required"));
        }
        let failed = |why: String| unreachable(format!("error dialing backend: {why}"));
        let found = tokio::net::lookup_host(&kubelet.host).await;
        let address = found
            .map_err(|error| failed(format!("dial tcp: lookup {}: {error}", kubelet.host)))?
            .next()
            .ok_or_else(|| failed(format!("dial tcp: lookup {}: no such host", kubelet.host)))?;
        let place = Place {
            https: true,
            address,
        };
        let client = request.extensions_mut().remove::<OnUpgrade>();
        let uri = request.uri().path().to_owned();
        let request = carry::outgoing(request, &path, &kubelet.host, &uri)?;
        carry::carry(&self.tls, &place, request, client)
            .await
            .map_err(failed)
    }
}

/// The options as the kubelet has them. What is to be run goes on as it was written.
fn passed_on(written: &str, query: &Query) -> String {
    let flags = [
        ("stdin", "input=1"),
        ("stdout", "output=1"),
        ("stderr", "error=1"),
        ("tty", "tty=1"),
    ];
    let flags = flags
        .into_iter()
        .filter_map(|(name, told)| query.flag(name).then_some(told));
    let commands = written
        .split('&')
        .filter(|pair| pair.starts_with("command="));
    flags.chain(commands).collect::<Vec<_>>().join("&")
}

/// Which ports a client of the oldest protocol for port-forward means, as the kubelet has them. Others say it later.
fn ports(written: &str) -> String {
    let ports: Vec<&str> = written
        .split('&')
        .filter_map(|pair| pair.strip_prefix("ports="))
        .collect();
    match ports.is_empty() {
        true => String::new(),
        false => format!("?port={}", ports.join(",")),
    }
}

impl Forward for Streams {
    fn forward<'a>(
        &'a self,
        server: &'a Server,
        forwarded: Forwarded,
    ) -> BoxFuture<'a, Result<Response>> {
        self.carry(server, forwarded).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_in_the_kubelets_names() {
        for (written, wanted) in [
            ("", ""),
            (
                "command=sh&command=-c&command=a%26b+c&container=x&stdout=true&stderr=true",
                "output=1&error=1&command=sh&command=-c&command=a%26b+c",
            ),
            ("stdin=true&tty=1&stdout=false&stderr=0", "input=1&tty=1"),
        ] {
            let query = Query::parse(&format!("/?{written}").parse().unwrap());
            assert_eq!(passed_on(written, &query), wanted, "{written}");
        }
        for (written, wanted) in [
            ("", ""),
            ("x=1", ""),
            ("ports=80&x=1&ports=443", "?port=80,443"),
        ] {
            assert_eq!(ports(written), wanted, "{written}");
        }
    }
}
