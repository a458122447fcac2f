//! The benchmarks of Services and names on the suite's cluster: small figures, whole reports, nothing left behind.
//!
//! It holds the cluster alone: it lays rules into nodes, restarts a daemon, and others' load would
//! be in its samples.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use vetch_tests::{Cluster, eventually};

const SUBJECTS: [&str; 4] = ["direct", "vetch", "iptables", "nftables"];

fn bench(words: &[&str], out: &Path) -> Result<Child> {
    measure("service", words, out)
}

fn measure(what: &str, words: &[&str], out: &Path) -> Result<Child> {
    let program = std::env::var_os("VETCH_BENCH")
        .context("VETCH_BENCH names no program: run `cargo xtask test`")?;
    Command::new(program)
        .arg(what)
        .args(words)
        .arg("--out")
        .arg(out)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("run vetch-bench")
}

fn report(out: &Path) -> Result<Value> {
    let page = fs::read_to_string(out.join("report.html"))?;
    ensure!(page.contains("</html>"), "the page has no end");
    Ok(serde_json::from_str(&fs::read_to_string(
        out.join("report.json"),
    )?)?)
}

/// Neither a namespace nor a rule of a run, and every daemon runs.
fn assert_clean(cluster: &Cluster) -> Result<()> {
    let namespaces = cluster
        .kubectl(&["get", "namespaces", "-o", "name"])?
        .ok()?;
    ensure!(
        !namespaces.contains("/vetch-bench-"),
        "namespaces are left: {namespaces}"
    );
    for node in &cluster.nodes {
        let rules = node.command("nft", &["list", "ruleset"]).output()?;
        ensure!(rules.status.success(), "nft: {}", rules.status);
        let rules = String::from_utf8_lossy(&rules.stdout).into_owned();
        ensure!(rules.is_empty(), "rules are left in {}: {rules}", node.name);
        eventually(Duration::from_secs(30), "the node is ready", || {
            let line = cluster
                .kubectl(&["get", "node", &node.name, "--no-headers"])?
                .ok()?;
            ensure!(line.split_whitespace().nth(1) == Some("Ready"), "{line}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn the_service_benchmark_measures_every_subject_and_cleans_up() -> Result<()> {
    let cluster = Cluster::exclusive()?;
    let dir = tempfile::tempdir()?;
    let words = "--services 1,10 --proxies vetch,iptables,nftables --seconds 0.3 --warmup 0.1 \
                 --rounds 2 --flips 2 --placements across-nodes --frontends ClusterIP \
                 --measures keepalive,connect,effect,program,memory";
    let words: Vec<&str> = words.split_whitespace().collect();
    let output = bench(&words, dir.path())?.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "vetch-bench: {}\n{said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(
        said.contains("÷ direct") || said.contains("× direct"),
        "no verdict: {said}"
    );
    assert_clean(&cluster)?;

    let report = report(dir.path())?;
    ensure!(report["complete"] == true, "not complete");
    ensure!(
        report["skipped"].as_array().is_some_and(Vec::is_empty),
        "skipped: {}",
        report["skipped"]
    );
    let figures = report["figures"].as_array().context("figures")?;
    let find = |measure: &str, subject: &str, services: u32| {
        figures
            .iter()
            .find(|figure| {
                figure["measure"] == measure
                    && figure["subject"] == subject
                    && figure["conditions"]["services"] == services
            })
            .with_context(|| format!("no {measure} of {subject} at {services} services"))
    };
    for services in [1, 10] {
        for measure in ["keepalive", "connect"] {
            for subject in SUBJECTS {
                let figure = find(measure, subject, services)?;
                let samples = figure["samples"].as_array().context("samples")?;
                ensure!(
                    samples.len() == 2 && samples.iter().all(|sample| sample.as_f64() > Some(0.0)),
                    "{figure}"
                );
            }
        }
        for measure in ["program-from-nothing", "map-memory"] {
            let figure = find(measure, "vetch", services)?;
            ensure!(figure["summary"]["median"].as_f64() > Some(0.0), "{figure}");
        }
        let effect = find("endpoint-effect", "vetch", services)?;
        ensure!(effect["summary"]["count"] == 2, "{effect}");
    }
    Ok(())
}

#[test]
fn a_benchmark_ended_early_says_what_it_did_and_cleans_up() -> Result<()> {
    let cluster = Cluster::exclusive()?;
    let dir = tempfile::tempdir()?;
    let words = "--services 10 --proxies iptables --seconds 2 --rounds 50 --placements same-node --measures keepalive";
    let words: Vec<&str> = words.split_whitespace().collect();
    let mut child = bench(&words, dir.path())?;
    let node = &cluster.nodes[0];
    let outcome = eventually(Duration::from_secs(60), "rules are laid", || {
        let rules = node.command("nft", &["list", "ruleset"]).output()?;
        ensure!(!rules.stdout.is_empty(), "no rules yet");
        Ok(())
    });
    kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGINT)?;
    let code = child.wait()?.code();
    outcome?;
    ensure!(code == Some(130), "ended with {code:?}");
    assert_clean(&cluster)?;

    let report = report(dir.path())?;
    ensure!(report["complete"] == false, "it was not complete");
    let words = report["skipped"].to_string();
    ensure!(words.contains("ended early"), "skipped: {words}");
    Ok(())
}

/// Measured beside the rules where Vetch answers, and else told and nobody's time spent on it.
#[test]
fn node_ports_are_measured_where_vetch_answers_on_them() -> Result<()> {
    let cluster = Cluster::exclusive()?;
    let dir = tempfile::tempdir()?;
    let words = "--services 1 --proxies vetch,iptables,nftables --seconds 0.3 --warmup 0.1 --rounds 1 \
                 --frontends nodeport --measures connect";
    let words: Vec<&str> = words.split_whitespace().collect();
    let output = bench(&words, dir.path())?.wait_with_output()?;
    ensure!(
        output.status.success(),
        "vetch-bench: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    assert_clean(&cluster)?;
    let report = report(dir.path())?;
    let skipped = report["skipped"].as_array().context("skipped")?;
    for placement in ["same-node", "across-nodes"] {
        let told = skipped.iter().any(|line| {
            let what = line["what"].as_str().unwrap_or_default();
            what.starts_with("NodePort, ") && what.contains(placement)
        });
        for subject in SUBJECTS {
            let figure = report["figures"].as_array().and_then(|all| {
                all.iter().find(|figure| {
                    figure["measure"] == "connect"
                        && figure["subject"] == subject
                        && figure["conditions"]["placement"] == placement
                })
            });
            let measured = figure.is_some_and(|figure| figure["samples"][0].as_f64() > Some(0.0));
            ensure!(
                measured != told,
                "{subject}, {placement}: measured {measured}, told {told}: {}",
                report["skipped"]
            );
        }
    }
    // Rules alone have nobody to wait for.
    let dir = tempfile::tempdir()?;
    let words = "--services 1 --proxies iptables,nftables --seconds 0.3 --warmup 0.1 --rounds 1 \
                 --frontends nodeport --measures connect,udp";
    let words: Vec<&str> = words.split_whitespace().collect();
    let output = bench(&words, dir.path())?.wait_with_output()?;
    ensure!(output.status.success(), "vetch-bench: {}", output.status);
    let report = self::report(dir.path())?;
    let mut skipped = (report["skipped"].as_array().context("skipped")?.iter())
        .map(|line| line["what"].as_str().unwrap_or_default());
    ensure!(
        !skipped.any(|what| what.starts_with("NodePort, ")),
        "{}",
        report["skipped"]
    );
    Ok(())
}

/// Questions of a pod through the ClusterIP, of every kind of name, and what the node's daemon spends on them.
#[test]
fn the_benchmark_of_names_measures_every_kind_and_what_it_costs() -> Result<()> {
    let cluster = Cluster::exclusive()?;
    let dir = tempfile::tempdir()?;
    let words = ["--seconds", "1", "--warmup", "0.2", "--rounds", "1"];
    let output = measure("dns", &words, dir.path())?.wait_with_output()?;
    ensure!(
        output.status.success(),
        "vetch-bench: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    assert_clean(&cluster)?;
    let report = report(dir.path())?;
    ensure!(report["complete"] == true, "not complete");
    let skipped = report["skipped"].as_array().context("skipped")?;
    ensure!(skipped.is_empty(), "skipped: {skipped:?}");
    let figures = report["figures"].as_array().context("figures")?;
    let sample = |measure: &str, subject: &str, query: &str| {
        let figure = figures.iter().find(|figure| {
            figure["measure"] == measure
                && figure["subject"] == subject
                && figure["conditions"]["query"] == query
        });
        let sample = figure.and_then(|figure| figure["samples"][0].as_f64());
        sample.with_context(|| format!("no {measure} of {subject}, {query} names"))
    };
    for query in ["service", "missing", "external"] {
        let rate = sample("dns", "vetch", query)?;
        let (cost, core) = (
            sample("dns-cpu", "vetch", query)?,
            sample("dns-core", "vetch", query)?,
        );
        ensure!(
            rate > 100.0 && cost > 0.0,
            "{query}: {rate} queries/s, {cost} µs each"
        );
        ensure!(
            (cost * core / 1e6 - 1.0).abs() < 1e-6,
            "{query}: {cost} µs, {core} a core"
        );
        let [middle, most] =
            ["p50", "p999"].map(|part| sample(&format!("dns-latency-{part}"), "vetch", query));
        let (middle, most) = (middle?, most?);
        ensure!(
            0.0 < middle && middle <= most,
            "{query}: {middle} µs, {most} µs"
        );
    }
    for query in ["service", "external"] {
        let published = sample("dns-core", "coredns-published", query)?;
        ensure!((published - 17_720.0).abs() < 2.0, "{published}");
    }
    let source = report["settings"]["corednsPublished"].as_str();
    ensure!(
        source.is_some_and(|source| source.contains("Scaling_CoreDNS.md")),
        "{source:?}"
    );
    Ok(())
}
