//! The cluster under test, as `up` describes it in `cluster.json`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use serde::Deserialize;

/// The parts of `cluster.json` that scenarios read.
#[derive(Debug, Deserialize)]
struct Description {
    name: String,
    kubeconfig: PathBuf,
    nodes: Vec<Node>,
}

/// One node of the cluster: namespaces and a cgroup subtree on this machine.
#[derive(Clone, Debug, Deserialize)]
pub struct Node {
    pub name: String,
    /// A path `nsenter --net=` takes.
    pub netns: PathBuf,
    pub address: String,
    /// Directory in the machine's cgroup v2 tree.
    pub cgroup: PathBuf,
    pub log: PathBuf,
}

/// A running cluster, and a hold on it for as long as the value lives.
#[derive(Debug)]
pub struct Cluster {
    pub name: String,
    pub kubeconfig: PathBuf,
    pub nodes: Vec<Node>,
    _lock: Flock<File>,
}

impl Cluster {
    /// The cluster, shared with other scenarios.
    pub fn shared() -> Result<Cluster> {
        Cluster::open(FlockArg::LockShared)
    }

    /// The cluster alone: for scenarios that stop its daemons.
    pub fn exclusive() -> Result<Cluster> {
        Cluster::open(FlockArg::LockExclusive)
    }

    fn open(lock: FlockArg) -> Result<Cluster> {
        let path = std::env::var_os("VETCH_CLUSTER")
            .context("VETCH_CLUSTER names no cluster.json: run `cargo xtask test`")?;
        let path = PathBuf::from(path);
        let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        let lock = Flock::lock(file, lock)
            .map_err(|(_, errno)| errno)
            .with_context(|| format!("lock {}", path.display()))?;
        // Read after the lock is held: a scenario that restarted daemons has rewritten it.
        let text = std::fs::read_to_string(&path)?;
        let description: Description =
            serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))?;
        Ok(Cluster {
            name: description.name,
            kubeconfig: description.kubeconfig,
            nodes: description.nodes,
            _lock: lock,
        })
    }

    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes
            .iter()
            .find(|node| node.name == name)
            .with_context(|| format!("the cluster has no node {name}"))
    }

    /// Runs one of xtask's doors (`node stop node-1`, …) on this cluster.
    pub fn xtask(&self, args: &[&str]) -> Result<()> {
        xtask(&self.name, args).map(drop)
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

impl Node {
    /// A command that runs as a process of this node: in its network namespace and its cgroup.
    pub fn command(&self, program: &str) -> Command {
        // A leaf of its own: the node's cgroup itself may not hold processes once controllers are on.
        let mut command = Command::new("sh");
        command.args([
            "-c",
            r#"leaf=$1 net=$2; shift 2; mkdir -p "$leaf" && echo $$ > "$leaf/cgroup.procs" && exec nsenter --net="$net" -- "$@""#,
            "node-process",
        ]);
        command
            .arg(self.cgroup.join("scenario"))
            .arg(&self.netns)
            .arg(program);
        command
    }

    /// Pids of the container `name`'s processes in the pod with this uid.
    pub fn container_pids(&self, pod_uid: &str, container_id: &str) -> Result<Vec<i32>> {
        let pod = find_dir(&self.cgroup, &format!("pod{pod_uid}"))
            .with_context(|| format!("no cgroup for pod {pod_uid} on {}", self.name))?;
        let container = find_dir(&pod, container_id)
            .with_context(|| format!("no cgroup for container {container_id}"))?;
        let procs = std::fs::read_to_string(container.join("cgroup.procs"))?;
        Ok(procs.lines().filter_map(|line| line.parse().ok()).collect())
    }
}

/// The directory called `name` somewhere below `root`.
fn find_dir(root: &Path, name: &str) -> Option<PathBuf> {
    let mut pending = vec![root.to_path_buf()];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name() == name {
                    return Some(entry.path());
                }
                pending.push(entry.path());
            }
        }
    }
    None
}
