//! `vetch-bench dns`: questions of one pod to the cluster's name server, through the ClusterIP of `kube-dns`, as fast as
//! they are answered: 12 sockets with 8 questions in flight each.
//!
//! Figures by `query`: `service` (a Service's address), `missing` (no such name in the cluster), `external` (a name of
//! others, from the cache; one question in an hour gets to the upstream, which is this program):
//!
//! | measure | unit | what |
//! |---|---|---|
//! | `dns` | queries/s | answered |
//! | `dns-latency` | µs | `quantile` p50, p99 or p999: asked → answered, at that rate |
//! | `dns-cpu` | µs/query | CPU time of the client's node's daemon, its user's and the kernel's for it |
//! | `dns-core` | queries/s | for each core of it that is busy: of one million µs, by the line above |
//!
//! Beside the last stand CoreDNS' own figures, as its authors publish them: another machine's, see [`PUBLISHED`].

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use indicatif::ProgressBar;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::PostParams;
use serde::Serialize;
use serde_json::json;
use vetch_bench_record::{Better, Figure};

use crate::pods::namespace::Namespace;
use crate::pods::{note_settings, steps, subject, usable_nodes};
use crate::run::Run;
use crate::service::daemon::{arguments, daemon_pid};
use crate::service::load::{Latency, Outcome};
use crate::service::objects::Path;
use crate::service::pods::Pods;
use crate::target::LocalNode;

mod spent;
mod upstream;

use spent::Sampler;
use upstream::Upstream;

/// What CoreDNS answers with one busy core. Its authors measured 33,669 internal and 33,667 external queries a second
/// (the latter as the server counts them) of one instance of CoreDNS 1.2.5 on a GCE n1-standard-2, its two vCPUs busy
/// "at ~1900m".
pub const PUBLISHED: [(Query, f64); 2] = [
    (Query::Service, 33_669.0 / 1.9),
    (Query::External, 33_667.0 / 1.9),
];
const PUBLISHED_SUBJECT: &str = "coredns-published";
const SOURCE: &str = "33,669 internal and 33,667 external queries/s at 1.9 vCPUs of a GCE n1-standard-2, CoreDNS 1.2.5 \
                      (2018): github.com/coredns/deployment, kubernetes/Scaling_CoreDNS.md";

/// With 8 questions each they are fewer than the 100 of one client that the server has wait for
/// other servers, as all do before the name outside is known.
const SOCKETS: u32 = 12;
const PORT: u16 = 53;
const ASKED: &str = "asked";

/// What `vetch-bench dns` is asked for.
#[derive(Clone, Debug, Args, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Options {
    /// Each round asks for every kind of name once.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Seconds a sample.
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Seconds before that.
    #[arg(long, default_value_t = 0.5)]
    pub warmup: f64,
    /// Threads of the client.
    #[arg(long, default_value_t = 1)]
    pub threads: u32,
    /// The image with vetch-load, as nodes have it or pull it.
    #[arg(long, default_value = crate::image::REFERENCE)]
    pub image: String,
    /// The cluster's domain.
    #[arg(long, default_value = "cluster.local")]
    pub cluster_domain: String,
    /// A name outside the cluster that its server finds an address for [default: one that this program answers for,
    /// where the client's node asks at `--dns-domain-upstream vetch-bench.test=127.0.0.1:5399`, as those of `cargo xtask
    /// bench dns` do].
    #[arg(long)]
    pub external_name: Option<String>,
    /// Whose figures these are [default: vetch for a cluster of this machine, else cluster].
    #[arg(long)]
    pub subject: Option<String>,
}

/// A kind of name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    Service,
    Missing,
    External,
}

impl Query {
    fn as_str(self) -> &'static str {
        match self {
            Query::Service => "service",
            Query::Missing => "missing",
            Query::External => "external",
        }
    }
}

/// Measures into `run.report`. When the run is stopped it returns `Ok` with what is whole by then; its namespace is gone
/// in either case.
pub async fn run(run: &mut Run, options: &Options) -> Result<()> {
    ensure!(options.rounds > 0, "--rounds 0 measures nothing");
    let possible = |seconds: f64| (0.0..=86_400.0).contains(&seconds);
    ensure!(
        options.seconds > 0.0 && possible(options.seconds) && possible(options.warmup),
        "--seconds and --warmup are times of up to a day"
    );
    note_settings(run, options)?;
    let settings = &mut run.report.settings;
    settings.insert("connections".into(), json!(SOCKETS));
    settings.insert("corednsPublished".into(), json!(SOURCE));
    let client = run.target.client.clone();
    let namespace = Namespace::create(&client, "vetch-bench-dns", &run.stop).await?;
    let measured = measure(run, options, &namespace.name).await;
    let gone = namespace.remove(run).await;
    measured.and(gone)
}

struct Bench<'a> {
    run: &'a mut Run,
    options: &'a Options,
    subject: String,
    server: SocketAddr,
    node: String,
    /// Of a cluster of this machine.
    local: Option<LocalNode>,
    pods: Pods,
    bar: ProgressBar,
}

/// What one pod saw.
struct Sample {
    rate: f64,
    latency: Option<Latency>,
    /// Cores that the node's daemon was busy on.
    cores: Option<f64>,
}

async fn measure(run: &mut Run, options: &Options, namespace: &str) -> Result<()> {
    let client = run.target.client.clone();
    let server = server(&client).await?;
    let nodes = usable_nodes(&client).await?;
    let mut names: Vec<String> = nodes
        .into_iter()
        .filter_map(|node| node.metadata.name)
        .collect();
    names.sort();
    let node = names.into_iter().next().context("no node has a name")?;
    let all = run.target.local.as_ref();
    let local = all.and_then(|all| all.nodes.iter().find(|own| own.name == node));
    let local = local.cloned();
    run.report.settings.extend([
        ("node".to_owned(), json!(node)),
        ("server".into(), json!(server)),
    ]);
    if local.is_none() {
        let why = "the daemon of a node of another machine is out of sight";
        run.skip("CPU time of the name server", why);
    }
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": ASKED}, "spec": {"ports": [{"port": 80}]},
    }))?;
    Api::<Service>::namespaced(client.clone(), namespace)
        .create(&PostParams::default(), &service)
        .await
        .context("create the service that is asked for")?;
    let domain = format!("{namespace}.svc.{}", options.cluster_domain);
    let mut asked = vec![
        (Query::Service, format!("{ASKED}.{domain}")),
        (Query::Missing, format!("missing.{domain}")),
    ];
    // Answers as long as it is held.
    let upstream = match (&options.external_name, &local) {
        (Some(_), _) => None,
        (None, Some(local)) if asks_us(local)? => {
            Some(Upstream::start(&local.netns, upstream::ADDRESS.parse()?)?)
        }
        (None, _) => None,
    };
    match (&options.external_name, &upstream) {
        (Some(name), _) => asked.push((Query::External, name.clone())),
        (None, Some(_)) => asked.push((Query::External, upstream::NAME.to_owned())),
        (None, None) => run.skip(
            "external names",
            format!(
                "none is known that {node} finds: name one with --external-name, or start it with \
                 --dns-domain-upstream {}={}",
                upstream::DOMAIN,
                upstream::ADDRESS
            ),
        ),
    }
    let mut bench = Bench {
        options,
        subject: subject(run, options.subject.as_deref()),
        server,
        node,
        local,
        pods: Pods::new(&client, namespace, &options.image, run.stop.clone()),
        bar: steps::bar(run, options.rounds * asked.len()),
        run,
    };
    let done = bench.rounds(&asked).await;
    bench.bar.finish_and_clear();
    done
}

/// The one that pods are given.
async fn server(client: &kube::Client) -> Result<SocketAddr> {
    let services = Api::<Service>::namespaced(client.clone(), "kube-system");
    let found = services
        .get("kube-dns")
        .await
        .context("find the Service kube-dns in kube-system")?;
    let ip = found.spec.and_then(|spec| spec.cluster_ip);
    let ip = ip.context("the Service kube-dns has no clusterIP")?;
    let ip: IpAddr = ip
        .parse()
        .with_context(|| format!("the clusterIP {ip} of kube-dns"))?;
    Ok(SocketAddr::new(ip, PORT))
}

/// Whether the node's daemon was told to ask this program about names of ours.
fn asks_us(node: &LocalNode) -> Result<bool> {
    let wanted = format!("{}={}", upstream::DOMAIN, upstream::ADDRESS);
    let words = arguments(daemon_pid(node)?)?;
    Ok(words.iter().any(|word| word.ends_with(&wanted)))
}

impl Bench<'_> {
    async fn rounds(&mut self, asked: &[(Query, String)]) -> Result<()> {
        for round in 0..self.options.rounds {
            // The other way round every other time: what drifts is then in all of them.
            let mut turns: Vec<&(Query, String)> = asked.iter().collect();
            if round % 2 == 1 {
                turns.reverse();
            }
            for (query, name) in turns {
                if self.run.stopped() {
                    return Ok(());
                }
                let what = format!("{} names", query.as_str());
                self.bar.set_message(format!("round {}: {what}", round + 1));
                let sample = match self.ask(*query, name).await {
                    Ok(sample) => Some(sample),
                    Err(_) if self.run.stopped() => return Ok(()),
                    Err(error) => {
                        let what = format!("{what}, round {}", round + 1);
                        self.run.skip(what, format!("{error:#}"));
                        None
                    }
                };
                self.add(*query, round, sample.as_ref());
                self.bar.inc(1);
            }
        }
        Ok(())
    }

    fn words(&self, query: Query, name: &str) -> Vec<String> {
        let answer = match query {
            Query::Service | Query::External => "address",
            Query::Missing => "nxdomain",
        };
        let Options {
            seconds,
            warmup,
            threads,
            ..
        } = self.options;
        [
            "run",
            "--kind",
            "dns",
            "--targets",
            &self.server.to_string(),
            "--name",
            name,
            "--answer",
            answer,
            "--connections",
            &SOCKETS.to_string(),
            "--threads",
            &threads.to_string(),
            "--seconds",
            &seconds.to_string(),
            "--warmup",
            &warmup.to_string(),
        ]
        .map(str::to_owned)
        .to_vec()
    }

    async fn ask(&mut self, query: Query, name: &str) -> Result<Sample> {
        let words = self.words(query, name);
        let pid = self.local.as_ref().map(daemon_pid).transpose()?;
        let sampler = pid.map(Sampler::start);
        let pod = self.pods.start(Path::Usual, &self.node, &words).await?;
        let time = self.options.warmup + self.options.seconds;
        let log = self.pods.finish(&pod, time).await;
        let samples = sampler.map(Sampler::stop).transpose()?;
        let outcome = Outcome::read(&log?).map_err(anyhow::Error::msg)?;
        if let Some(why) = outcome.trouble() {
            anyhow::bail!(why);
        }
        let cores = match (samples, outcome.begin_micros) {
            (Some(samples), Some(begin)) => {
                let begin = Duration::from_micros(begin);
                let end = begin + Duration::from_secs_f64(outcome.seconds);
                spent::cores(&samples, begin, end)
            }
            _ => None,
        };
        Ok(Sample {
            rate: outcome.requests as f64 / outcome.seconds,
            latency: outcome.latency_micros,
            cores,
        })
    }

    fn add(&mut self, query: Query, round: usize, sample: Option<&Sample>) {
        let figure = |measure: &str, subject: &str, unit: &str, better| {
            Figure::new(measure, subject, unit, better).with("query", query.as_str())
        };
        let subject = self.subject.clone();
        let mut add = |measure: &str, unit: &str, better, value: Option<f64>| {
            let figure = figure(measure, &subject, unit, better);
            self.run.add(figure, round, value);
        };
        add(
            "dns",
            "queries/s",
            Better::Higher,
            sample.map(|sample| sample.rate),
        );
        let latency = sample.and_then(|sample| sample.latency);
        for (measure, value) in [
            ("dns-latency-p50", latency.map(|latency| latency.p50)),
            ("dns-latency-p99", latency.map(|latency| latency.p99)),
            ("dns-latency-p999", latency.map(|latency| latency.p999)),
        ] {
            add(measure, "µs", Better::Lower, value);
        }
        if self.local.is_none() {
            return;
        }
        let busy = sample.and_then(|sample| Some((sample.rate, sample.cores?)));
        let busy = busy.filter(|(_, cores)| *cores > 0.0);
        let cost = busy.map(|(rate, cores)| cores / rate * 1e6);
        let core = busy.map(|(rate, cores)| rate / cores);
        let mut add = |measure: &str, unit: &str, better, value: Option<f64>| {
            let figure = figure(measure, &self.subject, unit, better);
            self.run.add(figure, round, value);
        };
        add("dns-cpu", "µs/query", Better::Lower, cost);
        add("dns-core", "queries/s", Better::Higher, core);
        let published = PUBLISHED.iter().find(|(found, _)| *found == query);
        if let Some((_, rate)) = published {
            let figure = figure("dns-core", PUBLISHED_SUBJECT, "queries/s", Better::Higher);
            self.run.add(figure, round, Some(*rate));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_figures_are_those_of_one_core() {
        for (query, rate) in PUBLISHED {
            assert!((rate - 17_720.0).abs() < 2.0, "{query:?}: {rate}");
        }
    }
}
