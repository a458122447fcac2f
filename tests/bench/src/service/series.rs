//! All sizes with one number of endpoints, in a namespace of their own: more Services are added to
//! those that are there.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use vetch_bench_record::{Better, Figure};

use super::load::{Load, Outcome};
use super::nodes::Nodes;
use super::objects::{self, Backends, Path, Set};
use super::options::Options;
use super::plan::{self, Frontend, Kind, Measure, Placement, Subject};
use super::pods::Pods;
use super::population::Population;
use super::progress::Progress;
use super::rules::Program;
use super::standing::Standing;
use super::usage::Meter;
use super::{blocking, daemon};
use crate::run::Run;

/// Until the cluster's proxy serves what was made.
const SERVED_LIMIT: Duration = Duration::from_secs(300);
/// Fewer Services are made too soon to tell how fast.
const RATE_LEAST: usize = 100;
/// Until its NodePorts answer too, if they ever do.
const KNOCK_LIMIT: Duration = Duration::from_secs(3);
/// The first connections after something changed.
const PROBE_SECONDS: f64 = 0.2;

pub struct Series<'a> {
    pub options: &'a Options,
    pub nodes: &'a Nodes,
    pub subjects: &'a [Subject],
    pub seed: u64,
    pub endpoints: u32,
    namespace: String,
    usual: Backends,
    /// Whose packets go by plain routing.
    routed: Backends,
    pub pods: Pods,
    pub cluster: Population,
    pub kube_proxy_services: Option<Population>,
    pub kube_proxy: Option<Program>,
    /// Of the present size.
    pub rules: Arc<Vec<vetch_bench_rules::Service>>,
    pub standing: Option<Standing>,
    /// Where nobody answers on the cluster's NodePorts, at the present size.
    pub silent: Vec<Placement>,
    /// Requests a second of the latency samples.
    pub rates: HashMap<(&'static str, &'static str), f64>,
    /// What is not tried again: nothing got through.
    pub dead: BTreeSet<String>,
    /// Whose rules took so long to lay at once that they are not laid so again at this size.
    pub slow: BTreeSet<String>,
    /// MiB of a daemon without Services.
    pub bare: HashMap<String, f64>,
    pub meter: Meter,
}

impl<'a> Series<'a> {
    /// Starts the servers.
    pub async fn begin(
        run: &mut Run,
        options: &'a Options,
        namespace: &str,
        nodes: &'a Nodes,
        subjects: &'a [Subject],
        (seed, endpoints): (u64, u32),
    ) -> Result<Series<'a>> {
        let (meter, no_cycles) = Meter::open();
        let cycles = no_cycles.map_or_else(
            || "counted".to_owned(),
            |why| format!("not counted here: {why}"),
        );
        run.report.settings.insert("cycles".into(), cycles.into());
        let client = &run.target.client;
        let pods = Pods::new(client, namespace, &options.image, run.stop.clone());
        let ports = u16::try_from(endpoints / options.server_pods * plan::DIALLED)?;
        let serve = |path| pods.serve(path, options, &nodes.server.name, ports);
        let usual = Backends::new(serve(Path::Usual).await?, endpoints);
        let routed = Backends::new(serve(Path::Routed).await?, endpoints);
        let node_port = options.frontends.contains(&Frontend::NodePort);
        let real = subjects
            .iter()
            .any(|subject| matches!(subject, Subject::KubeProxy(_)));
        let population = |set, backends| {
            Population::new(
                client,
                namespace,
                set,
                (backends, endpoints),
                node_port,
                run.stop.clone(),
            )
        };
        let named = match &run.target.local {
            Some(_) => nodes.leave_services()?,
            None => false,
        };
        let kube_proxy = match (&options.kube_proxy, &run.target.local) {
            (Some(path), Some(local)) if real => {
                let logs = run.out.join("kube-proxy");
                Some(Program::new(path, &run.target.kubeconfig, local, &logs)?)
            }
            _ => None,
        };
        let series = Series {
            options,
            nodes,
            subjects,
            seed,
            endpoints,
            namespace: namespace.to_owned(),
            cluster: population(Set::Cluster { named }, &usual),
            kube_proxy_services: real.then(|| population(Set::KubeProxy, &routed)),
            usual,
            routed,
            pods,
            kube_proxy,
            rules: Arc::default(),
            standing: None,
            silent: Vec::new(),
            rates: HashMap::new(),
            dead: BTreeSet::new(),
            slow: BTreeSet::new(),
            bare: HashMap::new(),
            meter,
        };
        if let Some(program) = &series.kube_proxy {
            let version = program.version()?;
            run.report
                .settings
                .insert("kubeProxy".into(), version.into());
        }
        Ok(series)
    }

    pub async fn run(mut self, run: &mut Run, progress: &Progress) -> Result<()> {
        self.weigh_bare(run, progress).await?;
        for services in self.options.services() {
            self.grow(run, services, progress).await?;
            self.program(run, services, progress).await?;
            for round in 0..self.options.rounds as usize {
                self.traffic(run, services, round, progress).await?;
                self.effect(run, services, round, progress).await?;
                run.save()?;
            }
        }
        self.clear().await
    }

    async fn grow(&mut self, run: &mut Run, services: u32, progress: &Progress) -> Result<()> {
        progress.say(&format!("make {services} Services"));
        // They are of the size before.
        self.clear().await?;
        let places = plan::dialled(services);
        let dialled = u32::try_from(places.len())?;
        let (from, before) = (Instant::now(), self.cluster.len());
        for population in std::iter::once(&mut self.cluster).chain(&mut self.kube_proxy_services) {
            population
                .grow(dialled, services - dialled, &progress.bar)
                .await?;
        }
        let made =
            (self.cluster.len() - before) * (1 + usize::from(self.kube_proxy_services.is_some()));
        if made >= RATE_LEAST {
            let rate = made as f64 / from.elapsed().as_secs_f64();
            let cluster = super::cluster_name(run, self.options);
            let figure = Figure::new("create-services", cluster, "Services/s", Better::Higher)
                .with("services", services)
                .with("endpoints", self.endpoints);
            run.add(figure, 0, Some(rate));
        }
        let node_port = self.options.frontends.contains(&Frontend::NodePort);
        self.rules = Arc::new(objects::rule_services(
            &self.namespace,
            services,
            &places,
            self.endpoints,
            &self.routed,
            node_port,
        ));
        self.wait_served().await?;
        if node_port {
            self.knock(run, services).await?;
        }
        Ok(())
    }

    /// Asks the NodePorts of the cluster's proxy for an answer before all subjects are measured by
    /// theirs.
    async fn knock(&mut self, run: &mut Run, services: u32) -> Result<()> {
        self.silent.clear();
        let clusters = |subject: &&Subject| matches!(subject, Subject::Cluster(_));
        let Some(subject) = self.subjects.iter().find(clusters) else {
            return Ok(());
        };
        for placement in self.placements() {
            let node = self.nodes.client(placement).name.clone();
            let address = &self.nodes.server.address;
            let targets = self
                .cluster
                .targets(Frontend::NodePort, Kind::Connect, address)?;
            let deadline = tokio::time::Instant::now() + KNOCK_LIMIT;
            while let Some(trouble) = self.probe(&node, &targets).await? {
                if tokio::time::Instant::now() > deadline {
                    self.silent.push(placement);
                    run.skip(
                        format!("NodePort, {}, {services} services", placement.as_str()),
                        format!("{} does not answer on it: {trouble}", subject.name()),
                    );
                    break;
                }
            }
        }
        Ok(())
    }

    /// What is in the way of connections from a pod there to all of these.
    async fn probe(&mut self, node: &str, targets: &[SocketAddrV4]) -> Result<Option<String>> {
        let mut load = self.load(Kind::Connect, targets.to_vec());
        (load.seconds, load.warmup) = (PROBE_SECONDS, 0.0);
        match self.run_load(Path::Usual, node, &load).await {
            Ok(outcome) => Ok(outcome.trouble()),
            Err(error) if self.pods.stopped() => Err(error),
            Err(error) => Ok(Some(format!("{error:#}"))),
        }
    }

    /// Until the maps have every Service, where they can be looked into, and connections through
    /// all that are dialled go well from every node.
    async fn wait_served(&mut self) -> Result<()> {
        if !self
            .subjects
            .iter()
            .any(|subject| matches!(subject, Subject::Cluster(_)))
        {
            return Ok(());
        }
        let deadline = tokio::time::Instant::now() + SERVED_LIMIT;
        let wanted = self.cluster.service_ports();
        let members = || std::iter::once(&self.nodes.server).chain(&self.nodes.other);
        for local in members().filter_map(|member| member.local.clone()) {
            loop {
                let node = local.clone();
                let served = blocking(move || daemon::served(&node)).await?;
                if served >= wanted {
                    break;
                }
                if tokio::time::Instant::now() > deadline {
                    bail!(
                        "{} serves {served} of {wanted} ports of Services",
                        local.name
                    );
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
        let mut targets = self
            .cluster
            .targets(Frontend::ClusterIp, Kind::Connect, "")?;
        targets.push(self.cluster.flipped()?);
        for node in members()
            .map(|member| member.name.clone())
            .collect::<Vec<_>>()
        {
            while let Some(trouble) = self.probe(&node, &targets).await? {
                if tokio::time::Instant::now() > deadline {
                    bail!("the Services do not answer on {node}: {trouble}");
                }
            }
        }
        Ok(())
    }

    pub fn load(&self, kind: Kind, targets: Vec<SocketAddrV4>) -> Load {
        Load {
            kind,
            targets,
            connections: self.options.connections,
            threads: self.options.threads,
            seconds: self.options.seconds,
            warmup: self.options.warmup,
            rate: None,
            usage: Vec::new(),
        }
    }

    async fn run_load(&mut self, path: Path, node: &str, load: &Load) -> Result<Outcome> {
        let name = self.pods.start(path, node, &load.words()).await?;
        let log = self.pods.finish(&name, load.seconds + load.warmup).await?;
        Outcome::read(&log).map_err(anyhow::Error::msg)
    }

    /// The servers that this subject's clients reach.
    pub fn backends(&self, subject: &Subject) -> &Backends {
        match subject.path() {
            Path::Usual => &self.usual,
            Path::Routed => &self.routed,
        }
    }

    /// The Services that this subject serves.
    pub fn population(&self, subject: &Subject) -> Result<&Population> {
        match (subject, &self.kube_proxy_services) {
            (Subject::KubeProxy(_), Some(own)) => Ok(own),
            (Subject::Cluster(_), _) => Ok(&self.cluster),
            _ => bail!("nobody follows the API for {}", subject.name()),
        }
    }

    /// A figure of a whole proxy, wherever its clients are.
    pub fn figure(&self, measure: &str, subject: &Subject, unit: &str, services: u32) -> Figure {
        Figure::new(measure, subject.name(), unit, Better::Lower)
            .with("services", services)
            .with("endpoints", self.endpoints)
    }

    pub fn has(&self, measure: Measure) -> bool {
        self.options.has(measure)
    }

    pub fn placements(&self) -> Vec<Placement> {
        self.nodes.placements(self.options)
    }
}
