//! The kubelet's API, as far as it goes: health, this node's pods, their logs, processes run in their containers,
//! clients attached to them, connections to their ports; what all of them use, and how the node is configured.
//!
//! Nobody is answered without a name: a certificate of the cluster's authority
//! or a token that the API server knows. What they may do is the API server's
//! to say, except for system:masters.

mod access;
mod cache;
mod cadvisor;
pub mod certificate;
mod configz;
mod container_logs;
mod find;
mod logs;
mod metrics;
mod pods;
mod probes;
mod process;
mod prometheus;
mod run;
mod running;
mod settings;
mod stats;
mod streams;
mod tls;
mod user;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use jiff::Timestamp;
use kube::Client;
use rustls_pki_types::CertificateDer;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use vetch_runtime::{Rates, Runtime};

use access::{Access, Refusal};
use certificate::{CertificateError, Names, Serving};
use container_logs::text;
use logs::notify::Notifier;
use tls::{Certificate, TlsError};

use crate::node::chain;
use crate::pods::ProbeNumbers;

#[cfg(feature = "fuzzing")]
pub use logs::fuzz::fuzz_log;
pub use pods::{ApiPods, PodSource, PodsError};
pub use settings::Settings;

/// How often the serving certificate is looked at.
const CERTIFICATE_CHECK: Duration = Duration::from_secs(12 * 3600);

pub struct ServerConfig {
    pub node_ips: Vec<IpAddr>,
    /// Bound already: a taken port is known before anything else begins.
    pub listener: TcpListener,
    /// Whose client certificates are believed.
    pub client_authorities: Vec<CertificateDer<'static>>,
    /// Where the serving certificate and its key are kept.
    pub certificate_dir: PathBuf,
    pub pods: Arc<dyn PodSource>,
    pub settings: Settings,
    pub probes: ProbeNumbers,
}

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("serving certificate")]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot watch log files")]
    Notifier(#[source] std::io::Error),
    #[error("the listening socket")]
    Listener(#[source] std::io::Error),
}

#[derive(Clone)]
struct Shared {
    access: Arc<Access>,
    pods: Arc<dyn PodSource>,
    runtime: Runtime,
    notifier: Notifier,
    settings: Arc<Settings>,
    probes: ProbeNumbers,
    /// Where this listens.
    address: SocketAddr,
    serving: Arc<Serving>,
    rates: Arc<Rates>,
    /// What outlives its request ends with the server by this.
    shutdown: CancellationToken,
}

/// Until `shutdown`; open connections end with it.
pub async fn run(
    client: Client,
    config: ServerConfig,
    runtime: Runtime,
    shutdown: CancellationToken,
) -> Result<(), ServerError> {
    let names = Names {
        node: config.settings.node_name.clone(),
        ips: config.node_ips,
    };
    let serving = Serving::open(&config.certificate_dir, names, Timestamp::now())?;
    let tls = tls::config(serving.clone(), &config.client_authorities)?;
    let address = config
        .listener
        .local_addr()
        .map_err(ServerError::Listener)?;
    let shared = Shared {
        access: Arc::new(Access::new(client, &config.settings.node_name)),
        pods: config.pods,
        runtime,
        notifier: Notifier::new().map_err(ServerError::Notifier)?,
        settings: Arc::new(config.settings),
        probes: config.probes,
        address,
        serving: serving.clone(),
        rates: Arc::default(),
        shutdown: shutdown.clone(),
    };
    info!(%address, "kubelet API listens");
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = tls::serve(config.listener, tls, router(shared)) => {}
        () = keep_certificate(&serving) => {}
    }
    Ok(())
}

async fn keep_certificate(serving: &Serving) {
    loop {
        tokio::time::sleep(CERTIFICATE_CHECK).await;
        if let Err(error) = serving.renew_if_due(Timestamp::now()) {
            warn!(
                error = chain(&error),
                "cannot renew the serving certificate; trying again"
            );
        }
    }
}

fn router(shared: Shared) -> Router {
    let mut router = Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/healthz/{check}", get(async || "ok"))
        .route("/pods", get(list_pods))
        .route("/pods/", get(list_pods))
        .route("/runningpods", get(running::get))
        .route("/runningpods/", get(running::get))
        .route("/configz", get(configz::get))
        .route("/stats/summary", get(stats::get_summary))
        .route("/metrics", get(metrics::get))
        .route("/metrics/resource", get(stats::get_resource))
        .route("/metrics/cadvisor", get(cadvisor::get))
        .route("/metrics/probes", get(probes::get))
        .route(
            "/containerLogs/{namespace}/{pod}/{container}",
            get(container_logs::get),
        );
    // A pod's uid may be said, where two of one name could be meant.
    for pod in ["{namespace}/{pod}", "{namespace}/{pod}/{uid}"] {
        let forward = get(streams::port_forward).post(streams::port_forward);
        let (exec, attach) = (get(streams::exec), get(streams::attach));
        router = router
            .route(&format!("/portForward/{pod}"), forward)
            .route(
                &format!("/exec/{pod}/{{container}}"),
                exec.post(streams::exec),
            )
            .route(
                &format!("/attach/{pod}/{{container}}"),
                attach.post(streams::attach),
            )
            .route(&format!("/run/{pod}/{{container}}"), post(run::post));
    }
    router
        .layer(from_fn_with_state(shared.clone(), guard))
        .with_state(shared)
}

/// Before anything else, also for paths that are not there.
async fn guard(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let certificate = request
        .extensions()
        .get::<Certificate>()
        .and_then(|certificate| certificate.0.clone());
    let checked = shared
        .access
        .check(
            certificate.as_ref(),
            request.method(),
            request.uri().path(),
            request.headers(),
        )
        .await;
    match checked {
        Ok(_) => next.run(request).await,
        Err(refusal) => {
            let status = match &refusal {
                Refusal::Unknown => StatusCode::UNAUTHORIZED,
                Refusal::Forbidden { .. } => StatusCode::FORBIDDEN,
                Refusal::Unjudged { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            };
            text(status, refusal.to_string())
        }
    }
}

async fn list_pods(State(shared): State<Shared>) -> Response {
    match shared.pods.all().await {
        Ok(pods) => Json(json!({
            "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods,
        }))
        .into_response(),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

#[cfg(test)]
mod tests;
