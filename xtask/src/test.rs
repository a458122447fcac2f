//! `test`: every test of the workspace in one run, on a cluster of the suite's own.

#[cfg(test)]
mod forgotten;

use std::path::Path;
use std::process::{Child, Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::build::{self, Wanted};
use crate::cli::{NodeArgs, UpArgs};
use crate::cluster::{Cluster, Name};
use crate::paths::{Profile, Tree};
use crate::signals::{self, Signals};
use crate::steps::Steps;
use crate::vm::{Machines, kernel};
use crate::{apt, bench, child, down, e2e, kubectl, machine, process, tools, up};

/// What a whole machine has to show; see there.
const SCENARIOS: [&str; 5] = [
    include_str!("../../tests/tests/machine.rs"),
    include_str!("../../tests/tests/machine/confined.rs"),
    include_str!("../../tests/tests/machine/disks.rs"),
    include_str!("../../tests/tests/machine/memory.rs"),
    include_str!("../../tests/tests/machine/power.rs"),
];
/// The suite's cluster of virtual machines.
const MACHINES: &str = "vm-test";

/// As many as the example has replicas, so that each can be on a node of its own.
const NODES: u32 = 3;

pub fn run(name: Name, filters: &[String], arguments: &[String]) -> Result<ExitCode> {
    machine::require_kernel()?;
    let mut cluster = Cluster::open(name)?;
    cluster.tree.profile = Profile::Dev;
    let lock = cluster.lock()?;
    let steps = Steps::new();
    build::install(&steps, &[apt::BUILD, apt::RUN, apt::TEST].concat())?;
    let kubectl = steps.run("Look for nextest and kubectl", |step| {
        tools::nextest(step)?;
        kubectl::recent::program(step, &cluster.tree)
    })?;
    build::everything(&steps, &cluster.tree, Wanted::DaemonsAndTests)?;
    let with_machines = needs_machines(filters);
    if with_machines {
        e2e::install(&steps)?;
    }
    // From here on Ctrl-C takes the cluster down as well.
    let signals = Signals::hold()?;
    let args = UpArgs {
        nodes: Some(NODES),
        fresh: true,
        // For the benchmark of names; nobody else has names there.
        more: NodeArgs {
            node_args: vec![bench::UPSTREAM.into()],
        },
        ..UpArgs::default()
    };
    let outcome = up::start(&steps, &cluster, &args).and_then(|state| {
        bench::give_image(&steps, &cluster, &state)?;
        let machines = if with_machines {
            Some(boot(&steps, &cluster.tree)?)
        } else {
            None
        };
        // Scenarios stop and start daemons of this cluster.
        drop(lock);
        eprintln!(
            "==> Test; the cluster's logs are in {}",
            cluster.paths.logs().display()
        );
        eprintln!("    scenarios of several virtual machines are not among them: cargo xtask e2e");
        let child = nextest(&cluster, &kubectl, machines.as_ref(), filters, arguments)?;
        let code = child::wait(child, &signals)?;
        match machines {
            Some(machines) => e2e::finish(&machines, code),
            None => Ok(code),
        }
    });
    let passed = matches!(outcome, Ok(0));
    // The summary stays the last that is said; logs stay where something failed.
    let _lock = cluster.lock()?;
    let taken_down = down::everything(&cluster, passed);
    let code = outcome?;
    taken_down?;
    Ok(child::exit_code(code))
}

/// One machine with Debian 12's kernel. It boots while other tests run.
fn boot(steps: &Steps, tree: &Tree) -> Result<Machines> {
    steps.run("Make a virtual machine", |step| {
        let name = MACHINES.parse().map_err(anyhow::Error::msg)?;
        let machines = e2e::make(step, tree, &name, &kernel::DEBIAN[0], 1)?;
        for machine in machines.all() {
            machines.power_on(&machine)?;
        }
        Ok(machines)
    })
}

/// Whether a scenario of theirs is among what is asked for: by parts of names, as nextest has it.
fn needs_machines(filters: &[String]) -> bool {
    let named = |filter: &String| {
        SCENARIOS
            .iter()
            .flat_map(|file| file.lines())
            .filter_map(|line| line.strip_prefix("fn "))
            .any(|name| name.contains(filter.as_str()))
    };
    filters.is_empty() || filters.iter().any(named)
}

/// nextest over what was built of the whole workspace, told where what the tests run is.
pub fn nextest_command(tree: &Tree, kubectl: &Path) -> Command {
    let mut command = build::cargo(tree);
    command
        .args(["nextest", "run", "--binaries-metadata"])
        .arg(tree.tests())
        // The build may have replaced the file of this process.
        .env("VETCH_XTASK", tree.daemon("xtask"))
        .env("VETCH_ECHO", tree.echo())
        .env("VETCH_SHIM", tree.shim())
        .env("VETCH_KUBECTL", kubectl)
        .env(up::PREBUILT, tree.profile.folder())
        .env("PATH", process::search_path());
    command
}

fn nextest(
    cluster: &Cluster,
    kubectl: &Path,
    machines: Option<&Machines>,
    filters: &[String],
    arguments: &[String],
) -> Result<Child> {
    let mut command = nextest_command(&cluster.tree, kubectl);
    command
        .args(filters)
        .args(arguments)
        .env("VETCH_CLUSTER", cluster.paths.description())
        .env("VETCH_BENCH", cluster.tree.daemon("vetch-bench"));
    if let Some(machines) = machines {
        command.env("VETCH_MACHINES", machines.description());
    }
    signals::spawn(&mut command).context("run cargo nextest")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_boot_for_the_whole_suite_and_for_their_own_scenarios() {
        let asked = |filters: &[&str]| {
            let filters: Vec<String> = filters.iter().map(|&filter| filter.into()).collect();
            needs_machines(&filters)
        };
        assert!(asked(&[]));
        assert!(asked(&["rolling_update", "power_loss"]));
        assert!(!asked(&["rolling_update"]));
    }
}
