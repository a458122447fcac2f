//! `vetch-control`: the parts of the control plane, put together.

mod certificates;
mod options;
mod token;

use std::io::IsTerminal as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{CommandFactory as _, Parser as _};
use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;
use vetch_control::access::Access;
use vetch_control::admission::{AdmissionConfig, RANGES, plugins};
use vetch_control::bootstrap::{self, Advertised};
use vetch_control::connect::connectors;
use vetch_controllers::ControllersConfig;
use vetch_identity::{Pki, User, kubeconfig, server_config, write_secret};
use vetch_server::{Server, ServerConfig};
use vetch_store::Store;

use certificates::Certificates;
use options::{Command, Kubeconfig, Options, Serve};

const MASTERS: &str = "system:masters";
/// How long open requests may take to end.
const DRAIN: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let _ = rustls::crypto::ring::default_provider().install_default();
    match act(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The whole chain in one line: what failed, and why.
            eprintln!("vetch-control: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(options: Options) -> Result<()> {
    match (options.command, options.serve) {
        (Some(Command::Kubeconfig(issue)), _) => write_kubeconfig(&issue),
        (Some(Command::Token(command)), _) => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start the runtime")?
            .block_on(token::run(command)),
        (None, Some(serve)) => {
            start_logging();
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()
                .context("start the runtime")?;
            let outcome = runtime.block_on(run(serve));
            // Whatever still runs holds nothing that a kill would not leave whole.
            runtime.shutdown_background();
            outcome
        }
        (None, None) => {
            Options::command().print_help()?;
            bail!("--data-dir and --advertise-address are needed")
        }
    }
}

fn start_logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
}

async fn run(options: Serve) -> Result<()> {
    let node_masks = options.node_masks();
    let shutdown = CancellationToken::new();
    tokio::spawn(stop_on_signal(shutdown.clone()));

    let mut listeners = Vec::new();
    for address in &options.listen {
        listeners.push(bind(*address).await?);
    }
    let port = options.listen.first().map_or(6443, SocketAddr::port);
    let service_ip = service_ip(&options.service_cidr)?;
    let certificates = Certificates::open(open_pki(&options.data_dir)?, &options, service_ip)?;
    let tls = server_config(certificates.pki(), certificates.server.clone())?;

    let registry = vetch_api::registry();
    info!(etcd = ?options.etcd, "opening the store");
    let mut prefixes = Server::prefixes(registry);
    prefixes.push(RANGES.to_owned());
    let opening = Store::open(&options.etcd, &prefixes, shutdown.clone());
    let store = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        store = opening => store.context("open etcd")?,
    };
    tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        () = store.ready() => {}
    }

    let advertised = Advertised {
        service_cidrs: options.service_cidr.clone(),
        service_ip,
        address: options.advertise_address,
        port,
        ca_pem: certificates.pki().ca_pem().to_owned(),
    };
    let access = Access::new(certificates.pki().tokens().clone());
    let router = vetch_server::router(Server::new(ServerConfig {
        store,
        registry,
        admission: plugins(AdmissionConfig {
            service_cidrs: options.service_cidr,
            node_port_range: options.service_node_port_range,
        }),
        connectors: connectors(&access, certificates.kubelet_client.clone())?,
        guard: Arc::new(access),
    }));

    let loopback = vetch_server::client(&router, "system:apiserver", &[MASTERS]);
    bootstrap::until_there(&loopback, &advertised, &shutdown).await;
    certificates.write_admin()?;

    let scheduler = vetch_server::client(&router, "system:kube-scheduler", &[]);
    let controllers = vetch_server::client(&router, "system:kube-controller-manager", &[]);
    let controllers_config = ControllersConfig {
        pod_cidrs: options.pod_cidr,
        node_masks,
        root_ca_pem: certificates.pki().ca_pem().to_owned(),
        node_monitor_grace_period: options.node_monitor_grace_period,
        load_balancer_pool: options.load_balancer_pool,
        signer: certificates.pki().signer(),
        host_path_volumes: options.host_path_volumes,
    };
    let mut parts = tokio::task::JoinSet::new();
    let serving = vetch_server::serve(
        listeners,
        tls,
        router,
        User::of_certificate,
        shutdown.clone(),
    );
    parts.spawn(async move {
        serving.await;
        ("the API server", Ok(()))
    });
    let stop = shutdown.clone();
    parts.spawn(async move {
        bootstrap::keep(loopback, advertised, stop).await;
        ("the bootstrap", Ok(()))
    });
    let stop = shutdown.clone();
    parts.spawn(async move {
        certificates.keep(stop).await;
        ("the renewal of certificates", Ok(()))
    });
    let stop = shutdown.clone();
    parts.spawn(async move { ("the scheduler", vetch_scheduler::run(scheduler, stop).await) });
    let stop = shutdown.clone();
    parts.spawn(async move {
        (
            "the controllers",
            vetch_controllers::run(controllers, controllers_config, stop).await,
        )
    });
    info!(listen = ?options.listen, "serving");

    // Half a control plane helps nobody: where one part ends, all end.
    let outcome = match parts.join_next().await {
        Some(Ok((part, Err(error)))) => Err(error.context(format!("{part} failed"))),
        Some(Ok((part, Ok(())))) if !shutdown.is_cancelled() => {
            Err(anyhow::anyhow!("{part} ended"))
        }
        Some(Err(error)) => Err(error).context("a part of the control plane died"),
        _ => Ok(()),
    };
    shutdown.cancel();
    let drained = async { while parts.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(DRAIN, drained).await;
    outcome
}

async fn stop_on_signal(shutdown: CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // First: a log that nobody reads any more must not keep it from ending.
    shutdown.cancel();
    info!("stopping");
}

async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot serve at {address}: end what listens there, or choose another port with --listen")
    })
}

fn open_pki(data_dir: &Path) -> Result<Pki> {
    Pki::open(&data_dir.join("pki")).context("open the certificate authority")
}

/// The first address of the first range is the API server's own, as on every Kubernetes.
fn service_ip(cidrs: &[IpNet]) -> Result<IpAddr> {
    let families: Vec<bool> = cidrs.iter().map(|cidr| cidr.addr().is_ipv4()).collect();
    let first = match (cidrs, families.as_slice()) {
        ([only], _) => only,
        ([first, _], [one, other]) if one != other => first,
        _ => bail!("--service-cidr takes one network, or two of different address families"),
    };
    first
        .hosts()
        // Of an IPv6 network the first one names routers.
        .find(|ip| *ip != first.network())
        .with_context(|| format!("--service-cidr {first} has no address"))
}

fn write_kubeconfig(options: &Kubeconfig) -> Result<()> {
    let pki = open_pki(&options.data_dir)?;
    let issued = pki.client(&options.user, options.group.as_deref())?;
    let text = kubeconfig(
        &options.cluster_name,
        &options.server,
        pki.ca_pem(),
        &options.user,
        &issued,
    );
    Ok(write_secret(&options.out, &text)?)
}
