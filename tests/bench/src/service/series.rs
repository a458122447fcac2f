//! All sizes with one number of endpoints, in a namespace of their own: more Services are added to
//! those that are there.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use vetch_bench_record::Figure;

use super::load::{Load, Outcome};
use super::nodes::Nodes;
use super::objects::{self, Backends, Set};
use super::options::Options;
use super::plan::{self, Frontend, Kind, Measure, Placement, Subject};
use super::pods::Pods;
use super::population::Population;
use super::progress::Progress;
use super::rules::{self, Place, Program, Running};
use super::{blocking, daemon};
use crate::run::Run;

/// Until the cluster's proxy serves what was made.
const SERVED_LIMIT: Duration = Duration::from_secs(300);
/// The first connections after something changed.
const PROBE_SECONDS: f64 = 0.2;

pub struct Series<'a> {
    pub options: &'a Options,
    pub nodes: &'a Nodes,
    pub subjects: &'a [Subject],
    pub seed: u64,
    pub endpoints: u32,
    namespace: String,
    pub backends: Backends,
    pub pods: Pods,
    pub cluster: Population,
    pub kube_proxy_services: Option<Population>,
    pub kube_proxy: Option<Program>,
    /// Of the present size.
    pub rules: Arc<Vec<vetch_bench_rules::Service>>,
    /// Requests a second of the latency samples.
    pub rates: HashMap<(&'static str, &'static str), f64>,
    /// What is not tried again: nothing got through.
    pub dead: BTreeSet<String>,
    /// MiB of a daemon without Services.
    pub bare: HashMap<String, f64>,
}

/// What a subject has in the nodes while it is measured.
pub enum Laid {
    Nothing,
    Rules,
    KubeProxy(Running),
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
        let client = &run.target.client;
        let pods = Pods::new(client, namespace, &options.image, run.stop.clone());
        let ports = u16::try_from(endpoints / options.server_pods)?;
        let addresses = pods.serve(options, &nodes.server.name, ports).await?;
        let backends = Backends::new(addresses, endpoints);
        let node_port = options.frontends.contains(&Frontend::NodePort);
        let real = subjects
            .iter()
            .any(|subject| matches!(subject, Subject::KubeProxy(_)));
        let population = |set| {
            let backends = (&backends, endpoints);
            Population::new(
                client,
                namespace,
                set,
                backends,
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
            cluster: population(Set::Cluster { named }),
            kube_proxy_services: real.then(|| population(Set::KubeProxy)),
            backends,
            pods,
            kube_proxy,
            rules: Arc::default(),
            rates: HashMap::new(),
            dead: BTreeSet::new(),
            bare: HashMap::new(),
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
            self.grow(services, progress).await?;
            self.program(run, services, progress).await?;
            for round in 0..self.options.rounds as usize {
                self.traffic(run, services, round, progress).await?;
                self.effect(run, services, round, progress).await?;
                run.save()?;
            }
        }
        Ok(())
    }

    async fn grow(&mut self, services: u32, progress: &Progress) -> Result<()> {
        progress.say(&format!("make {services} Services"));
        let places = plan::dialled(services);
        let dialled = u32::try_from(places.len())?;
        for population in std::iter::once(&mut self.cluster).chain(&mut self.kube_proxy_services) {
            population
                .grow(dialled, services - dialled, &progress.bar)
                .await?;
        }
        let node_port = self.options.frontends.contains(&Frontend::NodePort);
        self.rules = Arc::new(objects::rule_services(
            &self.namespace,
            services,
            &places,
            self.endpoints,
            &self.backends,
            node_port,
        ));
        self.wait_served().await
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
            loop {
                let mut load = self.load(Kind::Connect, targets.clone());
                (load.seconds, load.warmup) = (PROBE_SECONDS, 0.0);
                let trouble = match self.run_load(&node, &load).await {
                    Ok(outcome) => outcome.trouble(),
                    Err(error) if self.pods.stopped() => return Err(error),
                    Err(error) => Some(format!("{error:#}")),
                };
                let Some(trouble) = trouble else { break };
                if tokio::time::Instant::now() > deadline {
                    bail!("the Services do not answer on {node}: {trouble}");
                }
            }
        }
        Ok(())
    }

    pub fn load(&self, kind: Kind, targets: Vec<std::net::SocketAddrV4>) -> Load {
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

    pub async fn run_load(&mut self, node: &str, load: &Load) -> Result<Outcome> {
        let name = self.pods.start(node, &load.words()).await?;
        let log = self.pods.finish(&name, load.seconds + load.warmup).await?;
        Outcome::read(&log).map_err(anyhow::Error::msg)
    }

    /// Brings about what the subject needs, in these networks.
    pub async fn lay(&self, subject: &Subject, places: &[Place]) -> Result<Laid> {
        match subject {
            Subject::Direct | Subject::Cluster(_) => Ok(Laid::Nothing),
            Subject::Rules(mode) => {
                rules::lay(places, *mode, &self.rules).await?;
                Ok(Laid::Rules)
            }
            Subject::KubeProxy(mode) => match &self.kube_proxy {
                Some(program) => Ok(Laid::KubeProxy(program.start(places, *mode).await?)),
                None => bail!("there is no kube-proxy"),
            },
        }
    }

    /// No packet passes netfilter afterwards.
    pub async fn unlay(&self, laid: Laid, places: &[Place]) -> Result<()> {
        match laid {
            Laid::Nothing => return Ok(()),
            Laid::Rules => {}
            Laid::KubeProxy(running) => running.stop().await?,
        }
        rules::clear(places).await
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
        Figure::new(
            measure,
            subject.name(),
            unit,
            vetch_bench_record::Better::Lower,
        )
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
