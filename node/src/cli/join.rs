//! How a machine becomes a node.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use k8s_openapi::api::core::v1::Taint;
use vetch_join::{CaHash, Token};

use super::registration::{label, taint};

#[derive(Debug, Args)]
pub struct JoinArgs {
    /// The API server
    #[arg(value_name = "HOST:PORT")]
    pub server: String,
    /// What `vetch-control token create` made
    #[arg(long, value_name = "ID.SECRET")]
    pub token: Token,
    /// The hash of the cluster authority's public key; several where it has several
    #[arg(
        long,
        value_name = "sha256:HEX",
        visible_alias = "discovery-token-ca-cert-hash",
        required = true
    )]
    pub ca_hash: Vec<CaHash>,
    /// The name of the Node object [default: the machine's]
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// An address of this machine by which other nodes reach it; of each family, with the main one
    /// first [default: that of packets to the API server]
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    pub node_ip: Vec<IpAddr>,
    /// Labels of the Node object: key=value,…
    #[arg(long, value_name = "LABELS", value_delimiter = ',', value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// Taints of the Node object when it is made: key=value:Effect,…
    #[arg(long, value_name = "TAINTS", value_delimiter = ',', value_parser = taint)]
    pub taints: Vec<Taint>,
    /// Where the kubeconfig, the certificate and the settings are kept
    #[arg(long, value_name = "DIR", default_value = "/etc/vetch")]
    pub config_dir: PathBuf,
    /// How long to wait for the API server, and then for the certificate
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub timeout: u64,
}

#[cfg(test)]
mod tests {
    use super::super::Command;
    use super::super::testing::parse;

    #[test]
    fn joining_needs_a_server_a_token_and_a_hash() {
        let hash = format!("sha256:{}", "0".repeat(64));
        let whole = [
            "vetch-node",
            "join",
            "10.0.0.1:6443",
            "--token",
            "abcdef.0123456789abcdef",
            "--ca-hash",
            &hash,
        ];
        let more = ["--labels", "a=b", "--taints", "k=v:NoSchedule,l:NoExecute"];
        let cli = parse(&[&whole[..], &more].concat()).unwrap();
        let Some(Command::Join(args)) = cli.command else {
            panic!("{cli:?}");
        };
        assert_eq!(args.taints.len(), 2);
        assert_eq!(args.taints[0].value.as_deref(), Some("v"));
        assert_eq!((args.timeout, args.ca_hash.len()), (60, 1));
        for missing in [2..3, 3..5, 5..7] {
            let mut args = whole.to_vec();
            args.drain(missing);
            assert!(parse(&args).is_err(), "{args:?}");
        }
    }
}
