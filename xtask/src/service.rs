//! The daemons of a cluster: each alone in a cgroup leaf, by which it is found and stopped.

use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cgroup::Cgroup;
use crate::cluster::Cluster;
use crate::enter::EnterArgs;
use crate::state::State;
use crate::{logs, process};

mod arguments;

pub use arguments::node_kubeconfig;

/// A daemon that has not ended so long after SIGTERM is killed.
const PATIENCE: Duration = Duration::from_secs(10);
/// A daemon that cannot start says so within this time.
const FIRST_STEPS: Duration = Duration::from_millis(300);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Etcd,
    Control,
    Node(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Action {
    Start,
    /// SIGTERM.
    Stop,
    /// SIGKILL.
    Kill,
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Part::Etcd => "etcd",
            Part::Control => "control",
            Part::Node(name) => name,
        })
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Part, String> {
        let is_node = text
            .strip_prefix("node-")
            .is_some_and(|number| number.parse::<u32>().is_ok_and(|number| number > 0));
        match text {
            "etcd" => Ok(Part::Etcd),
            "control" => Ok(Part::Control),
            _ if is_node => Ok(Part::Node(text.to_owned())),
            _ => Err("a part is etcd, control, node-1, node-2, …".into()),
        }
    }
}

/// What a cluster of this state consists of, in the order it is started.
pub fn parts(state: &State) -> Vec<Part> {
    let nodes = state.node_names().into_iter().map(Part::Node);
    [Part::Etcd, Part::Control]
        .into_iter()
        .chain(nodes)
        .collect()
}

impl Cluster {
    /// The part's own cgroup.
    pub fn leaf(&self, part: &Part) -> Cgroup {
        match part {
            Part::Etcd | Part::Control => self.cgroup.child(&part.to_string()),
            Part::Node(name) => self.cgroup.child(name).child("daemon"),
        }
    }

    pub fn log(&self, part: &Part) -> PathBuf {
        self.paths.logs().join(format!("{part}.log"))
    }

    pub fn runs(&self, part: &Part) -> bool {
        self.leaf(part).populated()
    }

    /// One of the doors `node`, `control` and `etcd`.
    pub fn act(&self, part: &Part, action: Action) -> Result<()> {
        let _lock = self.lock()?;
        let state = self.state()?;
        if !parts(&state).contains(part) {
            bail!(
                "cluster {} has no {part}: it has {}",
                self.name,
                state.node_names().join(", ")
            );
        }
        match action {
            Action::Start => self.start(part, &state)?,
            Action::Stop => self.stop(part)?,
            Action::Kill => self.kill(part)?,
        }
        self.describe(&state)
    }

    /// By which others will know a node from its next start on; its network has them already.
    pub fn give_addresses(&self, part: &Part, action: Action, ips: &[IpAddr]) -> Result<()> {
        let _lock = self.lock()?;
        let mut state = self.state()?;
        let name = match part {
            Part::Node(name) if state.node_names().contains(name) => name,
            _ => bail!("{part} is no node of cluster {}", self.name),
        };
        if action != Action::Start || self.runs(part) {
            bail!("{name} gets other addresses when it starts: stop it first");
        }
        state.moved.insert(name.clone(), ips.to_vec());
        state.save(&self.paths.state())
    }

    /// Starts the part unless it runs, and returns when it has not ended at once.
    pub fn start(&self, part: &Part, state: &State) -> Result<()> {
        if self.runs(part) {
            return Ok(());
        }
        if matches!(part, Part::Node(name) if !crate::namespaces::is_bound(&self.paths.node(name).namespace("net")))
        {
            bail!("{part} has no namespaces: run `cargo xtask up`");
        }
        let written = std::fs::metadata(self.log(part)).map_or(0, |log| log.len());
        // A leaf that was killed stays marked: on kernels from 6.15 a process in it that clones into
        // another cgroup, as the node does for its supervisors, finds that child killed.
        self.leaf(part).remove()?;
        let output = self
            .entry(part, state)?
            .to_command()
            .output()
            .with_context(|| format!("start {part}"))?;
        if !output.status.success() {
            bail!(
                "cannot start {part}: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        if self.leaf(part).wait_empty(FIRST_STEPS)? {
            bail!("{}", self.death(part, written));
        }
        Ok(())
    }

    /// What a part that ended too early said, from this place of its log on.
    pub fn death(&self, part: &Part, from: u64) -> String {
        let log = self.log(part);
        let words = logs::tail(&log, from, 20);
        format!("{part} ended; the end of {}:\n{words}", log.display())
    }

    fn entry(&self, part: &Part, state: &State) -> Result<EnterArgs> {
        let mut command = vec![self.program(part)?.into_os_string()];
        let mut entry = EnterArgs {
            cgroup: self.leaf(part).path().to_owned(),
            detach: Some(self.log(part)),
            ..EnterArgs::default()
        };
        match part {
            Part::Etcd => command.extend(words(arguments::etcd(&self.paths, state))),
            Part::Control => command.extend(words(arguments::control(&self.paths, state))),
            Part::Node(name) => {
                let paths = self.paths.node(name);
                command.extend(words(arguments::node(
                    name,
                    &self.tree,
                    &self.paths,
                    state,
                )?));
                entry.cgroup_namespace = Some(paths.namespace("cgroup"));
                entry.net = Some(paths.namespace("net"));
                entry.uts = Some(paths.namespace("uts"));
            }
        }
        entry.command = command;
        Ok(entry)
    }

    fn program(&self, part: &Part) -> Result<PathBuf> {
        match part {
            Part::Etcd => {
                process::find("etcd").context("there is no etcd: run `apt-get install etcd-server`")
            }
            Part::Control => Ok(self.tree.daemon("vetch-control")),
            Part::Node(_) => Ok(self.tree.daemon("vetch-node")),
        }
    }

    /// Does the part run a program that has been built anew since?
    pub fn is_outdated(&self, part: &Part) -> Result<bool> {
        let program = self.program(part)?;
        Ok(*part != Part::Etcd
            && self
                .leaf(part)
                .pids()
                .iter()
                .any(|pid| !process::runs_file(*pid, &program)))
    }

    pub fn stop(&self, part: &Part) -> Result<()> {
        let leaf = self.leaf(part);
        for pid in leaf.pids() {
            // It may have ended meanwhile.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        if leaf.wait_empty(PATIENCE)? {
            return Ok(());
        }
        eprintln!(
            "{part} has not ended {} s after SIGTERM: killing it",
            PATIENCE.as_secs()
        );
        self.kill(part)
    }

    pub fn kill(&self, part: &Part) -> Result<()> {
        let leaf = self.leaf(part);
        leaf.kill()?;
        if !leaf.wait_empty(PATIENCE)? {
            bail!(
                "{part} is still there {} s after SIGKILL: pids {:?}",
                PATIENCE.as_secs(),
                leaf.pids()
            );
        }
        Ok(())
    }

    /// Waits for a condition that a part brings about, as long as the part lives.
    pub fn wait_for<T>(
        &self,
        part: &Part,
        what: &str,
        limit: Duration,
        mut probe: impl FnMut() -> Result<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + limit;
        loop {
            let error = match probe() {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if !self.runs(part) {
                bail!("{}", self.death(part, 0));
            }
            if Instant::now() >= deadline {
                let log = self.log(part);
                return Err(error).with_context(|| {
                    format!(
                        "not within {} s: {what}; the log is {}",
                        limit.as_secs(),
                        log.display()
                    )
                });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn words(arguments: Vec<String>) -> impl Iterator<Item = OsString> {
    arguments.into_iter().map(OsString::from)
}

/// A path as an argument.
fn text(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_named_as_people_name_them() {
        for name in ["etcd", "control", "node-1", "node-12"] {
            assert_eq!(name.parse::<Part>().unwrap().to_string(), name);
        }
        for name in ["", "node", "node-", "node-0", "node-x", "api"] {
            assert!(name.parse::<Part>().is_err(), "{name}");
        }
    }
}
