//! `bench`: `vetch-bench` on a cluster of its own, from what is built and installed to the report.

use std::ffi::{OsStr, OsString};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::build::{self, Wanted};
use crate::child;
use crate::cli::{NodeArgs, UpArgs};
use crate::cluster::{Cluster, Name};
use crate::signals::{self, Signals};
use crate::state::State;
use crate::steps::Steps;
use crate::{apt, down, machine, process, tools, up};

/// With `--kube-proxy`, Vetch serves the Services of this name and the others are kube-proxy's;
/// `vetch-bench` labels them so.
const PROXY_NAME: &str = "vetch";
/// Whom nodes ask about names of this domain: `vetch-bench dns` answers there.
pub const UPSTREAM: &str = "--dns-domain-upstream=vetch-bench.test=127.0.0.1:5399";
/// About what a node's /24 has addresses for, so that `bench pods` finds room on one node.
const MAX_PODS: u32 = 250;

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Leaves the cluster up afterwards.
    #[arg(long)]
    keep: bool,
    /// How many nodes the cluster has.
    #[arg(long, default_value_t = 2)]
    nodes: u32,
    #[command(flatten)]
    more: NodeArgs,
    /// What vetch-bench is told: `service`, `pods`, `api`, `dns`, `compare`, … and their arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    arguments: Vec<OsString>,
}

pub fn run(name: Name, args: &BenchArgs) -> Result<ExitCode> {
    let tree = machine::tree();
    let steps = Steps::new();
    if !needs_cluster(&args.arguments) {
        build::unless_there(&steps, &tree, Wanted::DaemonsAndBench)?;
        let signals = Signals::hold()?;
        let child = signals::spawn(&mut program(&tree, &args.arguments))?;
        return child::wait(child, &signals).map(child::exit_code);
    }
    machine::require_kernel()?;
    let cluster = Cluster::open(name)?;
    let lock = cluster.lock()?;
    build::install(&steps, apt::RUN)?;
    build::unless_there(&steps, &tree, Wanted::DaemonsAndBench)?;
    // From here on Ctrl-C takes the cluster down as well.
    let signals = Signals::hold()?;
    let mut more = args.more.clone();
    if args.arguments.first().is_some_and(|first| first == "dns") {
        more.node_args.push(UPSTREAM.into());
    }
    let wishes = UpArgs {
        nodes: Some(args.nodes),
        fresh: true,
        max_pods: Some(MAX_PODS),
        service_proxy_name: is_given(&args.arguments, "--kube-proxy").then(|| PROXY_NAME.into()),
        more,
        ..UpArgs::default()
    };
    let outcome = up::start(&steps, &cluster, &wishes).and_then(|state| {
        give_image(&steps, &cluster, &state)?;
        // The benchmark stops and starts daemons of this cluster.
        drop(lock);
        let mut command = program(&tree, &args.arguments);
        command
            .env("VETCH_CLUSTER", cluster.paths.description())
            .env("VETCH_XTASK", std::env::current_exe()?);
        let child = signals::spawn(&mut command).context("run vetch-bench")?;
        child::wait(child, &signals)
    });
    if args.keep {
        eprintln!(
            "`cargo xtask down --fresh --name {}` takes it down",
            cluster.name
        );
        return outcome.map(child::exit_code);
    }
    let _lock = cluster.lock()?;
    let taken_down = down::everything(&cluster, true);
    let code = outcome?;
    taken_down?;
    Ok(child::exit_code(code))
}

/// Writes the load image and imports it into the store of each node.
pub fn give_image(steps: &Steps, cluster: &Cluster, state: &State) -> Result<()> {
    steps.run("Give the nodes the load image", |_| {
        let archive = cluster.tree.load_image();
        let mut write = Command::new(cluster.tree.daemon("vetch-bench"));
        write
            .args(["image", "--load"])
            .arg(cluster.tree.load())
            .arg("--out")
            .arg(&archive);
        up::succeed(&mut write)?;
        for name in state.node_names() {
            up::import_image(cluster, &cluster.paths.node(&name).root, &archive)?;
        }
        Ok(())
    })
}

fn program(tree: &crate::paths::Tree, arguments: &[OsString]) -> Command {
    let mut command = Command::new(tree.daemon("vetch-bench"));
    command.args(arguments).env("PATH", process::search_path());
    // For the report: what repeats it, and what it was built of.
    let words: Vec<String> = ["cargo", "xtask", "bench"]
        .into_iter()
        .map(str::to_owned)
        .chain(
            arguments
                .iter()
                .map(|word| word.to_string_lossy().into_owned()),
        )
        .collect();
    if let Ok(words) = serde_json::to_string(&words) {
        command.env("VETCH_BENCH_COMMAND", words);
    }
    let root = tree.root().display().to_string();
    let describe = [
        "-C",
        &root,
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
    ];
    if let Some(commit) = tools::answer("git", &describe) {
        command.env("VETCH_BENCH_COMMIT", commit.trim());
    }
    command
}

/// Whether it measures a cluster that is not named.
fn needs_cluster(arguments: &[OsString]) -> bool {
    let measures = arguments.first().is_some_and(|first| {
        ["service", "pods", "api", "dns"]
            .iter()
            .any(|word| first == word)
    });
    let named = ["--cluster", "--kubeconfig", "--help", "-h"];
    measures && !named.iter().any(|flag| is_given(arguments, flag))
}

/// As `--flag value` or `--flag=value`.
fn is_given(arguments: &[OsString], flag: &str) -> bool {
    arguments.iter().any(|word| {
        let word: &OsStr = word;
        let word = word.to_string_lossy();
        word.strip_prefix(flag)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn a_cluster_is_made_for_what_measures_one_that_is_not_named() {
        for (line, needed) in [
            ("service --services 1,1000 --out DIR", true),
            ("pods", true),
            ("api --out x", true),
            ("dns --seconds 1", true),
            ("service --kubeconfig x", false),
            ("service --cluster=x", false),
            ("service --help", false),
            ("compare a.json b.json", false),
            ("image --out x.tar", false),
        ] {
            assert_eq!(needs_cluster(&words(line)), needed, "{line}");
        }
    }

    #[test]
    fn flags_are_found_in_both_forms() {
        for (line, given) in [
            ("service --kube-proxy /bin/kube-proxy", true),
            ("service --kube-proxy=/bin/kube-proxy", true),
            ("service --kube-proxy-args x", false),
            ("service --proxies kube-proxy-iptables", false),
        ] {
            assert_eq!(is_given(&words(line), "--kube-proxy"), given, "{line}");
        }
    }
}
