//! What makes a subject's addresses work while its samples are taken, and only then.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::future::join_all;
use kube::config::Kubeconfig;
use tokio::task::spawn_blocking;
use vetch_bench_rules::{KubeProxy, Mode, Namespace, Node, Service};

use super::blocking;
use crate::target::{Local, LocalNode};

/// Endpoints of all Services that rules are laid for.
const MOST: usize = 200_000;
const SYNC_LIMIT: Duration = Duration::from_secs(300);

/// The network of one node.
#[derive(Clone, Debug)]
pub struct Place {
    pub namespace: Namespace,
    node: Node,
    name: String,
    address: Ipv4Addr,
}

impl Place {
    pub fn of(local: &Local, node: &LocalNode) -> Result<Place> {
        let address: Ipv4Addr = node.address.parse().context("the node's address")?;
        Ok(Place {
            namespace: Namespace(node.netns.clone()),
            node: Node {
                pod_cidr: local.pod_cidr.parse().context("the pods' network")?,
                addresses: vec![address],
            },
            name: node.name.clone(),
            address,
        })
    }
}

/// Whether these rules can be laid in a time that people wait.
pub fn check(services: &[Service]) -> Result<()> {
    let endpoints: usize = services.iter().map(|one| one.endpoints.len()).sum();
    ensure!(
        endpoints <= MOST,
        "rules of {endpoints} endpoints take too long to lay: at most {MOST} are"
    );
    Ok(())
}

/// Lays the rules in every place.
pub async fn lay(places: &[Place], mode: Mode, services: &Arc<Vec<Service>>) -> Result<()> {
    let services = services.clone();
    everywhere(places, move |place| {
        Ok(place.namespace.lay(mode, &place.node, &services)?)
    })
    .await
}

/// As kube-proxy does it, by one run of the program, and returns how long that took.
pub async fn lay_at_once(
    place: &Place,
    mode: Mode,
    services: &Arc<Vec<Service>>,
    limit: Duration,
) -> Result<Duration> {
    let (place, services) = (place.clone(), services.clone());
    blocking(move || {
        Ok(place
            .namespace
            .lay_at_once(mode, &place.node, &services, limit)?)
    })
    .await
}

/// Removes what either mode laid; afterwards no packet passes netfilter.
pub async fn clear(places: &[Place]) -> Result<()> {
    everywhere(places, |place| {
        if place.namespace.is_clean()? {
            return Ok(());
        }
        for mode in [Mode::Iptables, Mode::Nftables] {
            place.namespace.remove(mode)?;
        }
        ensure!(
            place.namespace.is_clean()?,
            "netfilter rules are left in {}: look with `cargo xtask exec {} -- nft list ruleset`",
            place.name,
            place.name
        );
        Ok(())
    })
    .await
}

/// In all places at the same time.
async fn everywhere(
    places: &[Place],
    job: impl Fn(&Place) -> Result<()> + Clone + Send + 'static,
) -> Result<()> {
    let jobs = places.iter().cloned().map(|place| {
        let job = job.clone();
        blocking(move || job(&place))
    });
    // Each to its end, whatever becomes of the others.
    join_all(jobs).await.into_iter().collect()
}

/// The real program, as `--kube-proxy` names it.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    kubeconfig: Arc<tempfile::NamedTempFile>,
    /// Keeps its logs.
    work_dir: PathBuf,
}

/// It, in some places, for as long as the value lives or until it is stopped.
pub struct Running {
    proxies: Vec<KubeProxy>,
    /// From the start of the first until it had written its first rules.
    pub synced: Duration,
}

impl Program {
    /// Its kubeconfig names the API server as the nodes reach it.
    pub fn new(path: &Path, kubeconfig: &Path, local: &Local, work_dir: &Path) -> Result<Program> {
        let mut config = Kubeconfig::read_from(kubeconfig)
            .with_context(|| format!("read {}", kubeconfig.display()))?;
        for cluster in config
            .clusters
            .iter_mut()
            .filter_map(|named| named.cluster.as_mut())
        {
            cluster.server = Some(local.node_server.clone());
        }
        // JSON is YAML. It holds a key, so it goes when the run ends.
        let kubeconfig = tempfile::NamedTempFile::new().context("make a kubeconfig")?;
        serde_json::to_writer(&kubeconfig, &config).context("write a kubeconfig")?;
        Ok(Program {
            path: path.to_owned(),
            kubeconfig: Arc::new(kubeconfig),
            work_dir: std::path::absolute(work_dir)?,
        })
    }

    pub fn version(&self) -> Result<String> {
        Ok(KubeProxy::version(&self.path)?)
    }

    /// Returns when all of them have written their rules.
    pub async fn start(&self, places: &[Place], mode: Mode) -> Result<Running> {
        let (program, places) = (self.clone(), places.to_vec());
        spawn_blocking(move || {
            let mut running = Running {
                proxies: Vec::new(),
                synced: Duration::ZERO,
            };
            for place in &places {
                let work_dir = program.work_dir.join(&place.name);
                std::fs::create_dir_all(&work_dir)?;
                let proxy = program.launch(place, mode, &work_dir)?;
                let synced = proxy.wait_synced(SYNC_LIMIT)?;
                if running.proxies.is_empty() {
                    running.synced = synced;
                }
                running.proxies.push(proxy);
            }
            Ok(running)
        })
        .await?
    }

    fn launch(&self, place: &Place, mode: Mode, work_dir: &Path) -> Result<KubeProxy> {
        Ok(KubeProxy::start(
            &self.path,
            &place.namespace.0,
            mode,
            self.kubeconfig.path(),
            &place.name,
            place.address,
            place.node.pod_cidr,
            work_dir,
        )?)
    }
}

impl Running {
    /// Of the first place.
    pub fn first_pid(&self) -> Option<u32> {
        self.proxies.first().map(KubeProxy::pid)
    }

    pub async fn stop(self) -> Result<()> {
        spawn_blocking(move || {
            for proxy in self.proxies {
                proxy.stop()?;
            }
            Ok(())
        })
        .await?
    }
}
