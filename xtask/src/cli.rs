//! The commands and their arguments.

use std::ffi::OsString;
use std::io::Write as _;
use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};
use ipnet::Ipv4Net;

use crate::cluster::{Cluster, Name};
use crate::plan::IpFamily;
use crate::service::{Action, Part};
use crate::vm::Machines;
use crate::vm::doors::Happening;
use crate::{
    bench, build, down, e2e, enter, hold, inventory, logs, machine, package, status, test, up,
};

/// Builds, starts, tests and takes down Vetch clusters on this machine.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    /// The cluster; several stand side by side [default: vetch, for `test`: test, for `bench`: bench].
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
    /// Runs `vetch-bench` on a cluster of its own, which is taken down afterwards.
    Bench(bench::BenchArgs),
    /// Runs the scenarios on virtual machines with distribution kernels.
    E2e(e2e::E2eArgs),
    /// Makes Debian packages of the daemons.
    Package,
    /// What happens to a virtual machine of `e2e --keep`.
    Machine {
        happening: Happening,
        /// node-1, node-2, …
        node: String,
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
        /// Starts it with these addresses instead of those that it had; its network has them already.
        #[arg(long, value_name = "IP,…", value_delimiter = ',')]
        node_ip: Vec<IpAddr>,
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
    /// What pods, Services and nodes have addresses of [default: as before, or dual where this machine has
    /// IPv6].
    #[arg(long, value_enum)]
    pub ip_family: Option<IpFamily>,
    /// Returns when the cluster is ready, instead of showing its logs.
    #[arg(long)]
    pub detach: bool,
    /// Forgets the cluster's data first.
    #[arg(long)]
    pub fresh: bool,
    /// The nodes' own network [default: a free one of 172.30.0.0/16].
    #[arg(long)]
    pub subnet: Option<Ipv4Net>,
    /// How many links the nodes are on, with a router in between: each gets a part of their network, and
    /// nodes take their turns [default: as before, or 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16))]
    pub subnets: Option<u32>,
    /// The pods' network [default: a free one from 10.244.0.0/16 on].
    #[arg(long)]
    pub pod_cidr: Option<Ipv4Net>,
    /// The Services' addresses [default: 10.96.0.0/16].
    #[arg(long)]
    pub service_cidr: Option<Ipv4Net>,
    /// The API server's port on loopback and on the nodes' network [default: a free one from 6443 on].
    #[arg(long)]
    pub api_port: Option<u16>,
    /// How many pods a node takes [default: as before, or what vetch-node has].
    #[arg(long, value_name = "N")]
    pub max_pods: Option<u32>,
    /// A registry that speaks plain HTTP; may be given several times.
    #[arg(long, value_name = "HOST:PORT")]
    pub insecure_registry: Vec<String>,
    /// Leave Services to another proxy, but for those whose label
    /// service.kubernetes.io/service-proxy-name has this value [default: as before].
    #[arg(long, value_name = "NAME")]
    pub service_proxy_name: Option<String>,
    #[command(flatten)]
    pub more: NodeArgs,
}

/// What makes a node another one.
#[derive(Clone, Debug, Default, Args)]
pub struct NodeArgs {
    /// A flag that vetch-node gets besides, as `--node-arg=--load-balancer-mode=dsr`; may be given several
    /// times [default: as before].
    #[arg(long = "node-arg", value_name = "FLAG", allow_hyphen_values = true)]
    pub node_args: Vec<String>,
}

impl Cli {
    pub fn run(self) -> Result<ExitCode> {
        let name = self.name.clone();
        if let Some(machines) = self.machines()? {
            return self.command.on_machines(&machines);
        }
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
            Command::Bench(args) => {
                return bench::run(self.name.unwrap_or_else(Name::of_benchmarks), &args);
            }
            Command::E2e(args) => return e2e::run(self.name, &args),
            Command::Package => package::run(&machine::tree())?,
            Command::Machine { node, .. } => {
                bail!("{node} is no virtual machine: name a cluster of `cargo xtask e2e --keep`")
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
            Command::Node {
                action,
                node,
                node_ip,
            } => {
                let (cluster, part) = (cluster()?, Part::Node(node));
                if !node_ip.is_empty() {
                    cluster.give_addresses(&part, action, &node_ip)?;
                }
                cluster.act(&part, action)?;
            }
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

impl Cli {
    /// The cluster of virtual machines that is meant, if the name is one's.
    fn machines(&self) -> Result<Option<Machines>> {
        match (&self.name, &self.command) {
            // They make such a cluster anew.
            (_, Command::E2e(_)) | (None, _) => Ok(None),
            (Some(name), _) => Machines::find(&machine::tree(), name),
        }
    }
}

impl Command {
    /// The doors that virtual machines have too.
    fn on_machines(self, machines: &Machines) -> Result<ExitCode> {
        match self {
            Command::Exec { node, command, .. } => return machines.exec(&node, &command),
            Command::Node {
                action,
                node,
                node_ip,
            } => {
                if !node_ip.is_empty() {
                    bail!("the address of a virtual machine is its own: change it there");
                }
                machines.act(&Part::Node(node), action)?;
            }
            Command::Control { action } => machines.act(&Part::Control, action)?,
            Command::Etcd { action } => machines.act(&Part::Etcd, action)?,
            Command::Machine { happening, node } => machines.happen(&node, happening)?,
            Command::Down { .. } => machines.remove()?,
            _ => bail!(
                "cluster {} is of virtual machines: they have exec, node, control, etcd, machine and down",
                machines.name
            ),
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
            "up --nodes 3 --subnets 2 --detach",
            "up --detach --nodes 1 --subnet 172.30.77.0/24 --api-port 16477 --fresh --name vtlife",
            "down --fresh --name vtlife",
            "node kill node-1 --name test",
            "node start node-2 --node-ip 172.30.0.77,fd00:172:30::77 --name test",
            "control start --name test",
            "etcd kill --name test",
            "kill-all --name vtlife",
            "inventory --name vtlife",
            "exec node-1 -- curl -s http://10.96.0.9/ --name x",
            "exec --name other node-1 -- true",
            "e2e",
            "e2e --kernel 6.1 --kernel newest --nodes 2 --scenario reboot --keep",
            "machine power-off node-1 --name vm-6-1",
            "package",
            "test",
            "test rolling -- --no-capture",
            "bench service --services 1,1000 --proxies vetch,iptables,nftables --seconds 3 --out DIR",
            "bench --keep --nodes 3 --name b2 pods --help",
            "bench dns --seconds 1 --rounds 3 --out DIR",
            "bench compare a.json b.json",
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
            "up --subnets 0",
            "exec node-1",
            "node fly node-1",
            "down --name UP",
            "logs nothing",
            "e2e --kernel 2.6",
            "e2e --nodes 0",
            "machine explode node-1",
            "bench",
        ] {
            let words =
                std::iter::once("xtask").chain(line.split(' ').filter(|word| !word.is_empty()));
            assert!(Cli::try_parse_from(words).is_err(), "{line}");
        }
    }
}
