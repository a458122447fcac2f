//! What scenarios do on a node, whether it is namespaces of this machine or a machine of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::cluster::{Container, Node, Place};

/// Where the machines have the echo server, which is a client too.
const ECHO_OF_MACHINES: &str = "/usr/bin/vetch-echo";
const CGROUPS_OF_MACHINES: &str = "/sys/fs/cgroup/kubepods";

/// A command in the cgroup and the network of a container, with the files of where it is started: what decides
/// how its traffic is treated is the container's, and the client need not be in its image.
const AS_CONTAINER: &str = r#"leaf=$(find "$1" -type d -path "*/pod$2/$3") && read -r pid <"$leaf/cgroup.procs" || exit
shift 3; echo $$ >"$leaf/cgroup.procs" && exec nsenter --net="/proc/$pid/ns/net" -- "$@""#;

impl Node {
    /// The same node, its commands run as a container's of a running pod: as `kubectl exec` does for traffic.
    pub fn inside(&self, pod_uid: &str, container_id: &str) -> Node {
        let container = Container {
            pod_uid: pod_uid.to_owned(),
            id: container_id.to_owned(),
        };
        Node {
            container: Some(container),
            ..self.clone()
        }
    }

    /// A command that runs as a process of this node, or of the container it was asked for.
    pub fn command(&self, program: &str, args: &[&str]) -> Command {
        let Some(container) = &self.container else {
            return self.node_command(program, args);
        };
        let enter = |root: &str| -> Vec<String> {
            [
                "-c",
                AS_CONTAINER,
                "in-container",
                root,
                &container.pod_uid,
                &container.id,
                program,
            ]
            .iter()
            .chain(args)
            .map(|word| (*word).to_owned())
            .collect()
        };
        match &self.place {
            Place::Namespaces { cgroup, .. } => {
                let mut command = Command::new("sh");
                command.args(enter(&cgroup.to_string_lossy()));
                command
            }
            Place::Machine { .. } => {
                let words = enter(CGROUPS_OF_MACHINES);
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                self.node_command("sh", &words)
            }
        }
    }

    fn node_command(&self, program: &str, args: &[&str]) -> Command {
        match &self.place {
            Place::Namespaces { netns, cgroup } => {
                // A leaf of its own: the node's cgroup itself may not hold processes once
                // controllers are on.
                let mut command = Command::new("sh");
                command.args([
                    "-c",
                    r#"leaf=$1 net=$2; shift 2; mkdir -p "$leaf" && echo $$ > "$leaf/cgroup.procs" && exec nsenter --net="$net" -- "$@""#,
                    "node-process",
                ]);
                command
                    .arg(cgroup.join("scenario"))
                    .arg(netns)
                    .arg(program)
                    .args(args);
                command
            }
            Place::Machine { ssh } => {
                let words: Vec<String> = std::iter::once(&program)
                    .chain(args)
                    .map(|word| format!("'{}'", word.replace('\'', r"'\''")))
                    .collect();
                let mut command = Command::new("ssh");
                command
                    .arg("-F")
                    .arg(ssh)
                    .args([&self.name, &words.join(" ")]);
                command
            }
        }
    }

    /// What the command printed, if it went well.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        let output = self
            .command(program, args)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("run {program} on {}", self.name))?;
        ensure!(
            output.status.success(),
            "{program} {args:?} on {}: {}\n{}{}",
            self.name,
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The echo server's program as this node has it.
    pub fn echo(&self) -> Result<String> {
        match self.place {
            Place::Namespaces { .. } => std::env::var("VETCH_ECHO")
                .context("VETCH_ECHO names no program: run `cargo xtask test`"),
            Place::Machine { .. } => Ok(ECHO_OF_MACHINES.into()),
        }
    }

    /// Pids of the container's processes, as the node counts them.
    pub fn container_pids(&self, pod_uid: &str, container_id: &str) -> Result<Vec<i32>> {
        let procs = match &self.place {
            Place::Namespaces { cgroup, .. } => {
                let pod = find_dir(cgroup, &format!("pod{pod_uid}"))
                    .with_context(|| format!("no cgroup for pod {pod_uid} on {}", self.name))?;
                let container = find_dir(&pod, container_id)
                    .with_context(|| format!("no cgroup for container {container_id}"))?;
                std::fs::read_to_string(container.join("cgroup.procs"))?
            }
            Place::Machine { .. } => {
                let script = r#"cat "$(find /sys/fs/cgroup/kubepods -type d -path "*/pod$1/$2")/cgroup.procs""#;
                self.run("sh", &["-c", script, "pids", pod_uid, container_id])?
            }
        };
        Ok(procs.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// SIGKILL to every process of a container.
    pub fn kill_container(&self, pod_uid: &str, container_id: &str) -> Result<()> {
        let pids = self.container_pids(pod_uid, container_id)?;
        let pids: Vec<String> = pids.iter().map(i32::to_string).collect();
        let pids: Vec<&str> = pids.iter().map(String::as_str).collect();
        self.run("kill", &[&["-KILL"], &pids[..]].concat())
            .map(drop)
    }

    /// Makes a port of this machine's loopback reachable at the same port of the node's.
    pub fn lend_port(&self, port: u16) -> Result<()> {
        let Place::Machine { ssh } = &self.place else {
            // Images are pulled through this machine's own network.
            return Ok(());
        };
        // A connection that is there is told to forward, too; one that is not is made.
        self.run("true", &[])?;
        let forward = format!("{port}:127.0.0.1:{port}");
        let output = Command::new("ssh")
            .arg("-F")
            .arg(ssh)
            .args(["-O", "forward", "-R", &forward, &self.name])
            .stdin(Stdio::null())
            .output()
            .context("run ssh")?;
        if !output.status.success() {
            bail!(
                "forward port {port} of {}: {}",
                self.name,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }
}

impl Node {
    /// Makes a socket of the node's, a machine, one of this machine's at `local`.
    pub fn borrow_socket(&self, of_node: &Path, local: &Path) -> Result<()> {
        let Place::Machine { ssh } = &self.place else {
            bail!("the sockets of {} are this machine's", self.name);
        };
        // A connection that is there is told to forward, too; one that is not is made.
        self.run("true", &[])?;
        let forward = format!("{}:{}", local.display(), of_node.display());
        let output = Command::new("ssh")
            .arg("-F")
            .arg(ssh)
            .args(["-O", "forward", "-L", &forward, &self.name])
            .stdin(Stdio::null())
            .output()
            .context("run ssh")?;
        ensure!(
            output.status.success(),
            "forward {} of {}: {}",
            of_node.display(),
            self.name,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
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
