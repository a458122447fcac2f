//! How fast the API server answers, and how soon its watchers hear of a write.
//!
//! Load is closed-loop: a client sends its next request when the last one is answered, over a
//! connection of its own, and answers are read to their end but not decoded. Pods carry a
//! scheduling gate, so that no scheduler and no node takes part.
//!
//! | measure | unit | what |
//! |---|---|---|
//! | `create-configmap`, `create-pod` | requests/s | new objects; the config map holds 256 bytes |
//! | `update-configmap` | requests/s | PUT; each client changes an object of its own |
//! | `patch-pod` | requests/s | merge patch of an annotation of the client's own pod |
//! | `get-configmap` | requests/s | the client's own object |
//! | `list-pods` | requests/s | all `objects` pods of a namespace in one answer |
//! | `list-pods-page` | requests/s | `page` pods an answer, from the first to the last and again |
//! | each of them with `-latency` | ms | `quantile` p50 or p99: sent → answer read |
//! | `watch-latency` | ms | a write is sent, or acknowledged (`from`) → a watcher has the event; over all watchers |
//! | `delete-collection-configmaps`, `…-pods` | objects/s | what a round made, until a list is empty |
//! | `control-memory`, `etcd-memory` | MiB | `when` idle, loaded (objects in place, after a round), after |
//!
//! An event that overtakes the answer to its write gives a time below zero from the acknowledgement.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;
use vetch_bench_record::{Better, Figure, quantile};

use crate::pods::client;
use crate::pods::namespace::Namespace;
use crate::pods::{note_settings, steps, subject};
use crate::run::Run;

mod exchange;
mod load;
mod memory;
mod operation;
mod prepare;
mod watchers;

use load::{Load, closed_loop};
use operation::{Operation, Scope, Worker};

/// What `vetch-bench api` is asked for.
#[derive(Clone, Debug, Args, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Options {
    /// Each round measures everything once.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Seconds a sample; requests under way at the end are waited for.
    #[arg(long, default_value_t = 3)]
    pub seconds: u64,
    /// Concurrent clients.
    #[arg(long, value_delimiter = ',', default_value = "1,32")]
    pub clients: Vec<usize>,
    /// Pods in the lists.
    #[arg(long, default_value_t = 10_000)]
    pub objects: usize,
    /// Pods a page, where lists are read in pages.
    #[arg(long, default_value_t = 500)]
    pub page: usize,
    /// Watchers of the object whose writes they hear of; empty for none.
    #[arg(long, value_delimiter = ',', default_value = "1,100")]
    pub watchers: Vec<usize>,
    /// Writes a second while watchers listen: few, so that it is a latency and no throughput.
    #[arg(long, default_value_t = 50)]
    pub watch_rate: usize,
    /// Whose figures these are [default: vetch for a cluster of this machine, else cluster].
    #[arg(long)]
    pub subject: Option<String>,
}

/// What the rounds need.
struct Bench<'a> {
    run: &'a mut Run,
    options: &'a Options,
    subject: String,
    clients: Vec<kube::Client>,
    scope: Scope,
    bar: ProgressBar,
}

/// Measures into `run.report`. When the run is stopped it returns `Ok` with what is whole by then;
/// its namespaces are gone in either case, unless the cluster takes too long over that.
pub async fn run(run: &mut Run, options: &Options) -> Result<()> {
    ensure!(options.rounds > 0, "--rounds 0 measures nothing");
    ensure!(options.seconds > 0, "--seconds 0 measures nothing");
    ensure!(options.page > 0, "--page 0 is no page");
    ensure!(options.watch_rate > 0, "--watch-rate 0 writes nothing");
    ensure!(
        !options.clients.contains(&0) && !options.watchers.contains(&0),
        "0 clients or watchers measure nothing"
    );
    note_settings(run, options)?;
    let subject = subject(run, options.subject.as_deref());
    memory::read(run, &subject, 0, "idle");
    let single = client::single(&run.target.kubeconfig).await?;
    let work = Namespace::create(&single, "vetch-bench-api", &run.stop).await?;
    let measured = match Namespace::create(&single, "vetch-bench-list", &run.stop).await {
        Ok(list) => {
            let measured = measure(run, options, &subject, &work.name, &list.name).await;
            measured.and(list.remove(run).await)
        }
        Err(error) => Err(error),
    };
    let gone = work.remove(run).await;
    measured.and(gone)?;
    if run.pause(memory::SETTLE).await {
        memory::read(run, &subject, 0, "after");
    }
    Ok(())
}

async fn measure(
    run: &mut Run,
    options: &Options,
    subject: &str,
    work: &str,
    list: &str,
) -> Result<()> {
    let most = options.clients.iter().chain(&options.watchers).max();
    let most = most.copied().unwrap_or(1);
    let clients = client::several(&run.target.kubeconfig, most).await?;
    let steps_a_round = options.clients.len() * Operation::ALL.len() + options.watchers.len() + 1;
    let bar = steps::bar(run, options.rounds * steps_a_round);
    let mut bench = Bench {
        options,
        subject: subject.to_owned(),
        clients,
        scope: Scope {
            work: work.to_owned(),
            list: list.to_owned(),
            page: options.page,
            objects: options.objects,
            whole_list_bytes: 0,
        },
        bar,
        run,
    };
    let done = bench.rounds().await;
    bench.bar.finish_and_clear();
    done
}

impl Bench<'_> {
    async fn rounds(&mut self) -> Result<()> {
        if !self.prepare().await? {
            return Ok(());
        }
        let scope = Arc::new(self.scope.clone());
        for round in 0..self.options.rounds {
            for clients in self.options.clients.clone() {
                for operation in Operation::ALL {
                    if self.run.stopped() {
                        return Ok(());
                    }
                    self.load(round, clients, operation, &scope).await?;
                }
            }
            for watchers in self.options.watchers.clone() {
                if self.run.stopped() {
                    return Ok(());
                }
                self.watch(round, watchers).await?;
            }
            if self.run.stopped() {
                return Ok(());
            }
            memory::read(self.run, &self.subject, round, "loaded");
            self.delete_what_was_made(round).await?;
            self.bar.inc(1);
        }
        Ok(())
    }

    async fn load(
        &mut self,
        round: usize,
        clients: usize,
        operation: Operation,
        scope: &Arc<Scope>,
    ) -> Result<()> {
        let what = format!("{} by {clients} clients", operation.measure());
        self.bar.set_message(format!("round {}: {what}", round + 1));
        let workers = (0..clients)
            .map(|index| {
                let tag = format!("{round}-{clients}-{index}");
                (
                    self.clients[index].clone(),
                    Worker::new(operation, scope.clone(), index, tag),
                )
            })
            .collect();
        let time = Duration::from_secs(self.options.seconds);
        let load = closed_loop(workers, time, &self.run.stop).await?;
        if self.run.stopped() {
            return Ok(());
        }
        if let Some(why) = load.failure() {
            self.run.skip(format!("{what}, round {}", round + 1), why);
        }
        for (figure, sample) in self.samples(operation, clients, &load) {
            self.run.add(figure, round, sample);
        }
        self.bar.inc(1);
        Ok(())
    }

    fn samples(
        &self,
        operation: Operation,
        clients: usize,
        load: &Load,
    ) -> Vec<(Figure, Option<f64>)> {
        let figure = |measure: &str, unit: &str, better| {
            let figure = Figure::new(measure, &self.subject, unit, better).with("clients", clients);
            match operation {
                Operation::ListPods => figure.with("objects", self.options.objects),
                Operation::ListPodsPage => figure
                    .with("objects", self.options.objects)
                    .with("page", self.options.page),
                _ => figure,
            }
        };
        let whole = load.failure().is_none();
        let rate = figure(operation.measure(), "requests/s", Better::Higher);
        let mut samples = vec![(rate, whole.then_some(load.rate))];
        for (name, part) in [("p50", 0.5), ("p99", 0.99)] {
            let measure = format!("{}-latency", operation.measure());
            let latency = figure(&measure, "ms", Better::Lower).with("quantile", name);
            let sample = quantile(&load.latencies, part).filter(|_| whole);
            samples.push((latency, sample));
        }
        samples
    }

    async fn watch(&mut self, round: usize, watchers: usize) -> Result<()> {
        let what = format!("watch latency with {watchers} watchers");
        self.bar.set_message(format!("round {}: {what}", round + 1));
        let writes = self.options.watch_rate * usize::try_from(self.options.seconds)?;
        let heard = watchers::hear(
            &self.clients[..watchers],
            &self.scope,
            writes,
            self.options.watch_rate,
            &self.run.stop,
        )
        .await;
        if self.run.stopped() {
            return Ok(());
        }
        let latencies = match heard.with_context(|| what.clone()) {
            Ok(latencies) => latencies,
            Err(error) => {
                let what = format!("{what}, round {}", round + 1);
                self.run.skip(what, format!("{error:#}"));
                watchers::Latencies::default()
            }
        };
        for (from, latencies) in [
            ("sent", &latencies.sent),
            ("acknowledged", &latencies.acknowledged),
        ] {
            for (name, part) in [("p50", 0.5), ("p99", 0.99)] {
                let figure = Figure::new("watch-latency", &self.subject, "ms", Better::Lower)
                    .with("watchers", watchers)
                    .with("from", from)
                    .with("quantile", name);
                self.run.add(figure, round, quantile(latencies, part));
            }
        }
        self.bar.inc(1);
        Ok(())
    }
}
