//! Requests that another server answers: in a pod, or a kubelet.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::header::{HOST, HeaderName};
use http::{HeaderValue, Request, StatusCode, Version};
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tracing::debug;
use vetch_server::status::{Result, Status};

use super::proxy::Place;
use super::{dial_error, headers};

/// Go's default dialer has as much.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The request as another server gets it: for its path `target`, of its name `host`; `uri` is where the client found it.
pub fn outgoing(
    request: Request<Body>,
    target: &str,
    host: &str,
    uri: &str,
) -> Result<Request<Body>> {
    let (mut parts, body) = request.into_parts();
    parts.uri = target
        .parse()
        .map_err(|_| Status::bad_request(format!("{target:?} is no path")))?;
    parts.version = Version::HTTP_11;
    headers::strip(&mut parts.headers);
    headers::strip_identity(&mut parts.headers);
    if let Some(client) = parts.extensions.get::<SocketAddr>() {
        headers::add_client(&mut parts.headers, client.ip());
    }
    for (name, value) in [
        (HOST, host),
        (HeaderName::from_static("x-forwarded-uri"), uri),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            parts.headers.insert(name, value);
        }
    }
    parts.extensions.clear();
    Ok(Request::from_parts(parts, body))
}

/// Asks over a connection of its own; bodies flow both ways as they come. Where the server changes the protocol, what
/// both say from then on is carried too. `client`: the connection the client asked to change.
pub async fn carry(
    tls: &Arc<ClientConfig>,
    place: &Place,
    request: Request<Body>,
    client: Option<OnUpgrade>,
) -> Result<Response, String> {
    let stream = connect(tls, place).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            debug!(%error, "a proxied connection ended");
        }
    });
    let mut answer = sender
        .send_request(request)
        .await
        .map_err(|error| error.to_string())?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(client) = client else {
            return Err("it changes to a protocol nobody asked for".to_owned());
        };
        tokio::spawn(join(client, hyper::upgrade::on(&mut answer)));
    }
    let (mut parts, body) = answer.into_parts();
    headers::strip(&mut parts.headers);
    // The client's own connection has its own version.
    parts.version = Version::default();
    Ok(Response::from_parts(parts, Body::new(body)))
}

async fn connect(tls: &Arc<ClientConfig>, place: &Place) -> Result<Box<dyn Stream>, String> {
    let host = place.address.to_string();
    let connecting = async {
        let stream = TcpStream::connect(place.address)
            .await
            .map_err(|error| dial_error(&host, &error))?;
        // A failure here costs delay alone.
        let _ = stream.set_nodelay(true);
        if !place.https {
            return Ok::<Box<dyn Stream>, String>(Box::new(stream));
        }
        let name = ServerName::IpAddress(place.address.ip().into());
        let connector = TlsConnector::from(tls.clone());
        let stream = connector.connect(name, stream).await;
        Ok(Box::new(stream.map_err(|error| error.to_string())?))
    };
    match tokio::time::timeout(CONNECT_LIMIT, connecting).await {
        Ok(connected) => connected,
        Err(_) => Err(format!("dial tcp {host}: i/o timeout")),
    }
}

/// Carries bytes both ways until both have ended.
async fn join(client: OnUpgrade, server: OnUpgrade) {
    let joined = async {
        let (client, server) = futures::future::try_join(client, server).await?;
        let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
        let copied = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        Ok::<_, hyper::Error>(copied)
    };
    match joined.await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => debug!(%error, "an upgraded connection ended"),
        Err(error) => debug!(%error, "a connection was not upgraded"),
    }
}
