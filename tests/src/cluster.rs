//! The cluster under test, as `up` describes it in `cluster.json`.

use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use serde::Deserialize;

use crate::wait::eventually;

/// The parts of `cluster.json` that scenarios read.
#[derive(Debug, Deserialize)]
struct Description {
    name: String,
    kubeconfig: PathBuf,
    /// How many times longer than on this machine itself things may take there.
    #[serde(default = "once")]
    patience: u32,
    nodes: Vec<Node>,
    #[serde(default)]
    machine: Machine,
    /// Of nodes in namespaces.
    hub: Option<Hub>,
}

/// This machine, as the nodes see it.
#[derive(Debug, Default, Deserialize)]
struct Machine {
    #[serde(default)]
    addresses: Vec<IpAddr>,
}

/// Where the nodes' cables end: in bridges, `br0` and so on, with a port of each node's name.
#[derive(Debug, Deserialize)]
pub(crate) struct Hub {
    pub netns: PathBuf,
}

fn once() -> u32 {
    1
}

/// One node of the cluster.
#[derive(Clone, Debug, Deserialize)]
pub struct Node {
    pub name: String,
    pub address: String,
    /// Of each family, the main one first.
    #[serde(default)]
    pub(crate) addresses: Vec<IpAddr>,
    pub log: PathBuf,
    /// Where manifests of static pods go, on a node in namespaces.
    pub manifests: Option<PathBuf>,
    /// Of a node in namespaces.
    pub sockets: Option<Sockets>,
    #[serde(flatten)]
    pub(crate) place: Place,
    /// Commands run as a container's, not as the node's own.
    #[serde(skip)]
    pub(crate) container: Option<Container>,
}

/// Where a node listens, as this machine reaches it.
#[derive(Clone, Debug, Deserialize)]
pub struct Sockets {
    pub cri: PathBuf,
}

/// A container of a node: pod's uid, and its own id.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    pub pod_uid: String,
    pub id: String,
}

/// What a node is made of.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Place {
    /// Namespaces and a cgroup subtree of this machine.
    Namespaces {
        /// A path `nsenter --net=` takes.
        netns: PathBuf,
        /// Directory in the machine's cgroup v2 tree.
        cgroup: PathBuf,
    },
    /// A virtual machine: the configuration of SSH that knows it by its name.
    Machine { ssh: PathBuf },
}

/// A running cluster, and a hold on it for as long as the value lives.
#[derive(Debug)]
pub struct Cluster {
    pub name: String,
    pub kubeconfig: PathBuf,
    pub nodes: Vec<Node>,
    /// This machine's on the nodes' network, of each family of the cluster; none where nodes are machines.
    pub machine_ips: Vec<IpAddr>,
    pub(crate) hub: Option<Hub>,
    _lock: Flock<File>,
}

impl Node {
    /// Of each family of the cluster, the main one first.
    pub fn ips(&self) -> Result<Vec<IpAddr>> {
        if self.addresses.is_empty() {
            return Ok(vec![self.address.parse()?]);
        }
        Ok(self.addresses.clone())
    }
}

impl Cluster {
    /// The cluster, shared with other scenarios.
    pub fn shared() -> Result<Cluster> {
        Cluster::open("VETCH_CLUSTER", FlockArg::LockShared)
    }

    /// The cluster alone: for scenarios that stop its daemons.
    pub fn exclusive() -> Result<Cluster> {
        Cluster::open("VETCH_CLUSTER", FlockArg::LockExclusive)
    }

    /// The cluster of virtual machines, shared; ready when this returns.
    pub fn machines() -> Result<Cluster> {
        Cluster::of_machines(FlockArg::LockShared)
    }

    /// The cluster of virtual machines alone: for scenarios that switch them off.
    pub fn machines_exclusive() -> Result<Cluster> {
        Cluster::of_machines(FlockArg::LockExclusive)
    }

    fn of_machines(lock: FlockArg) -> Result<Cluster> {
        let cluster = Cluster::open("VETCH_MACHINES", lock)?;
        // `cargo xtask test` lets them boot while other tests run.
        for node in &cluster.nodes {
            cluster.wait_node(&node.name, "Ready", Duration::from_secs(120))?;
        }
        Ok(cluster)
    }

    fn open(variable: &str, lock: FlockArg) -> Result<Cluster> {
        let path = std::env::var_os(variable).with_context(|| {
            format!("{variable} names no cluster.json: run `cargo xtask test` or `cargo xtask e2e`")
        })?;
        Cluster::at(PathBuf::from(path), lock)
    }

    fn at(path: PathBuf, lock: FlockArg) -> Result<Cluster> {
        let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        let lock = Flock::lock(file, lock)
            .map_err(|(_, errno)| errno)
            .with_context(|| format!("lock {}", path.display()))?;
        // Read after the lock is held: a scenario that restarted daemons has rewritten it.
        let text = std::fs::read_to_string(&path)?;
        let description: Description =
            serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))?;
        crate::wait::be_patient(description.patience);
        Ok(Cluster {
            name: description.name,
            kubeconfig: description.kubeconfig,
            nodes: description.nodes,
            machine_ips: description.machine.addresses,
            hub: description.hub,
            _lock: lock,
        })
    }

    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes
            .iter()
            .find(|node| node.name == name)
            .with_context(|| format!("the cluster has no node {name}"))
    }

    /// Waits until kubectl shows this status of the node.
    pub fn wait_node(&self, node: &str, status: &str, limit: Duration) -> Result<()> {
        eventually(limit, &format!("{node} is {status}"), || {
            let line = self.kubectl(&["get", "node", node, "--no-headers"])?.ok()?;
            if line.split_whitespace().nth(1) == Some(status) {
                return Ok(());
            }
            bail!("{line}")
        })
    }

    /// Runs one of xtask's doors (`node stop node-1`, …) on this cluster.
    pub fn xtask(&self, args: &[&str]) -> Result<()> {
        xtask(&self.name, args).map(drop)
    }
}

/// A cluster of a scenario's own, taken down with the value.
#[derive(Debug)]
pub struct Own {
    cluster: Cluster,
}

impl Own {
    /// `up` with these arguments.
    pub fn up(name: &str, args: &[&str]) -> Result<Own> {
        let up = [&["up", "--detach", "--fresh"], args].concat();
        xtask(name, &up).inspect_err(|_| down(name))?;
        let path = repository().join(format!("target/vetch-{name}/cluster.json"));
        let cluster = Cluster::at(path, FlockArg::LockShared).inspect_err(|_| down(name))?;
        Ok(Own { cluster })
    }
}

impl std::ops::Deref for Own {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        down(&self.cluster.name);
    }
}

fn down(name: &str) {
    if let Err(error) = xtask(name, &["down", "--fresh"]) {
        eprintln!("{error:#}");
    }
}

/// Runs `xtask ARGS --name NAME` and returns what it printed.
pub fn xtask(cluster: &str, args: &[&str]) -> Result<String> {
    let program = std::env::var_os("VETCH_XTASK")
        .context("VETCH_XTASK names no program: run `cargo xtask test`")?;
    let output = Command::new(program)
        .args(args)
        .args(["--name", cluster])
        .stdin(std::process::Stdio::null())
        .output()
        .context("run xtask")?;
    if !output.status.success() {
        bail!(
            "xtask {args:?} --name {cluster}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The repository's root, for the examples people apply.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default()
}
