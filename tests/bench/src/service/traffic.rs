//! Load through every subject, side by side.

use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use vetch_bench_record::{Better, Figure};

use super::load::{Load, Outcome};
use super::objects;
use super::options::unique;
use super::plan::{self, Conditions, Frontend, Kind, Measure, Subject};
use super::progress::Progress;
use super::series::Series;
use super::usage::Usage;
use crate::run::Run;

/// A shorter sample is too short to see how busy the machine was.
const WINDOW_MIN: f64 = 1.0;

/// Above so many endpoints of all Services, a subject's rules are brought about once a round: that they
/// come takes many seconds, and that the kernel has freed them and conntrack is gone as many.
const ONE_GO: u64 = 10_000;

/// What a group of samples is of.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Job {
    kind: Kind,
    /// At a fixed rate, for the latency.
    open: bool,
}

/// A sample that went well.
struct Sample {
    outcome: Outcome,
    /// Of the machine, in each second of the load.
    usage: Option<Usage>,
}

impl Series<'_> {
    /// One sample of everything for every subject.
    pub async fn traffic(
        &mut self,
        run: &mut Run,
        services: u32,
        round: usize,
        progress: &Progress,
    ) -> Result<()> {
        let mut groups = Vec::new();
        for placement in self.placements() {
            for frontend in unique(self.options.frontends.clone()) {
                let conditions = Conditions {
                    placement,
                    frontend,
                    services,
                    endpoints: self.endpoints,
                };
                let silent = frontend == Frontend::NodePort && self.silent.contains(&placement);
                let jobs = self.jobs().into_iter().filter(|_| !silent);
                groups.extend(jobs.map(|job| (conditions, job)));
            }
        }
        let many = u64::from(services) * u64::from(self.endpoints) > ONE_GO;
        let slow: Vec<bool> = (self.subjects.iter())
            .map(|subject| many && matches!(subject, Subject::Rules(_)))
            .collect();
        // What a fixed rate is made of comes first, also where groups are not one after the other.
        let (open, closed): (Vec<usize>, Vec<usize>) =
            (0..groups.len()).partition(|group| groups[*group].1.open && many);
        let turns = [closed, open].map(|groups| plan::turns(self.seed, round, &groups, &slow));
        for (group, turn) in turns.concat() {
            let (conditions, job) = groups[group];
            let subject = self.subjects[turn].clone();
            progress.say(&format!(
                "{services} Services, round {}: {}{}, {}, {}, {}",
                round + 1,
                job.kind.as_str(),
                if job.open { " at a fixed rate" } else { "" },
                conditions.placement.as_str(),
                conditions.frontend.as_str(),
                subject.name()
            ));
            self.sample(run, conditions, job, &subject, round).await?;
            progress.bar.inc(1);
        }
        Ok(())
    }

    /// Closed loops first: they say which rate all can hold.
    fn jobs(&self) -> Vec<Job> {
        let measures = unique(self.options.measures.clone());
        let kinds: Vec<Kind> = measures.into_iter().filter_map(Kind::of).collect();
        let closed = kinds.iter().map(|kind| Job {
            kind: *kind,
            open: false,
        });
        let open = kinds
            .iter()
            .filter(|kind| kind.has_latency())
            .map(|kind| Job {
                kind: *kind,
                open: true,
            });
        let latency = self.has(Measure::Latency);
        closed.chain(open.filter(|_| latency)).collect()
    }

    /// What fails is a gap in the figure and a line in the report, not the end of the run.
    async fn sample(
        &mut self,
        run: &mut Run,
        conditions: Conditions,
        job: Job,
        subject: &Subject,
        round: usize,
    ) -> Result<()> {
        // What got nothing through once is not tried again.
        let way = format!("{} {conditions:?}", subject.name());
        if self.dead.contains(&way) {
            self.add(run, conditions, job, subject, round, None);
            return Ok(());
        }
        let outcome = match self.prepare(conditions, job, subject) {
            Ok(load) => self.take(conditions, subject, &load, run).await?,
            Err(error) => Err(format!("{error:#}")),
        };
        if run.stopped() {
            bail!("the run was ended early");
        }
        let what = || {
            format!(
                "{} of {}, {}, {}, {} services, {} endpoints, round {}",
                job.kind.as_str(),
                subject.name(),
                conditions.placement.as_str(),
                conditions.frontend.as_str(),
                conditions.services,
                conditions.endpoints,
                round + 1
            )
        };
        let sample = match outcome {
            Ok(sample) => match sample.outcome.trouble() {
                None => Some(sample),
                Some(why) => {
                    if sample.outcome.requests == 0 {
                        self.dead.insert(way);
                    }
                    run.skip(what(), why);
                    None
                }
            },
            Err(why) => {
                self.dead.insert(way);
                run.skip(what(), why);
                None
            }
        };
        if let (Some(sample), Subject::Direct, false) = (&sample, subject, job.open) {
            self.choose_rate(run, conditions, job.kind, &sample.outcome);
        }
        self.add(run, conditions, job, subject, round, sample.as_ref());
        Ok(())
    }

    /// The rate of latency samples: the same in all rounds and for all sizes.
    fn choose_rate(
        &mut self,
        run: &mut Run,
        conditions: Conditions,
        kind: Kind,
        outcome: &Outcome,
    ) {
        let key = (conditions.placement.as_str(), kind.as_str());
        if self.rates.contains_key(&key) || !kind.has_latency() {
            return;
        }
        let rate = (outcome.value(kind) * self.options.rate_share)
            .round()
            .max(1.0);
        self.rates.insert(key, rate);
        let setting = format!(
            "rate {} {} {} endpoints",
            key.1, key.0, conditions.endpoints
        );
        run.report.settings.insert(setting, json!(rate));
    }

    fn prepare(&self, conditions: Conditions, job: Job, subject: &Subject) -> Result<Load> {
        let mut load = self.load(job.kind, self.targets(conditions, job.kind, subject)?);
        if job.open {
            let key = (conditions.placement.as_str(), job.kind.as_str());
            let rate = self.rates.get(&key);
            load.rate = Some(*rate.context("direct gave no rate to hold")?);
        } else {
            load.usage = self.backends(subject).controls();
        }
        Ok(load)
    }

    fn targets(
        &self,
        conditions: Conditions,
        kind: Kind,
        subject: &Subject,
    ) -> Result<Vec<SocketAddrV4>> {
        let node = &self.nodes.server.address;
        match subject {
            Subject::Direct => {
                let backends = self.backends(subject);
                let dialled = (0..).zip(plan::dialled(conditions.services));
                Ok(dialled
                    .flat_map(|(number, _)| backends.of(number))
                    .collect())
            }
            Subject::Rules(_) => {
                let server = address_of_node(node)?;
                let dialled = plan::dialled(conditions.services);
                let target = |(number, index): (u16, &u32)| match conditions.frontend {
                    Frontend::ClusterIp => {
                        SocketAddrV4::new(objects::virtual_address(*index), objects::PORT)
                    }
                    Frontend::NodePort => {
                        SocketAddrV4::new(server, objects::rule_node_port(number))
                    }
                };
                Ok((0..).zip(&dialled).map(target).collect())
            }
            Subject::Cluster(_) | Subject::KubeProxy(_) => {
                self.population(subject)?
                    .targets(conditions.frontend, kind, node)
            }
        }
    }

    /// The inner error is the sample's, the outer one ends the run: then rules may be left.
    async fn take(
        &mut self,
        conditions: Conditions,
        subject: &Subject,
        load: &Load,
        run: &Run,
    ) -> Result<Result<Sample, String>> {
        if let Err(why) = self.stand(subject).await? {
            return Ok(Err(why));
        }
        let sample = self.drive(conditions, subject, load, run).await;
        Ok(sample.map_err(|error| format!("{error:#}")))
    }

    async fn drive(
        &mut self,
        conditions: Conditions,
        subject: &Subject,
        load: &Load,
        run: &Run,
    ) -> Result<Sample> {
        let node = self.nodes.client(conditions.placement).name.clone();
        let name = self
            .pods
            .start(subject.path(), &node, &load.words())
            .await?;
        let mut usage = None;
        if run.target.local.is_some() && load.rate.is_none() && load.seconds >= WINDOW_MIN {
            self.pods.running(&name).await?;
            usage = self.usage(load, run).await?;
        }
        let log = self.pods.finish(&name, load.seconds + load.warmup).await?;
        let outcome = Outcome::read(&log).map_err(anyhow::Error::msg)?;
        Ok(Sample { outcome, usage })
    }

    /// In the middle of the load, so that its edges do not matter.
    async fn usage(&mut self, load: &Load, run: &Run) -> Result<Option<Usage>> {
        if !run
            .pause(Duration::from_secs_f64(load.warmup + 0.2 * load.seconds))
            .await
        {
            return Ok(None);
        }
        let from = self.meter.read()?;
        if !run.pause(Duration::from_secs_f64(0.6 * load.seconds)).await {
            return Ok(None);
        }
        Ok(Some(from.until(&self.meter.read()?)))
    }

    fn add(
        &self,
        run: &mut Run,
        conditions: Conditions,
        job: Job,
        subject: &Subject,
        round: usize,
        sample: Option<&Sample>,
    ) {
        let kind = job.kind;
        let mut add = |measure: String, unit: &str, better: Better, value: Option<f64>| {
            let figure = Figure::new(&measure, subject.name(), unit, better);
            run.add(conditions.on(figure), round, value);
        };
        let name = kind.as_str();
        if job.open {
            let latency = sample.and_then(|sample| sample.outcome.latency_micros);
            for (part, value) in [
                ("p50", latency.map(|latency| latency.p50)),
                ("p99", latency.map(|latency| latency.p99)),
                ("p999", latency.map(|latency| latency.p999)),
            ] {
                add(format!("{name}-latency-{part}"), "µs", Better::Lower, value);
            }
            return;
        }
        let value = sample.map(|sample| sample.outcome.value(kind));
        add(name.to_owned(), kind.unit(), Better::Higher, value);
        if !kind.has_latency() {
            return;
        }
        let cpu = sample.and_then(|sample| sample.outcome.cpu_micros_per_request());
        add(format!("{name}-cpu"), "µs/request", Better::Lower, cpu);
        let Some((value, usage)) = value.zip(sample.and_then(|sample| sample.usage)) else {
            return;
        };
        let mut spent = |part: &str, unit: &str, each_second: f64| {
            let measure = format!("{name}-machine-{part}");
            add(measure, unit, Better::Lower, Some(each_second / value));
        };
        spent("cpu", "µs/request", usage.busy_seconds * 1e6);
        if let Some(cycles) = usage.cycles {
            spent("cycles", "cycles/request", cycles);
        }
    }
}

fn address_of_node(address: &str) -> Result<std::net::Ipv4Addr> {
    address
        .parse()
        .with_context(|| format!("the node's address {address}"))
}
