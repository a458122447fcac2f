//! `test`: every test of the workspace in one run, on a cluster of the suite's own.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, ExitCode};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::build::{self, Wanted};
use crate::cli::UpArgs;
use crate::cluster::{Cluster, Name};
use crate::signals::{self, Signals, Woken};
use crate::steps::Steps;
use crate::{apt, down, kubectl, machine, process, tools, up};

/// As many as the example has replicas, so that each can be on a node of its own.
const NODES: u32 = 3;

pub fn run(name: Name, filters: &[String], arguments: &[String]) -> Result<ExitCode> {
    machine::require_kernel()?;
    let cluster = Cluster::open(name)?;
    let lock = cluster.lock()?;
    let steps = Steps::new();
    build::install(&steps, &[apt::BUILD, apt::RUN, apt::TEST].concat())?;
    let kubectl = steps.run("Look for nextest and kubectl", |step| {
        tools::nextest(step)?;
        kubectl::recent::program(step, &cluster.tree)
    })?;
    build::everything(&steps, &cluster.tree, Wanted::DaemonsAndTests)?;
    // From here on Ctrl-C takes the cluster down as well.
    let signals = Signals::hold()?;
    let args = UpArgs {
        nodes: Some(NODES),
        fresh: true,
        ..UpArgs::default()
    };
    let outcome = up::start(&steps, &cluster, &args).and_then(|_| {
        // Scenarios stop and start daemons of this cluster.
        drop(lock);
        eprintln!(
            "==> Test; the cluster's logs are in {}",
            cluster.paths.logs().display()
        );
        let child = nextest(&cluster, &kubectl, filters, arguments)?;
        wait(child, &signals)
    });
    let passed = matches!(outcome, Ok(0));
    // The summary stays the last that is said; logs stay where something failed.
    let _lock = cluster.lock()?;
    let taken_down = down::everything(&cluster, passed);
    let code = outcome?;
    taken_down?;
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

fn nextest(
    cluster: &Cluster,
    kubectl: &Path,
    filters: &[String],
    arguments: &[String],
) -> Result<Child> {
    let tree = &cluster.tree;
    let mut command = build::cargo(tree);
    command
        .args(["nextest", "run", "--release", "--workspace"])
        .args(filters)
        .args(arguments)
        .env("VETCH_CLUSTER", cluster.paths.description())
        // The build may have replaced the file of this process.
        .env("VETCH_XTASK", tree.daemon("xtask"))
        .env("VETCH_ECHO", tree.echo())
        .env("VETCH_SHIM", tree.shim())
        .env("VETCH_KUBECTL", kubectl)
        .env(up::PREBUILT, "1")
        .env("PATH", process::search_path());
    signals::spawn(&mut command).context("run cargo nextest")
}

/// The exit code of the run; signals of this program go on to it.
fn wait(mut child: Child, signals: &Signals) -> Result<i32> {
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    let raw = rustix::process::Pid::from_child(&child);
    let file = rustix::process::pidfd_open(raw, rustix::process::PidfdFlags::empty())
        .context("watch the run")?;
    while let Woken::Signal(signal) = signals.wait(file.as_fd())? {
        // The terminal's goes to both, and twice is a different wish.
        if signal != Signal::SIGINT {
            let _ = kill(pid, signal);
        }
    }
    Ok(child.wait()?.code().unwrap_or(1))
}
