//! Builds what `up` starts, in the order the parts need each other.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::apt;
use crate::paths::{Profile, Tree, echo_target};
use crate::process;
use crate::steps::{Step, Steps};
use crate::{tools, up};

mod ebpf;

/// What cargo is asked for.
///
/// Daemons are built by the tree's profile. Tests are by `test`, which differs from `dev` for the workspace's own crates
/// alone: every dependency is compiled once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Daemons,
    /// The daemons and `vetch-bench`.
    DaemonsAndBench,
    /// Every program of the workspace: what these depend on has the features that it has for the tests.
    DaemonsAndTests,
}

pub fn all(tree: &Tree) -> Result<()> {
    let steps = Steps::new();
    install(&steps, apt::BUILD)?;
    everything(&steps, tree, Wanted::Daemons)
}

/// Installs what is missing of these.
pub fn install(steps: &Steps, needs: &[apt::Need]) -> Result<()> {
    let packages = apt::plan(needs, apt::is_here);
    if packages.is_empty() {
        return Ok(());
    }
    crate::machine::require_root()?;
    steps.run("Install packages", |step| apt::install(step, &packages))
}

/// [`everything`], where [`up::PREBUILT`] does not say that it is there.
pub fn unless_there(steps: &Steps, tree: &Tree, wanted: Wanted) -> Result<()> {
    if std::env::var_os(up::PREBUILT).is_some() {
        return Ok(());
    }
    install(steps, apt::BUILD)?;
    everything(steps, tree, wanted)
}

pub fn everything(steps: &Steps, tree: &Tree, wanted: Wanted) -> Result<()> {
    ebpf(tree)?;
    steps.run("Build the pods' supervisor", |step| {
        tools::run(
            step,
            cargo(tree).args(["build", "--profile", "shim", "--package", "vetch-shim"]),
        )
    })?;
    steps.run("Build the echo server", |step| {
        static_program(step, tree, "vetch-echo")
    })?;
    if wanted != Wanted::Daemons {
        steps.run("Build the load generator", |step| {
            static_program(step, tree, "vetch-load")
        })?;
    }
    if wanted == Wanted::DaemonsAndTests {
        steps.run("Build the tests (many minutes, the first time)", |step| {
            tests(step, tree)
        })?;
    }
    let what = match wanted {
        Wanted::Daemons | Wanted::DaemonsAndTests => "Build the daemons (minutes, the first time)",
        Wanted::DaemonsAndBench => "Build the daemons and the benchmark (minutes, the first time)",
    };
    steps.run(what, |step| {
        tools::run(step, cargo(tree).args(arguments(tree.profile, wanted)))
    })
}

/// Builds what tests, and notes it for nextest.
///
/// Cargo has one place for the programs of `dev` and `test`. Tests that run a program should find the daemon as others
/// do, so these are built after this, and nextest is not to build again.
fn tests(step: &Step, tree: &Tree) -> Result<()> {
    let mut command = cargo(tree);
    command.args(["nextest", "list", "--workspace"]).args([
        "--list-type",
        "binaries-only",
        "--message-format",
        "json",
    ]);
    tools::run_into(step, &mut command, &tree.tests())
}

/// One that has to run in an image without libraries.
fn static_program(step: &Step, tree: &Tree, package: &str) -> Result<()> {
    let mut command = cargo(tree);
    command
        .args(["build", "--release", "--package", package, "--target"])
        .arg(echo_target())
        // Because a target is named, the flag does not reach build scripts.
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    tools::run(step, &mut command)
}

/// Makes `target/ebpf/vetch-ebpf`, unless it is of the present sources.
pub fn ebpf(tree: &Tree) -> Result<PathBuf> {
    ebpf::build(&Steps::new(), tree).context("build the programs in the kernel")
}

pub fn arguments(profile: Profile, wanted: Wanted) -> Vec<&'static str> {
    let mut arguments = vec!["build", "--profile", profile.name()];
    arguments.extend_from_slice(match wanted {
        Wanted::Daemons => &["-p", "vetch-control", "-p", "vetch-node", "-p", "vetch-cni"],
        Wanted::DaemonsAndBench => &[
            "-p",
            "vetch-control",
            "-p",
            "vetch-node",
            "-p",
            "vetch-cni",
            "-p",
            "vetch-bench",
        ],
        Wanted::DaemonsAndTests => &["--workspace", "--bins"],
    });
    arguments
}

/// The cargo that runs this program, in the checkout, with the target folder where the daemons are
/// looked for.
pub fn cargo(tree: &Tree) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(tree.root())
        .env("CARGO_TARGET_DIR", tree.target())
        .env("PATH", process::search_path())
        .stdin(Stdio::null());
    tools::forget_package(&mut command);
    command
}
