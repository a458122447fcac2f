//! `up` and `down` leave the machine as they found it, whatever happened in between.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use vetch_tests::cluster::{repository, xtask};
use vetch_tests::eventually;

const NAME: &str = "vtlife";
const MINUTE: Duration = Duration::from_secs(60);

/// Everything a cluster could leave behind, except what belongs to the suite's own cluster.
fn inventory() -> Result<Vec<String>> {
    Ok(xtask(NAME, &["inventory"])?
        .lines()
        .map(str::to_owned)
        .collect())
}

fn rules() -> Result<String> {
    let mut text = String::new();
    for program in [&["iptables-save"][..], &["nft", "list", "ruleset"][..]] {
        let output = Command::new(program[0])
            .args(&program[1..])
            .output()
            .with_context(|| format!("run {}", program[0]))?;
        // Counters and times are comments or brackets; only rules count.
        text.extend(
            String::from_utf8_lossy(&output.stdout)
                .lines()
                .filter(|line| !line.starts_with('#'))
                .map(|line| format!("{line}\n")),
        );
    }
    Ok(text)
}

fn up(fresh: &[&str]) -> Result<PathBuf> {
    let mut args = vec![
        "up",
        "--detach",
        "--nodes",
        "1",
        "--subnet",
        "172.30.77.0/24",
        "--api-port",
        "16477",
    ];
    args.extend_from_slice(fresh);
    xtask(NAME, &args)?;
    Ok(repository().join(format!("target/vetch-{NAME}/cluster.json")))
}

#[test]
fn down_leaves_nothing_even_after_sigkill_to_everything() -> Result<()> {
    xtask(NAME, &["down", "--fresh"])?;
    let (before, rules_before) = (inventory()?, rules()?);

    let description = up(&["--fresh"])?;
    deploy(&description)?;
    // A crash of everything at once, then a second `up` that heals it, then a crash before `down`.
    xtask(NAME, &["kill-all"])?;
    up(&[])?;
    deploy(&description)?;
    ensure!(rules()? == rules_before, "netfilter rules changed");
    xtask(NAME, &["kill-all"])?;
    xtask(NAME, &["down", "--fresh"])?;

    ensure!(rules()? == rules_before, "netfilter rules changed");
    let after = inventory()?;
    let left: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
    let lost: Vec<_> = before.iter().filter(|line| !after.contains(line)).collect();
    ensure!(
        left.is_empty() && lost.is_empty(),
        "left behind: {left:#?}\nmissing: {lost:#?}"
    );
    Ok(())
}

fn deploy(description: &PathBuf) -> Result<()> {
    let cluster: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(description)?)?;
    let kubeconfig = cluster["kubeconfig"]
        .as_str()
        .context("kubeconfig")?
        .to_owned();
    let kubectl = |args: &[&str]| -> Result<()> {
        let program = std::env::var_os("VETCH_KUBECTL").unwrap_or_else(|| "kubectl".into());
        let output = Command::new(program)
            .env("KUBECONFIG", &kubeconfig)
            .args(args)
            .output()?;
        ensure!(
            output.status.success(),
            "kubectl {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    };
    let example = repository().join("examples/echo.yaml");
    eventually(MINUTE, "the example is accepted", || {
        kubectl(&["apply", "-f", &example.to_string_lossy()])
    })?;
    kubectl(&["rollout", "status", "deployment/echo", "--timeout=120s"])
}
