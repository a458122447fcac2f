//! The commands and their arguments.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use ipnet::Ipv4Net;

use crate::cluster::{Cluster, Name};
use crate::service::{Action, Part};
use crate::{build, down, enter, hold, inventory, logs, machine, status, test, up};

/// Builds, starts, tests and takes down Vetch clusters on this machine.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// The cluster; several stand side by side [default: vetch, for `test`: test].
    #[arg(long, global = true)]
    name: Option<Name>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Installs what is missing, builds, starts a cluster, shows its logs; heals one that is there.
    Up(UpArgs),
    /// Takes the cluster down: no process, namespace, link, mount or cgroup is left.
    Down {
        /// Also removes its data.
        #[arg(long)]
        fresh: bool,
    },
    /// Runs every test on a cluster of its own.
    Test {
        /// Only tests whose name contains one of these.
        filters: Vec<String>,
        /// Arguments for nextest.
        #[arg(last = true)]
        nextest: Vec<String>,
    },
    /// Builds everything that `up` starts.
    Build,
    /// Builds the programs in the kernel.
    BuildEbpf,
    /// Runs a command as a process of a node: in its network, UTS and cgroup namespaces.
    Exec {
        node: String,
        /// Also in the node's mount namespace, where its BPF pins and pods' mounts are.
        #[arg(long)]
        mounts: bool,
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// A node's daemon; its pods stay.
    Node {
        action: Action,
        /// node-1, node-2, …
        node: String,
    },
    /// The control plane's daemon.
    Control { action: Action },
    /// The etcd server.
    Etcd { action: Action },
    /// SIGKILL to every process of the cluster, pods included.
    KillAll,
    /// What this cluster has on this machine, and what no cluster answers for.
    Inventory,
    /// Which parts run, and the nodes as the API server sees them.
    Status,
    /// The daemons' logs.
    Logs {
        /// etcd, control, node-1, … [default: all]
        part: Option<Part>,
        /// Goes on with what is written from now on.
        #[arg(long, short)]
        follow: bool,
    },
    #[command(hide = true)]
    Enter(enter::EnterArgs),
    #[command(hide = true)]
    Hold(hold::HoldArgs),
}

#[derive(Clone, Debug, Default, Args)]
pub struct UpArgs {
    /// How many nodes [default: as before, or 1].
    #[arg(long)]
    pub nodes: Option<u32>,
    /// Returns when the cluster is ready, instead of showing its logs.
    #[arg(long)]
    pub detach: bool,
    /// Forgets the cluster's data first.
    #[arg(long)]
    pub fresh: bool,
    /// The nodes' own network [default: a free one of 172.30.0.0/16].
    #[arg(long)]
    pub subnet: Option<Ipv4Net>,
    /// The pods' network [default: a free one from 10.244.0.0/16 on].
    #[arg(long)]
    pub pod_cidr: Option<Ipv4Net>,
    /// The Services' addresses [default: 10.96.0.0/16].
    #[arg(long)]
    pub service_cidr: Option<Ipv4Net>,
    /// The API server's port on loopback and on the nodes' network [default: a free one from 6443 on].
    #[arg(long)]
    pub api_port: Option<u16>,
    /// A registry that speaks plain HTTP; may be given several times.
    #[arg(long, value_name = "HOST:PORT")]
    pub insecure_registry: Vec<String>,
}

impl Cli {
    pub fn run(self) -> Result<ExitCode> {
        let name = self.name.clone();
        let cluster = || Cluster::open(name.clone().unwrap_or_default());
        match self.command {
            // These two run in other namespaces and know no cluster.
            Command::Enter(args) => return enter::run(args),
            Command::Hold(args) => hold::run(&args)?,
            Command::Build => build::all(&machine::tree())?,
            Command::BuildEbpf => drop(build::ebpf(&machine::tree())?),
            Command::Test { filters, nextest } => {
                let name = self.name.unwrap_or_else(Name::of_tests);
                return test::run(name, &filters, &nextest);
            }
            Command::Up(args) => up::run(&cluster()?, &args)?,
            Command::Down { fresh } => down::run(&cluster()?, fresh)?,
            Command::Exec {
                node,
                mounts,
                command,
            } => {
                return enter::exec_on_node(&cluster()?, &node, mounts, command);
            }
            Command::Node { action, node } => cluster()?.act(&Part::Node(node), action)?,
            Command::Control { action } => cluster()?.act(&Part::Control, action)?,
            Command::Etcd { action } => cluster()?.act(&Part::Etcd, action)?,
            Command::KillAll => down::kill_all(&cluster()?)?,
            Command::Inventory => {
                let mut out = std::io::stdout().lock();
                for line in inventory::lines(&cluster()?)? {
                    writeln!(out, "{line}")?;
                }
            }
            Command::Status => status::print(&cluster()?)?,
            Command::Logs { part, follow } => logs::print(&cluster()?, part.as_ref(), follow)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_that_scenarios_and_readme_use_are_understood() {
        for line in [
            "up --nodes 3 --detach",
            "up --detach --nodes 1 --subnet 172.30.77.0/24 --api-port 16477 --fresh --name vtlife",
            "down --fresh --name vtlife",
            "node kill node-1 --name test",
            "control start --name test",
            "etcd kill --name test",
            "kill-all --name vtlife",
            "inventory --name vtlife",
            "exec node-1 -- curl -s http://10.96.0.9/ --name x",
            "exec --name other node-1 -- true",
            "test",
            "test rolling -- --no-capture",
            "logs node-2 --follow",
        ] {
            let words = std::iter::once("xtask").chain(line.split(' '));
            Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "",
            "up --nodes x",
            "exec node-1",
            "node fly node-1",
            "down --name UP",
            "logs nothing",
        ] {
            let words =
                std::iter::once("xtask").chain(line.split(' ').filter(|word| !word.is_empty()));
            assert!(Cli::try_parse_from(words).is_err(), "{line}");
        }
    }
}
