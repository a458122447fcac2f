//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use vetch_bench::{api, dns, pods, service};

/// Measures a Kubernetes cluster: Service traffic, pods, the API, names.
///
/// A benchmark writes DIR/report.html, which is one page for people, and DIR/report.json, which has
/// every sample. Ctrl-C ends it early: the report then says what was done so far. Exit codes: 0 when
/// it is done, 1 when it failed, 2 for arguments that make no sense, 130 after Ctrl-C.
#[derive(Debug, Parser)]
#[command(name = "vetch-bench", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Requests through Services beside requests straight to pods, in one run
    Service {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        options: service::Options,
    },
    /// How fast pods start, and what a node's daemons need for them
    Pods {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        options: pods::Options,
    },
    /// Creates, updates, lists and watches
    Api {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        options: api::Options,
    },
    /// Questions to the cluster's name server, and what it spends on them
    Dns {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        options: dns::Options,
    },
    /// What changed from one report to another beyond noise: exit code 0 for nothing, 1 for something,
    /// 2 for trouble
    Compare {
        /// A report.json
        before: PathBuf,
        /// A later one
        after: PathBuf,
    },
    /// Writes the load image for the registry or the stores of a cluster that is not `up`'s
    Image {
        /// The archive, as `docker save` writes it: `docker load`, `ctr images import` read it
        #[arg(long, value_name = "FILE.tar")]
        out: PathBuf,
        /// The static program in it [default: where `cargo xtask bench` builds it]
        #[arg(long, value_name = "FILE", env = "VETCH_LOAD")]
        load: Option<PathBuf>,
        /// What pods call it
        #[arg(long, default_value = vetch_bench::image::REFERENCE)]
        reference: String,
    },
}

/// Of every benchmark.
#[derive(Debug, Args)]
pub struct Common {
    /// A cluster of `cargo xtask up` on this machine, by its cluster.json [default: VETCH_CLUSTER of
    /// the environment, or target/vetch-bench/cluster.json]
    #[arg(long, value_name = "FILE", conflicts_with = "kubeconfig")]
    pub cluster: Option<PathBuf>,
    /// Any other cluster: what needs a look into its machines is skipped, and says so
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The directory of report.html and report.json
    #[arg(long, value_name = "DIR", default_value = "vetch-bench-report")]
    pub out: PathBuf,
}

impl Common {
    /// The one that is named, or the usual one. Not by clap: a variable of the environment would be in
    /// the way of --kubeconfig.
    pub fn cluster(&self) -> PathBuf {
        self.cluster
            .clone()
            .or_else(|| std::env::var_os("VETCH_CLUSTER").map(PathBuf::from))
            .unwrap_or_else(|| "target/vetch-bench/cluster.json".into())
    }
}

impl Cli {
    /// What clap does not know of.
    pub fn check(&self) -> Result<(), String> {
        match &self.command {
            Command::Service { options, .. } => options.check(),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, String> {
        let words = std::iter::once("vetch-bench").chain(line.split(' '));
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        cli.check()?;
        Ok(cli)
    }

    #[test]
    fn the_forms_that_scripts_use_are_understood() {
        for line in [
            "service",
            "service --services 1,1000 --proxies vetch,iptables,nftables --seconds 3 --out DIR",
            "service --seconds 0.3 --rounds 2 --placements same-node --frontends ClusterIP,NodePort",
            "service --kubeconfig k --image registry/load:v1 --subject-name cilium",
            "service --kube-proxy /bin/true --proxies vetch,kube-proxy-nftables",
            "service --endpoints 2,10,100 --measures keepalive,connect",
            "pods --out DIR",
            "api --out DIR",
            "dns --seconds 1 --rounds 2 --out DIR",
            "dns --kubeconfig k --image registry/load:v1 --external-name a.example --subject coredns",
            "compare a.json b.json",
            "image --out load.tar",
        ] {
            parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (line, words) in [
            ("service --services 0", "1..=50000"),
            ("service --services x", "invalid value"),
            ("service --proxies ipvs", "possible values"),
            ("service --proxies kube-proxy-iptables", "--kube-proxy"),
            ("service --seconds 0", "seconds"),
            ("service --rounds 0", "--rounds"),
            ("service --cluster a --kubeconfig b", "cannot be used with"),
            ("service --endpoints 101", "--server-pods"),
            ("service --endpoints 3 --server-pods 2", "--server-pods"),
            ("compare a.json", "required"),
        ] {
            let error = parse(line).map(|_| line).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
    }
}
