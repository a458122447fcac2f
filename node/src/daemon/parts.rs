//! Runtime, network, proxy and agent, until a signal or the first failure.

use std::collections::HashMap;
use std::net::{IpAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustls::pki_types::CertificateDer;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use vetch_agent::AgentConfig;
use vetch_cni_server::CniConfig;
use vetch_cri::CriConfig;
use vetch_join::Managed;
use vetch_network::{Network, NetworkConfig, Vxlan};
use vetch_proxy::{ProxyConfig, SNAT_PORTS, TableSizes};
use vetch_runtime::{Runtime, RuntimeConfig};

use super::client::Connection;
use super::sockets::Sockets;
use super::{dns, network_dir};
use crate::cli::{CniArgs, CriArgs, DaemonArgs, Places, RuntimeArgs};

/// For parts to end after a signal.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

type Parts = JoinSet<Result<()>>;

pub struct Setup {
    pub args: DaemonArgs,
    pub places: Places,
    pub seccomp_root: PathBuf,
    pub shim: PathBuf,
    pub config: kube::Config,
    /// The node's own certificate, where it is for this daemon to renew.
    pub certificate: Option<Managed>,
    pub kubelet: TcpListener,
    pub sockets: Arc<Sockets>,
    pub can_lower_oom_score: bool,
}

pub async fn run(setup: Setup) -> Result<()> {
    let Setup {
        args,
        places,
        seccomp_root,
        shim,
        config,
        certificate,
        kubelet,
        sockets,
        can_lower_oom_score,
    } = setup;
    // Installed already is as good: it is this one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let labels = args.labels();
    let image_gc = args.image_gc.thresholds().map_err(anyhow::Error::msg)?;
    let vxlan = args.vxlan();
    let eviction = args.eviction.parsed().map_err(anyhow::Error::msg)?;
    let ending = args.shutdown.periods().map_err(anyhow::Error::msg)?;
    let node_name = args.node_name.context("--node-name is missing")?;
    let node_ips = args.node_ip;
    let client_authorities = authorities(&config);
    if client_authorities.is_empty() {
        warn!("the kubeconfig has no certificate authority: the kubelet API takes tokens only");
    }
    info!(node = node_name, addresses = ?node_ips, server = %config.cluster_url, "joining");
    let connection = Connection::open(&config)?;
    let client = connection.client.clone();
    let taints = args.register_with_taints;

    let cri = CriConfig {
        takes_pod_cidr: false,
        serves_host_ports: true,
        ..cri_config(&places, &args.runtime)
    };
    let cni = CniConfig {
        run_dir: places.run_dir.clone(),
        serves_host_ports: true,
        conf_dir: args.cni.cni_conf_dir,
    };
    let (runtime, network) = open(
        &places,
        shim,
        args.runtime,
        node_name.clone(),
        node_ips.clone(),
        vxlan,
    )
    .await?;

    let shutdown = CancellationToken::new();
    let dns = dns::open(&args.dns, &args.cluster_domain, &node_ips)?;
    let proxy = ProxyConfig {
        node_name: node_name.clone(),
        node_ips: node_ips.clone(),
        cgroup: places.cgroup_root.clone(),
        pin_dir: places.pin_dir,
        service_proxy_name: args.service_proxy_name,
        uplinks: args.uplink,
        tables: TableSizes::of_machine().context("the machine's memory")?,
        source_ports: SNAT_PORTS,
        xdp: args.xdp,
        load_balancer_mode: args.load_balancer_mode,
        vxlan_vni: vxlan.vni,
        masquerade: args.masquerade,
        non_masquerade_cidrs: args.non_masquerade_cidr,
        connection_metrics: args.connection_metrics,
        healthz_address: Some(args.healthz_bind_address),
        metrics_address: Some(args.metrics_bind_address),
        own_service: dns.as_ref().map(|dns| dns.own.clone()),
        tap: dns.as_ref().map(|dns| dns.tap()),
        policies_file: Some(places.run_dir.join("policies.json")),
    };
    let (pressure, table_pressure) = tokio::sync::watch::channel(None);
    let agent = AgentConfig {
        node_name,
        node_ips,
        labels,
        taints,
        root_dir: places.root_dir,
        pod_log_dir: args.pod_log_dir,
        pod_manifest_path: args.pod_manifest_path,
        seccomp_root,
        cgroup_root: places.cgroup_root,
        kubelet: tokio::net::TcpListener::from_std(kubelet).context("the listening socket")?,
        max_pods: args.max_pods,
        image_gc,
        eviction,
        shutdown: ending,
        memory_qos: args.memory.qos(),
        pod_max_pids: Some(args.pod_max_pids).filter(|count| *count > 0),
        client_authorities,
        cluster_dns: args.cluster_dns,
        cluster_domain: args.cluster_domain,
        can_lower_oom_score,
        table_pressure,
    };
    let mut parts = Parts::new();
    if let Some(certificate) = certificate {
        let (node, stop) = (agent.node_name.clone(), shutdown.clone());
        parts.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = keep_certificate(connection, config, &node, &certificate) => {}
            }
            Ok(())
        });
    }
    let (own, stop) = (client.clone(), shutdown.clone());
    let (pods, host_ports) = (network.pods(), network.host_ports());
    let (guarded, guards) = tokio::sync::watch::channel(Default::default());
    network.set_guard(guards);
    let guard = vetch_proxy::Guard {
        owners: network.owners(),
        guarded,
    };
    parts.spawn(async move {
        let result = vetch_proxy::run(own, proxy, pods, host_ports, guard, pressure, stop).await;
        result.context("the service proxy")
    });
    spawn_network(&mut parts, &network, &shutdown);
    if let Some(part) = dns {
        let (own, stop) = (client.clone(), shutdown.clone());
        let (bind, clients) = (dns::bind(sockets), dns::clients(&network));
        let known = dns::clients_known(network.clone());
        parts.spawn(async move {
            part.dns.run(own, clients, known, bind, stop).await;
            Ok(())
        });
    }
    spawn_cri(&mut parts, cri, &runtime, &network, &shutdown);
    spawn_cni(&mut parts, cni, &network, &shutdown);
    let stop = shutdown.clone();
    parts.spawn(async move {
        let result = vetch_agent::run(client, agent, runtime, network, stop).await;
        result.context("the agent")
    });
    until_signal(parts, shutdown).await
}

/// Renews the node's certificate, for ever, and has the client show the new one.
async fn keep_certificate(
    connection: Connection,
    config: kube::Config,
    node: &str,
    certificate: &Managed,
) {
    let client = connection.client.clone();
    vetch_join::rotate(&client, node, certificate, || {
        if let Err(error) = connection.renew(&config) {
            warn!("the new certificate is not in use before a restart: {error:#}");
        }
    })
    .await;
}

/// The runtime and its network, whose pods clients of the socket make and end.
pub async fn run_cri(args: CriArgs, places: Places, shim: PathBuf) -> Result<()> {
    let cri = cri_config(&places, &args.runtime);
    let node_name = nix::unistd::gethostname().context("the machine's name")?;
    let node_name = node_name.to_string_lossy().into_owned();
    // It knows no other nodes.
    let vxlan = Vxlan::default();
    let (runtime, network) =
        open(&places, shim, args.runtime, node_name, args.node_ip, vxlan).await?;
    let retained = network.retain(&runtime.netns_by_sandbox().await).await;
    retained.context("what an earlier daemon attached")?;
    let told = network.set_pod_cidrs(&args.pod_cidr).await;
    told.context("--pod-cidr")?;

    let shutdown = CancellationToken::new();
    let mut parts = Parts::new();
    spawn_network(&mut parts, &network, &shutdown);
    spawn_cri(&mut parts, cri, &runtime, &network, &shutdown);
    until_signal(parts, shutdown).await
}

/// The network, whose pods other runtimes make: their CNI plugin attaches them.
pub async fn run_cni(args: CniArgs, run_dir: PathBuf) -> Result<()> {
    let node_name = nix::unistd::gethostname().context("the machine's name")?;
    let network = Network::open(NetworkConfig {
        node_name: node_name.to_string_lossy().into_owned(),
        node_ips: args.node_ip,
        state_dir: run_dir.join(vetch_cni_server::RECORDS),
        mtu: None,
        // It knows no other nodes.
        vxlan: Vxlan::default(),
    });
    let network = network.await.context("open the pod network")?;
    let retained = network.retain(&HashMap::new()).await;
    retained.context("what an earlier daemon attached")?;
    let told = network.set_pod_cidrs(&args.pod_cidr).await;
    told.context("--pod-cidr")?;

    let shutdown = CancellationToken::new();
    let mut parts = Parts::new();
    let config = CniConfig {
        run_dir,
        serves_host_ports: false,
        conf_dir: args.conf.cni_conf_dir,
    };
    spawn_network(&mut parts, &network, &shutdown);
    spawn_cni(&mut parts, config, &network, &shutdown);
    until_signal(parts, shutdown).await
}

/// Of a node without anything beside the runtime and its network.
fn cri_config(places: &Places, args: &RuntimeArgs) -> CriConfig {
    let socket = args.cri_socket.clone();
    CriConfig {
        socket: socket.unwrap_or_else(|| places.run_dir.join("cri.sock")),
        run_dir: places.run_dir.clone(),
        log_dir: places.root_dir.join("cri-logs"),
        takes_pod_cidr: true,
        serves_host_ports: false,
    }
}

async fn open(
    places: &Places,
    shim: PathBuf,
    args: RuntimeArgs,
    node_name: String,
    node_ips: Vec<IpAddr>,
    vxlan: Vxlan,
) -> Result<(Runtime, Network)> {
    let runtime = Runtime::open(RuntimeConfig {
        root_dir: places.root_dir.clone(),
        run_dir: places.run_dir.clone(),
        cgroup_root: places.cgroup_root.clone(),
        shim,
        pull_netns: args.pull_netns,
        insecure_registries: args.registries.insecure_registry,
        registry_hosts_dir: Some(args.registries.registry_config_path),
    })
    .await
    .context("open the runtime")?;
    let network = Network::open(NetworkConfig {
        node_name,
        node_ips,
        state_dir: network_dir(places),
        mtu: None,
        vxlan,
    })
    .await
    .context("open the pod network")?;
    Ok((runtime, network))
}

fn spawn_network(parts: &mut Parts, network: &Network, shutdown: &CancellationToken) {
    let (kept, stop) = (network.clone(), shutdown.clone());
    parts.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            result = kept.keep() => result.map(|never| match never {}).context("the pod network"),
        }
    });
}

fn spawn_cri(
    parts: &mut Parts,
    config: CriConfig,
    runtime: &Runtime,
    network: &Network,
    shutdown: &CancellationToken,
) {
    let (runtime, network, stop) = (runtime.clone(), network.clone(), shutdown.clone());
    parts.spawn(async move {
        let result = vetch_cri::run(config, runtime, network, stop).await;
        result.context("the CRI service")
    });
}

fn spawn_cni(
    parts: &mut Parts,
    config: CniConfig,
    network: &Network,
    shutdown: &CancellationToken,
) {
    let (network, stop) = (network.clone(), shutdown.clone());
    parts.spawn(async move {
        let result = vetch_cni_server::run(config, network, stop).await;
        result.context("the CNI service")
    });
}

/// Or until the first part ends by itself.
async fn until_signal(mut parts: Parts, shutdown: CancellationToken) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM: the daemon ends, its pods go on"),
        _ = interrupt.recv() => info!("SIGINT: the daemon ends, its pods go on"),
        Some(ended) = parts.join_next() => {
            ended.context("a part of the daemon died")??;
            bail!("a part of the daemon ended by itself");
        }
    }
    shutdown.cancel();
    let ending = async {
        while let Some(ended) = parts.join_next().await {
            ended.context("a part of the daemon died")??;
        }
        Ok(())
    };
    match tokio::time::timeout(SHUTDOWN_LIMIT, ending).await {
        Ok(result) => result,
        // Whatever it is at: it is made to be killed anywhere.
        Err(_) => {
            warn!("not all parts ended within {SHUTDOWN_LIMIT:?}");
            Ok(())
        }
    }
}

/// Of the cluster: who has a certificate of theirs is somebody here.
fn authorities(config: &kube::Config) -> Vec<CertificateDer<'static>> {
    config
        .root_cert
        .iter()
        .flatten()
        .map(|der| CertificateDer::from(der.clone()))
        .collect()
}
