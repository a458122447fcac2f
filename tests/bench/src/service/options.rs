//! What `vetch-bench service` is told.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::plan::{Frontend, Measure, Placement};

/// The range of ports that one server pod listens on.
const PORTS_A_POD: u32 = 100;

/// Every combination of services, endpoints, placements and frontends is measured; each round runs
/// every subject once, side by side, in an order of its own.
///
/// Subjects: `direct` dials the server pods themselves, by plain routing. `vetch` dials ClusterIPs
/// of Services that Vetch serves. `iptables` and `nftables` dial the same services under addresses
/// of 198.18.0.0/16, which Vetch does not know, through the rules kube-proxy lays for them; the rules
/// are in both nodes while such samples run and never else. `kube-proxy-iptables` and
/// `kube-proxy-nftables` are the real program with Services of its own. All but `vetch` have client and
/// server pods with the annotation `vetch.dev/redirect: "false"`, whose packets go by plain routing.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// How many Services the cluster has
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,10,100,1000,10000",
        value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub services: Vec<u32>,
    /// How many endpoints each has
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "2",
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub endpoints: Vec<u32>,
    /// What is measured beside direct [default: vetch,iptables,nftables, and what --kube-proxy adds]
    #[arg(long, value_name = "PROXY,…", value_delimiter = ',', value_enum)]
    pub proxies: Vec<Proxy>,
    /// The real kube-proxy. It serves Services of its own, so the nodes must leave those to it:
    /// `cargo xtask up --service-proxy-name vetch`, as `cargo xtask bench` does
    #[arg(long, value_name = "FILE")]
    pub kube_proxy: Option<PathBuf>,
    /// Client and servers on one node, or on two
    #[arg(
        long,
        value_delimiter = ',',
        value_enum,
        default_value = "same-node,across-nodes"
    )]
    pub placements: Vec<Placement>,
    /// What clients dial; a NodePort is the one of the servers' node. Where the cluster's proxy does not
    /// answer on it, that is told and nobody's is measured
    #[arg(
        long,
        value_delimiter = ',',
        value_enum,
        ignore_case = true,
        default_value = "ClusterIP,NodePort"
    )]
    pub frontends: Vec<Frontend>,
    /// What is measured
    #[arg(
        long,
        value_name = "MEASURE,…",
        value_delimiter = ',',
        value_enum,
        default_value = "keepalive,connect,stream,udp,latency,effect,program,update,memory"
    )]
    pub measures: Vec<Measure>,
    /// Seconds a sample
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// Seconds of load before each sample that do not count
    #[arg(long, default_value_t = 0.5)]
    pub warmup: f64,
    /// Samples of each figure; every round has one of each
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Connections of a client
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub connections: u32,
    /// Threads of a client, and of each server pod
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: u32,
    /// Server pods, among which the endpoints are divided: up to 100 a pod, a port each. With one,
    /// no uneven share of connections makes a sample slower
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub server_pods: u32,
    /// The rate of latency samples: this share of what direct reached in the first round
    #[arg(long, default_value_t = 0.5)]
    pub rate_share: f64,
    /// Endpoint changes a round, for effect and for update
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub flips: u32,
    /// Of the order in which subjects take turns [default: the time]
    #[arg(long)]
    pub seed: Option<u64>,
    /// The image with vetch-load, as nodes have it or pull it: `vetch-bench image` writes one
    #[arg(long, default_value = crate::image::REFERENCE)]
    pub image: String,
    /// What the report calls the proxy of a cluster that is not `up`'s
    #[arg(long, default_value = "cluster")]
    pub subject_name: String,
}

/// A way from a Service's address to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Proxy {
    /// The proxy that the cluster has
    Vetch,
    /// The rules of kube-proxy's iptables mode
    Iptables,
    /// The rules of kube-proxy's nftables mode
    Nftables,
    /// The program given by --kube-proxy
    KubeProxyIptables,
    /// The program given by --kube-proxy
    KubeProxyNftables,
}

impl Proxy {
    pub fn is_kube_proxy(self) -> bool {
        matches!(self, Proxy::KubeProxyIptables | Proxy::KubeProxyNftables)
    }
}

impl Options {
    /// What clap does not know of.
    pub fn check(&self) -> Result<(), String> {
        let named = self.proxies.iter().any(|proxy| proxy.is_kube_proxy());
        if named && self.kube_proxy.is_none() {
            return Err("the proxies kube-proxy-* need --kube-proxy FILE".into());
        }
        if let Some(program) = self.kube_proxy.as_ref().filter(|file| !file.is_file()) {
            return Err(format!("--kube-proxy: there is no {}", program.display()));
        }
        for (value, flag, limits) in [
            (self.seconds, "seconds", 0.05..=3600.0),
            (self.warmup, "warmup", 0.0..=60.0),
            (self.rate_share, "rate-share", 0.01..=1.0),
        ] {
            if !limits.contains(&value) {
                let (low, high) = limits.into_inner();
                return Err(format!("--{flag} {value} is not in {low}..={high}"));
            }
        }
        for endpoints in &self.endpoints {
            if !endpoints.is_multiple_of(self.server_pods) {
                return Err(format!(
                    "--endpoints {endpoints} cannot be divided among --server-pods {}",
                    self.server_pods
                ));
            }
            if endpoints / self.server_pods > PORTS_A_POD {
                return Err(format!(
                    "--endpoints {endpoints} need more --server-pods: one has {PORTS_A_POD} ports"
                ));
            }
        }
        Ok(())
    }

    /// Without repetitions, in the order they were given.
    pub fn proxies(&self) -> Vec<Proxy> {
        let mut all = self.proxies.clone();
        if all.is_empty() {
            all = vec![Proxy::Vetch, Proxy::Iptables, Proxy::Nftables];
        }
        if self.kube_proxy.is_some() && !all.iter().any(|proxy| proxy.is_kube_proxy()) {
            all.extend([Proxy::KubeProxyIptables, Proxy::KubeProxyNftables]);
        }
        unique(all)
    }

    /// Ascending: more are added to those that are there.
    pub fn services(&self) -> Vec<u32> {
        let mut all = self.services.clone();
        all.sort_unstable();
        all.dedup();
        all
    }

    pub fn has(&self, measure: Measure) -> bool {
        self.measures.contains(&measure)
    }
}

pub fn unique<T: PartialEq>(all: Vec<T>) -> Vec<T> {
    let mut kept = Vec::new();
    for one in all {
        if !kept.contains(&one) {
            kept.push(one);
        }
    }
    kept
}
