//! The client of the API server: kube's own, over sockets that notice a dead peer.
//!
//! A watch is silent for minutes when nothing happens, and a cut cable makes no difference to it. The
//! kubelet's client pings an HTTP/2 connection after 30 s of silence and gives up 15 s later; here the
//! kernel does the same by keep-alive probes, and for what was sent by the user timeout: tcp(7).

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use arc_swap::ArcSwap;
use http::Request;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::Config;
use kube::client::{Body, ConfigExt as _};
use tower::ServiceBuilder;

/// Silence after which the peer is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(30);
/// How long it has to answer.
const ANSWER: Duration = Duration::from_secs(15);
/// As kube's own client has it.
const CONNECT: Duration = Duration::from_secs(30);

type Http = HttpClient<HttpsConnector<HttpConnector>, Body>;

/// A client whose certificate can be replaced while it is in use.
pub struct Connection {
    pub client: kube::Client,
    http: Arc<ArcSwap<Http>>,
}

impl Connection {
    pub fn open(config: &Config) -> Result<Connection> {
        if let Some(proxy) = &config.proxy_url {
            bail!(
                "the kubeconfig's proxy-url {proxy} is not supported: a node reaches its API server directly"
            );
        }
        let http = Arc::new(ArcSwap::from_pointee(http(config)?));
        let current = http.clone();
        let service = ServiceBuilder::new()
            .layer(config.base_uri_layer())
            .option_layer(
                config
                    .auth_layer()
                    .context("the kubeconfig's user is not usable")?,
            )
            .map_err(tower::BoxError::from)
            .service(tower::service_fn(move |request: Request<Body>| {
                let http = Http::clone(&current.load());
                async move { http.request(request).await }
            }));
        let client = kube::Client::new(service, config.default_namespace.clone());
        Ok(Connection { client, http })
    }

    /// Reads the kubeconfig's files anew. Requests from now on take connections made with them; what is open, watches
    /// mostly, ends by itself: an API server closes each within minutes.
    pub fn renew(&self, config: &Config) -> Result<()> {
        self.http.store(Arc::new(http(config)?));
        Ok(())
    }
}

fn http(config: &Config) -> Result<Http> {
    let mut connector = HttpConnector::new();
    // TLS comes on top.
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_keepalive(Some(SILENCE));
    connector.set_keepalive_interval(Some(ANSWER));
    connector.set_keepalive_retries(Some(1));
    connector.set_tcp_user_timeout(Some(SILENCE + ANSWER));
    let connector = config
        .rustls_https_connector_with_connector(connector)
        .context("the kubeconfig's certificates are not usable")?;
    Ok(HttpClient::builder(TokioExecutor::new()).build(connector))
}
