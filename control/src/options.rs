//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;
use vetch_controllers::{AddressRange, NodeMasks};

/// The Vetch control plane: API server, scheduler and controllers in one process.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub serve: Option<Serve>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Issues a client certificate by the cluster's CA and writes a kubeconfig with it.
    Kubeconfig(Kubeconfig),
    /// Bootstrap tokens, by which machines join the running cluster.
    #[command(subcommand)]
    Token(TokenCommand),
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Makes a token and prints the command that joins a machine with it.
    Create(CreateToken),
    /// Lists the tokens, with how long they still are good.
    List {
        #[command(flatten)]
        access: TokenAccess,
    },
    /// Removes tokens; who joined with one stays.
    Delete {
        #[command(flatten)]
        access: TokenAccess,
        /// Whole, or its part before the dot
        #[arg(required = true, value_name = "TOKEN")]
        tokens: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub struct TokenAccess {
    /// An administrator's kubeconfig of the running cluster.
    #[arg(
        long,
        env = "KUBECONFIG",
        default_value = "/var/lib/vetch-control/admin.kubeconfig"
    )]
    pub kubeconfig: PathBuf,
}

#[derive(Debug, Args)]
pub struct CreateToken {
    #[command(flatten)]
    pub access: TokenAccess,
    /// ID.SECRET, six and sixteen characters [default: made up]
    #[arg(value_name = "TOKEN")]
    pub token: Option<String>,
    /// How long it is good, e.g. 24h; 0 for ever.
    #[arg(long, value_parser = ttl, default_value = "24h")]
    pub ttl: Duration,
    /// What it is for, for people.
    #[arg(long, default_value = "")]
    pub description: String,
    /// What it may be used for.
    #[arg(long, value_delimiter = ',', default_value = "signing,authentication")]
    pub usages: Vec<String>,
    /// The groups of who shows it. Those of the default may ask for a node's certificate.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "system:bootstrappers:kubeadm:default-node-token"
    )]
    pub groups: Vec<String>,
    /// As kubeadm has it: what is printed is the command in any case.
    #[arg(long)]
    pub print_join_command: bool,
}

#[derive(Debug, Args)]
pub struct Serve {
    /// Where the CA and the admin's kubeconfig are kept.
    #[arg(long, env = "VETCH_DATA_DIR")]
    pub data_dir: PathBuf,
    /// etcd's client URLs.
    #[arg(
        long,
        env = "VETCH_ETCD",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:2379"
    )]
    pub etcd: Vec<String>,
    /// Addresses to serve HTTPS at.
    #[arg(
        long,
        env = "VETCH_LISTEN",
        value_delimiter = ',',
        default_value = "0.0.0.0:6443"
    )]
    pub listen: Vec<SocketAddr>,
    /// The address at which pods and nodes reach the API server.
    #[arg(long, env = "VETCH_ADVERTISE_ADDRESS")]
    pub advertise_address: IpAddr,
    /// Where Services get their cluster addresses from; a second network of the other address family makes the
    /// cluster dual-stack.
    #[arg(
        long,
        visible_alias = "service-cluster-ip-range",
        env = "VETCH_SERVICE_CIDR",
        value_delimiter = ',',
        default_value = "10.96.0.0/16"
    )]
    pub service_cidr: Vec<IpNet>,
    /// Where Services get their node ports from: FIRST-LAST or FIRST+MORE.
    #[arg(long, env = "VETCH_SERVICE_NODE_PORT_RANGE", value_parser = ports, default_value = "30000-32767")]
    pub service_node_port_range: RangeInclusive<u16>,
    /// Addresses for Services of type LoadBalancer: networks, FIRST-LAST or single addresses.
    /// Without any, such Services wait for somebody else to give them theirs.
    #[arg(long, env = "VETCH_LOAD_BALANCER_POOL", value_delimiter = ',')]
    pub load_balancer_pool: Vec<AddressRange>,
    /// Where nodes get their pods' address ranges from, one of each network; a second network of the other address
    /// family makes pods dual-stack. Nodes that have their ranges already keep them.
    #[arg(
        long,
        visible_alias = "cluster-cidr",
        env = "VETCH_POD_CIDR",
        value_delimiter = ',',
        default_value = "10.244.0.0/16"
    )]
    pub pod_cidr: Vec<IpNet>,
    // As kube-controller-manager's flags of these names, and not in a struct of their own: clap takes an optional one that
    // has another within for one that is never there.
    /// Prefix length of a node's range; not for dual-stack [default: as for the network's family]
    #[arg(
        long,
        env = "VETCH_NODE_CIDR_MASK_SIZE",
        conflicts_with_all = ["node_cidr_mask_size_ipv4", "node_cidr_mask_size_ipv6"]
    )]
    pub node_cidr_mask_size: Option<u8>,
    /// Prefix length of a node's IPv4 range [default: 24]
    #[arg(long, env = "VETCH_NODE_CIDR_MASK_SIZE_IPV4")]
    pub node_cidr_mask_size_ipv4: Option<u8>,
    /// Prefix length of a node's IPv6 range [default: 64]
    #[arg(long, env = "VETCH_NODE_CIDR_MASK_SIZE_IPV6")]
    pub node_cidr_mask_size_ipv6: Option<u8>,
    /// How long a node may be silent before it counts as lost, e.g. 40s.
    #[arg(long, env = "VETCH_NODE_MONITOR_GRACE_PERIOD", value_parser = seconds, default_value = "40s")]
    pub node_monitor_grace_period: Duration,
    /// Where nodes make the directories of claims whose StorageClass has the provisioner kubernetes.io/host-path.
    #[arg(
        long,
        env = "VETCH_HOST_PATH_VOLUMES",
        default_value = "/var/lib/vetch/volumes"
    )]
    pub host_path_volumes: PathBuf,
    /// More names and addresses for the server's certificate.
    #[arg(long = "san", env = "VETCH_SANS", value_delimiter = ',')]
    pub sans: Vec<String>,
    /// The cluster's name in the admin's kubeconfig.
    #[arg(long, default_value = "vetch")]
    pub cluster_name: String,
}

impl Serve {
    pub fn node_masks(&self) -> NodeMasks {
        NodeMasks {
            any: self.node_cidr_mask_size,
            ipv4: self.node_cidr_mask_size_ipv4,
            ipv6: self.node_cidr_mask_size_ipv6,
        }
    }
}

#[derive(Debug, Args)]
pub struct Kubeconfig {
    #[arg(long)]
    pub data_dir: PathBuf,
    /// The API server's URL.
    #[arg(long)]
    pub server: String,
    /// The user, e.g. system:node:NAME.
    #[arg(long)]
    pub user: String,
    /// The user's group, e.g. system:nodes.
    #[arg(long)]
    pub group: Option<String>,
    #[arg(long)]
    pub out: PathBuf,
    #[arg(long, default_value = "vetch")]
    pub cluster_name: String,
}

/// `40s`, `2m` or `500ms`, as Kubernetes' flags write durations.
fn seconds(text: &str) -> Result<Duration, String> {
    let span: jiff::SignedDuration = text
        .parse()
        .map_err(|error: jiff::Error| error.to_string())?;
    Duration::try_from(span).map_err(|error| error.to_string())
}

/// A duration, or 0.
fn ttl(text: &str) -> Result<Duration, String> {
    match text {
        "0" => Ok(Duration::ZERO),
        text => seconds(text),
    }
}

/// `30000-32767` or `30000+2767`, as kube-apiserver reads them.
fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let number = |text: &str| {
        let number = text.trim().parse::<u16>();
        number.map_err(|error| format!("{text:?}: {error}"))
    };
    let (first, last) = match (text.split_once('-'), text.split_once('+')) {
        (Some((first, last)), _) => (number(first)?, number(last)?),
        (None, Some((first, more))) => {
            let (first, more) = (number(first)?, number(more)?);
            let last = first.checked_add(more);
            (first, last.ok_or("the last port is beyond 65535")?)
        }
        (None, None) => (number(text)?, number(text)?),
    };
    if first == 0 || first > last {
        return Err("ports go upwards from 1".into());
    }
    Ok(first..=last)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn durations_are_kubernetes() {
        assert_eq!(seconds("40s"), Ok(Duration::from_secs(40)));
        assert_eq!(seconds("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(seconds("500ms"), Ok(Duration::from_millis(500)));
        for bad in ["", "40", "-3s", "soon"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn node_ports_are_a_range() {
        for (text, range) in [
            ("30000-32767", 30000..=32767),
            ("30000+10", 30000..=30010),
            ("30000", 30000..=30000),
        ] {
            assert_eq!(ports(text), Ok(range), "{text}");
        }
        for bad in ["", "0-10", "10-9", "1-65536", "65535+1", "a-b"] {
            assert!(ports(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn networks_and_pools_are_lists() {
        let line = "vetch-control --data-dir d --advertise-address 10.0.0.1 \
            --service-cluster-ip-range 10.96.0.0/16,fd00::/112 --load-balancer-pool 192.0.2.0/28,192.0.2.90-192.0.2.99 \
            --cluster-cidr 10.244.0.0/16,fd00:10:244::/48 --node-cidr-mask-size-ipv6 72";
        let parsed = Options::try_parse_from(line.split_whitespace());
        let serve = parsed.unwrap().serve.unwrap();
        assert_eq!(serve.service_cidr.len(), 2);
        assert_eq!(serve.pod_cidr.len(), 2);
        assert_eq!(serve.node_masks().ipv6, Some(72));
        let both = format!("{line} --node-cidr-mask-size 24");
        assert!(Options::try_parse_from(both.split_whitespace()).is_err());
        assert_eq!(serve.load_balancer_pool.len(), 2);
        assert_eq!(serve.service_node_port_range, 30000..=32767);
    }

    #[test]
    fn serving_and_issuing_are_told_apart() {
        let parse = |line: &str| Options::try_parse_from(line.split(' '));
        let serve = parse(
            "vetch-control --data-dir d --advertise-address 10.0.0.1 --listen 127.0.0.1:1,[::1]:2",
        )
        .unwrap();
        assert_eq!(serve.serve.unwrap().listen.len(), 2);
        let issue =
            parse("vetch-control kubeconfig --data-dir d --server https://a --user u --out f")
                .unwrap();
        assert!(matches!(issue.command, Some(Command::Kubeconfig(_))));
        let token = parse("vetch-control token create --ttl 0 --description x").unwrap();
        let Some(Command::Token(TokenCommand::Create(token))) = token.command else {
            panic!("no token is created");
        };
        assert_eq!((token.ttl, token.usages.len()), (Duration::ZERO, 2));
        assert!(parse("vetch-control token delete").is_err());
        assert!(parse("vetch-control").is_err() || parse("vetch-control").unwrap().serve.is_none());
    }
}
