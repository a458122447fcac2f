//! `e2e`: the scenarios on virtual machines, one cluster a kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Deserialize;

use crate::build::{self, Wanted};
use crate::cluster::Name;
use crate::paths::{Profile, Tree};
use crate::signals::{self, Signals};
use crate::steps::{Step, Steps};
use crate::vm::cluster::first_trouble;
use crate::vm::{Choice, Kernel, Machines, Plan, accelerator, console, image, kernel};
use crate::{apt, cache, child, debian, kubectl, machine, package, test, tools};

mod outcome;

pub use outcome::Outcome;

#[derive(Clone, Debug, Args)]
pub struct E2eArgs {
    /// 6.1, 6.12, newest (Debian's cloud kernels, fetched once), or a path to a kernel package or
    /// its unpacked folder; may be given several times [default: all three of Debian].
    #[arg(long = "kernel", value_name = "KERNEL")]
    kernels: Vec<Choice>,
    /// Machines of a cluster.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: u8,
    /// Only scenarios whose name contains this; may be given several times.
    #[arg(long = "scenario", value_name = "NAME")]
    scenarios: Vec<String>,
    /// Leaves the machines running: `cargo xtask exec`, `node`, `machine` reach them by their
    /// cluster's name, and `cargo xtask down` ends them.
    #[arg(long)]
    keep: bool,
    /// Runs no scenario and opens a shell on node-1.
    #[arg(long)]
    shell: bool,
    /// Arguments for nextest.
    #[arg(last = true)]
    nextest: Vec<String>,
}

/// A boot under emulation takes a quarter of it.
const READY: Duration = Duration::from_secs(240);
/// Between two looks at the consoles.
const LOOK: Duration = Duration::from_millis(300);
/// Lines of a console that are shown after a failure.
const TOLD: usize = 20;

pub fn run(name: Option<Name>, args: &E2eArgs) -> Result<ExitCode> {
    image::check()?;
    let mut tree = machine::tree();
    let steps = Steps::new();
    build::install(&steps, &[apt::BUILD, apt::RUN, apt::TEST].concat())?;
    install(&steps)?;
    let wanted = if args.shell {
        Wanted::Daemons
    } else {
        tree.profile = Profile::Dev;
        Wanted::DaemonsAndTests
    };
    let kubectl = steps.run("Look for nextest and kubectl", |step| {
        if !args.shell {
            tools::nextest(step)?;
        }
        kubectl::recent::program(step, &tree)
    })?;
    build::unless_there(&steps, &tree, wanted)?;
    let kernels: &[Choice] = if args.kernels.is_empty() {
        &kernel::DEBIAN
    } else {
        &args.kernels
    };
    // From here on Ctrl-C ends the machines as well.
    let signals = Signals::hold()?;
    let mut outcomes = Vec::new();
    for choice in kernels {
        let name = match &name {
            Some(name) => name.clone(),
            None => format!("vm-{}", choice.slug())
                .parse()
                .map_err(anyhow::Error::msg)?,
        };
        let machines = start(&steps, &tree, &name, choice, args.nodes)?;
        if args.shell {
            let shell = machines.shell("node-1");
            // Also when the last command in it failed.
            end(&machines, args.keep)?;
            return shell.map(|()| ExitCode::SUCCESS);
        }
        let outcome = scenarios(&tree, &machines, &kubectl, args, &signals);
        let outcome = outcome.map(|outcome| outcome.of(choice, machines.kernel_release()));
        let folder = artifacts(&tree, choice);
        keep_artifacts(
            &machines,
            &folder,
            !matches!(&outcome, Ok(fine) if fine.passed()),
        )?;
        end(&machines, args.keep)?;
        let outcome = outcome.with_context(|| {
            format!(
                "on kernel {choice}; console and journal are in {}",
                folder.display()
            )
        })?;
        let interrupted = outcome.interrupted;
        outcomes.push(outcome);
        if interrupted {
            break;
        }
    }
    println!();
    for outcome in &outcomes {
        println!("{outcome}");
    }
    let passed = outcomes.len() == kernels.len() && outcomes.iter().all(Outcome::passed);
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// QEMU of the machine's own Debian, or of its backports where packages of those are in the way.
pub fn install(steps: &Steps) -> Result<()> {
    if !apt::is_here(apt::QEMU.proof) {
        machine::require_root()?;
        steps.run("Install QEMU", |step| {
            if apt::install(step, &[apt::QEMU.package]).is_ok() {
                return Ok(());
            }
            step.tell("not from this Debian's own: trying its backports");
            let suites = ["bookworm", "bookworm-backports"];
            let lists = debian::Suite::open(step, &cache::folder().join("apt"), &suites)?;
            lists.install(step, suites[1], &[apt::QEMU.package])
        })?;
    }
    build::install(steps, apt::VM)
}

/// A cluster of machines on this kernel, ready.
pub fn start(
    steps: &Steps,
    tree: &Tree,
    name: &Name,
    choice: &Choice,
    nodes: u8,
) -> Result<Machines> {
    let machines = steps.run(&format!("Make machines with kernel {choice}"), |step| {
        make(step, tree, name, choice, nodes)
    })?;
    let what = format!(
        "Boot {nodes} of them (kernel {}, {})",
        machines.kernel_release(),
        machines.accelerator().words()
    );
    let ready = steps.run(&what, |step| {
        for machine in machines.all() {
            machines.power_on(&machine)?;
        }
        machines.wait_ready(READY, |line| step.progress(line))
    });
    if let Err(error) = ready {
        let folder = artifacts(tree, choice);
        keep_artifacts(&machines, &folder, true)?;
        machines.power_off_all()?;
        return Err(error.context(format!("the logs are in {}", folder.display())));
    }
    Ok(machines)
}

/// The machines, switched off.
pub fn make(step: &Step, tree: &Tree, name: &Name, choice: &Choice, nodes: u8) -> Result<Machines> {
    let cache = cache::folder();
    let kernel = Kernel::get(step, choice, &cache)?;
    let root = image::make(step, tree, &cache)?;
    let accelerator = accelerator::find(&kernel, &tree.target().join("vm"))?;
    let plan = Plan {
        nodes,
        kernel,
        accelerator,
    };
    Machines::make(tree, name, &plan, &root)
}

fn artifacts(tree: &Tree, choice: &Choice) -> PathBuf {
    tree.target().join("e2e").join(choice.slug())
}

/// What the kernel made of the programs always; consoles and journals where something failed.
fn keep_artifacts(machines: &Machines, folder: &Path, logs: bool) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    if let Ok(programs) = machines
        .ssh()
        .run("node-1", "vetch-node programs --output json")
    {
        fs::write(folder.join("programs.json"), programs)?;
    }
    match machines
        .ssh()
        .run("node-1", "vetch-node verify --output json")
    {
        Ok(verdicts) => keep_verifier_logs(&verdicts, &folder.join("verifier"))?,
        Err(error) => eprintln!("no verifier logs: {error:#}"),
    }
    if !logs {
        return Ok(());
    }
    for machine in machines.all() {
        let files = machines.files(&machine);
        for (path, kind) in [(files.console(), "console"), (files.journal(), "journal")] {
            if path.exists() {
                fs::copy(&path, folder.join(format!("{}-{kind}.log", machine.name)))?;
            }
        }
    }
    Ok(())
}

/// One file a program, from what `vetch-node verify` says.
fn keep_verifier_logs(verdicts: &str, folder: &Path) -> Result<()> {
    #[derive(Deserialize)]
    struct Verdict {
        program: String,
        log: String,
    }
    let verdicts: Vec<Verdict> =
        serde_json::from_str(verdicts).context("read the verifier's verdicts")?;
    fs::create_dir_all(folder)?;
    for Verdict { program, log } in verdicts {
        fs::write(folder.join(format!("{program}.log")), log)?;
    }
    Ok(())
}

fn end(machines: &Machines, keep: bool) -> Result<()> {
    if keep {
        eprintln!(
            "the machines go on as cluster {name}: `cargo xtask exec --name {name} node-1 -- sh`, `cargo xtask down --name {name}`",
            name = machines.name
        );
        return Ok(());
    }
    machines.remove()
}

/// The end of the suite's machines: what they said counts as much as what the tests found.
pub fn finish(machines: &Machines, code: i32) -> Result<i32> {
    let trouble = first_trouble(&mut machines.watched());
    if code == 0 && trouble.is_none() {
        machines.remove()?;
        return Ok(code);
    }
    machines.power_off_all()?;
    for machine in machines.all() {
        // Warnings and worse: a kernel that stalls is told here, where the folder may be out of reach.
        let said = console::end(&machines.files(&machine).console(), TOLD);
        eprintln!("the console of {} ends:\n{said}", machine.name);
    }
    eprintln!(
        "what the machines said is in {}",
        machines.folder().display()
    );
    match trouble {
        Some((machine, trouble)) => bail!("{machine}: {}:\n{}", trouble.kind, trouble.text),
        None => Ok(code),
    }
}

/// The filter of nextest (its filterset language): what makes sense on whole machines.
fn filter(scenarios: &[String]) -> String {
    let names = scenarios
        .iter()
        .map(|name| format!("test({name})"))
        .collect::<Vec<_>>()
        .join(" | ");
    // `lifecycle` and `direct` take clusters of namespaces up and down, `bench` lays rules into them, and `cri`
    // connects to a socket of this machine.
    // Some single ones need what is between nodes of namespaces, or a folder or an answer of this machine.
    let all = "package(vetch-tests) & not (binary(lifecycle) | binary(direct) | binary(bench) | binary(cri)) & kind(test) \
               & not (test(/^(link|moved|exhausted|conflict)::/) | test(people_outside_see_a_pods_node) \
               | test(a_static_pod_shows_in_kubectl))";
    if names.is_empty() {
        all.to_owned()
    } else {
        format!("{all} & ({names})")
    }
}

fn scenarios(
    tree: &Tree,
    machines: &Machines,
    kubectl: &Path,
    args: &E2eArgs,
    signals: &Signals,
) -> Result<Outcome> {
    let mut command = test::nextest_command(tree, kubectl);
    command
        .args(["--profile", "e2e"])
        .args(["--filterset", &filter(&args.scenarios)])
        .args(&args.nextest)
        .env("VETCH_CLUSTER", machines.description())
        .env("VETCH_MACHINES", machines.description())
        .env("VETCH_NODE_PACKAGE", package::path(tree, "vetch-node"))
        .stderr(Stdio::piped());
    let child = signals::spawn(&mut command).context("run cargo nextest")?;
    wait(child, machines, signals)
}

/// Ends the run at once when a console says what it must never say.
fn wait(mut child: Child, machines: &Machines, signals: &Signals) -> Result<Outcome> {
    let said = outcome::relay(child.stderr.take().context("nextest's standard error")?);
    let mut watched = machines.watched();
    let end = child::wait_watching(child, signals, LOOK, || first_trouble(&mut watched))?;
    let summary = said.join().unwrap_or_default();
    if let Some((machine, trouble)) = end.found {
        bail!("{machine}: {}:\n{}", trouble.kind, trouble.text);
    }
    Ok(Outcome::new(end.code, &summary, end.interrupted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_has_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let said =
            r#"[{"program": "connect4", "refused": null, "log": "0: exit\nprocessed 1 insns"}]"#;
        keep_verifier_logs(said, &folder.path().join("verifier")).unwrap();
        let kept = fs::read_to_string(folder.path().join("verifier/connect4.log")).unwrap();
        assert_eq!(kept, "0: exit\nprocessed 1 insns");
    }

    #[test]
    fn scenarios_are_chosen_by_parts_of_their_names() {
        assert!(filter(&[]).contains("not (binary(lifecycle)"));
        let both = filter(&["reboot".into(), "rolling".into()]);
        assert!(both.ends_with("& (test(reboot) | test(rolling))"), "{both}");
    }
}
