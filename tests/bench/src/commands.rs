//! What each command does, around the benchmarks themselves.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use indicatif::{MultiProgress, ProgressDrawTarget};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use vetch_bench::run::Run;
use vetch_bench::target::Target;
use vetch_bench::{api, dns, image, machine, output, pods, service};
use vetch_bench_record::{Report, SCHEMA};

use crate::cli::{Cli, Command, Common};
use crate::signals;

/// Which benchmark, with what it was told.
enum Bench {
    Service(service::Options),
    Pods(pods::Options),
    Api(api::Options),
    Dns(dns::Options),
}

pub fn run(cli: Cli) -> Result<ExitCode> {
    let (common, bench) = match cli.command {
        Command::Service { common, options } => (common, Bench::Service(options)),
        Command::Pods { common, options } => (common, Bench::Pods(options)),
        Command::Api { common, options } => (common, Bench::Api(options)),
        Command::Dns { common, options } => (common, Bench::Dns(options)),
        Command::Compare { before, after } => return compare(&before, &after),
        Command::Image {
            out,
            load,
            reference,
        } => {
            image::write(load.as_deref(), &reference, &out)?;
            println!("{} is {reference}", out.display());
            return Ok(ExitCode::SUCCESS);
        }
    };
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the async runtime")?
        .block_on(measure(&common, &bench))
}

async fn measure(common: &Common, bench: &Bench) -> Result<ExitCode> {
    let stop = CancellationToken::new();
    signals::watch(stop.clone())?;
    // Before minutes are spent on what could not be written.
    fs::create_dir_all(&common.out).with_context(|| format!("make {}", common.out.display()))?;
    let target = match &common.kubeconfig {
        Some(kubeconfig) => Target::remote(kubeconfig).await?,
        None => Target::local(&common.cluster()).await?,
    };
    let machine = machine::describe(&target)
        .await
        .context("the cluster does not answer")?;
    let mut run = Run {
        report: Report {
            schema: SCHEMA,
            bench: bench.name().into(),
            tool: output::tool(),
            command: output::command(),
            started: Timestamp::now(),
            finished: Timestamp::now(),
            complete: false,
            machine,
            settings: BTreeMap::new(),
            figures: Vec::new(),
            skipped: Vec::new(),
        },
        target,
        progress: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()),
        out: common.out.clone(),
        stop,
    };
    let outcome = bench.run(&mut run).await;
    let stopped = run.stopped();
    run.report.finished = Timestamp::now();
    run.report.complete = outcome.is_ok() && !stopped;
    if let Err(error) = &outcome {
        run.skip("what was left to measure", format!("{error:#}"));
    } else if stopped {
        run.skip("what was left to measure", "the run was ended early");
    }
    let page = output::write(&common.out, &run.report)?;
    output::summary(&run.report, &page);
    outcome?;
    Ok(if stopped {
        ExitCode::from(signals::INTERRUPTED)
    } else {
        ExitCode::SUCCESS
    })
}

impl Bench {
    fn name(&self) -> &'static str {
        match self {
            Bench::Service(_) => "service",
            Bench::Pods(_) => "pods",
            Bench::Api(_) => "api",
            Bench::Dns(_) => "dns",
        }
    }

    async fn run(&self, run: &mut Run) -> Result<()> {
        match self {
            Bench::Service(options) => service::run(run, options).await,
            Bench::Pods(options) => pods::run(run, options).await,
            Bench::Api(options) => api::run(run, options).await,
            Bench::Dns(options) => dns::run(run, options).await,
        }
    }
}

/// As diff(1) does it: trouble is neither "the same" nor "changed".
fn compare(before: &Path, after: &Path) -> Result<ExitCode> {
    let (before, after) = match (read(before), read(after)) {
        (Ok(before), Ok(after)) => (before, after),
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("vetch-bench: {error:#}");
            return Ok(ExitCode::from(2));
        }
    };
    let comparison = vetch_bench_report::compare(&before, &after);
    println!("{}", comparison.text().trim_end());
    Ok(if comparison.changed() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn read(path: &Path) -> Result<Report> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let shape: serde_json::Value = serde_json::from_str(&text)
        .with_context(|| format!("{} is no report.json", path.display()))?;
    ensure!(
        shape["schema"] == SCHEMA,
        "{} has schema {}, and this program reads {SCHEMA}",
        path.display(),
        shape["schema"]
    );
    serde_json::from_value(shape).with_context(|| format!("{} is no report.json", path.display()))
}
