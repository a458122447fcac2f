//! `vetch-bench service`: requests through Services beside requests straight to pods.
//!
//! Servers stay on one node; the client of each sample is a pod of its own, on that node or on
//! another. Services have no selector: their EndpointSlices are written here. At most 16 of them are
//! dialled and lead to the servers; the others are there to be passed by, with endpoints in
//! 198.19.0.0/16 that nobody dials.
//!
//! Which subject a sample is of decides the address its client dials, what is in the nodes
//! meanwhile ([`standing`]), and by which path its packets go. So `direct` and `vetch` never have a
//! netfilter rule in their way, and only `vetch` has what Vetch does for its pods.

use std::time::Instant;

use anyhow::{Context as _, Result};
use serde_json::json;
use vetch_bench_record::{Better, Figure};
use vetch_bench_rules::Mode;

use crate::pods::namespace::Namespace;
use crate::run::Run;

pub(crate) mod daemon;
mod effect;
pub(crate) mod load;
mod nodes;
pub(crate) mod objects;
mod options;
mod plan;
pub(crate) mod pods;
mod population;
mod program;
mod progress;
mod rules;
mod series;
mod standing;
mod traffic;
mod usage;

pub use options::{Options, Proxy};

use nodes::Nodes;
use plan::Subject;
use series::Series;

/// Everything that was asked for, one number of endpoints after the other. What cannot be measured
/// here is skipped, in words.
pub async fn run(run: &mut Run, options: &Options) -> Result<()> {
    let outcome = measure(run, options).await;
    if run.stopped() {
        // Whatever it was in the middle of.
        return Ok(());
    }
    outcome
}

async fn measure(run: &mut Run, options: &Options) -> Result<()> {
    let seed = options.seed.unwrap_or_else(|| {
        u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default()
    });
    let nodes = Nodes::find(run).await?;
    let cluster = cluster_name(run, options);
    let subjects = subjects(run, options, &nodes, cluster)?;
    record(run, options, seed, &nodes);
    rules::clear(&nodes.places()).await?;
    let all = options::unique(options.endpoints.clone());
    let progress = progress::Progress::start(
        run,
        options,
        subjects.len(),
        nodes.placements(options).len(),
    );
    for endpoints in all {
        if run.stopped() {
            break;
        }
        let namespace = Namespace::create(&run.target.client, "vetch-bench", &run.stop).await?;
        let series = Series::begin(
            run,
            options,
            &namespace.name,
            &nodes,
            &subjects,
            (seed, endpoints),
        );
        let outcome = match series.await {
            Ok(series) => series.run(run, &progress).await,
            Err(error) => Err(error),
        };
        // Both, whatever came before.
        let cleared = rules::clear(&nodes.places()).await;
        let from = Instant::now();
        let removed = namespace.remove(run).await;
        if outcome.is_ok() && removed.is_ok() && !run.stopped() {
            let services = options.services().last().copied().unwrap_or_default();
            let figure = Figure::new("remove-services", cluster, "s", Better::Lower)
                .with("services", services)
                .with("endpoints", endpoints);
            run.add(figure, 0, Some(from.elapsed().as_secs_f64()));
        }
        outcome.and(cleared).and(removed)?;
    }
    Ok(())
}

/// What the report calls the cluster's own proxy.
fn cluster_name<'a>(run: &Run, options: &'a Options) -> &'a str {
    match run.target.local {
        Some(_) => "vetch",
        None => &options.subject_name,
    }
}

/// Direct first, then whom the options name and this cluster lets one measure.
fn subjects(
    run: &mut Run,
    options: &Options,
    nodes: &Nodes,
    cluster: &str,
) -> Result<Vec<Subject>> {
    let local = run.target.local.is_some();
    let mut subjects = vec![Subject::Direct];
    for proxy in options.proxies() {
        let subject = Subject::of(proxy, cluster);
        let why_not = if subject.is_local() && !local {
            Some("rules are laid only into the nodes of a cluster of this machine")
        } else if proxy.is_kube_proxy() && !nodes.leave_services()? {
            Some(
                "the nodes serve all Services themselves: bring the cluster up with \
                 `cargo xtask up --service-proxy-name vetch`",
            )
        } else {
            None
        };
        match why_not {
            Some(why) => run.skip(subject.name().to_owned(), why),
            None => subjects.push(subject),
        }
    }
    Ok(subjects)
}

/// All that the figures depend on.
fn record(run: &mut Run, options: &Options, seed: u64, nodes: &Nodes) {
    let settings = &mut run.report.settings;
    for (key, value) in [
        ("seconds", json!(options.seconds)),
        ("warmup", json!(options.warmup)),
        ("rounds", json!(options.rounds)),
        ("connections", json!(options.connections)),
        ("threads", json!(options.threads)),
        ("serverPods", json!(options.server_pods)),
        ("flips", json!(options.flips)),
        ("rateShare", json!(options.rate_share)),
        ("seed", json!(seed)),
        ("image", json!(options.image)),
        ("serverNode", json!(nodes.server.name)),
        (
            "otherNode",
            json!(nodes.other.as_ref().map(|node| &node.name)),
        ),
    ] {
        settings.insert(key.into(), value);
    }
    // What the rules cost depends on who lays them.
    for (key, proxy, mode) in [
        ("iptables", Proxy::Iptables, Mode::Iptables),
        ("nftables", Proxy::Nftables, Mode::Nftables),
    ] {
        if options.proxies().contains(&proxy)
            && let Ok(version) = vetch_bench_rules::version(mode)
        {
            settings.insert(key.into(), json!(version));
        }
    }
}

/// Milliseconds of a duration given in microseconds.
fn millis(micros: f64) -> f64 {
    micros / 1000.0
}

/// An error of the machine's side of a sample, with what it was.
fn blocking<T: Send + 'static>(
    job: impl FnOnce() -> Result<T> + Send + 'static,
) -> impl Future<Output = Result<T>> {
    let job = tokio::task::spawn_blocking(job);
    async move { job.await.context("a thread of the benchmark died")? }
}
