//! The command line.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Taint;
use vetch_network::{Vxlan, VxlanMode};
use vetch_proxy::{LoadBalancerMode, Masquerade, Xdp};

mod dns;
mod ends;
mod image;
mod join;
mod maps;
mod memory;
mod pressure;
mod registration;
#[cfg(test)]
mod testing;

pub use dns::{DnsArgs, DnsMode};
pub use ends::{End, Kind};
pub use image::{ImageCommand, Registries};
pub use join::JoinArgs;
pub use maps::{CtCommand, DropsArgs, MapsArgs, Output, PolicyCommand, ServiceCommand, VerifyArgs};
pub use memory::MemoryArgs;
pub use pressure::{EvictionArgs, ImageGcArgs, ShutdownArgs};
use registration::{label, taint};

mod seeing;

pub use seeing::{FlowsArgs, ServiceQuery, TraceArgs};

/// The node daemon of Vetch: pods from kernel parts, Services by eBPF.
///
/// Joins the cluster of the kubeconfig and stays in the foreground. Ending it
/// leaves the pods, and the traffic of their Services, as they are.
#[derive(Debug, Parser)]
#[command(
    name = "vetch-node",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// The node's image store, whether its daemon runs or not
    #[command(subcommand)]
    Image(ImageCommand),
    /// The programs in the kernel as they are attached now, with their sizes; works while the daemon
    /// is down
    Programs(MapsArgs),
    /// Services as the kernel has them, whether a daemon runs or not
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Conversations with services that are balanced by the packet, and those of pods with hosts
    /// outside the cluster
    #[command(subcommand)]
    Ct(CtCommand),
    /// What NetworkPolicies let the node's pods say and hear, as the kernel has it, whether a daemon runs
    /// or not
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// The eBPF maps with their sizes, and what was refused or dropped by reason
    Maps(MapsArgs),
    /// Calls and packets that did not get through, one by one, as far as the programs told of them;
    /// works while the daemon is down
    Drops(DropsArgs),
    /// Calls and packets one by one, with their verdicts, reasons, identities and services: those that
    /// did not get through and, while somebody follows, those with which a conversation begins; works
    /// while the daemon is down
    Flows(FlowsArgs),
    /// What would become of a conversation's first packet, hop by hop and why, by the kernel's maps and
    /// routes; sends nothing, and works while the daemon is down
    Trace(TraceArgs),
    /// By which ways packets of pods go: the uplinks and programs there, and each other node's pods with
    /// their way, directly or in VXLAN; from the kernel, whether a daemon runs or not
    Status(MapsArgs),
    /// Has this kernel's verifier look at every program of this build, with its whole log; nothing is
    /// attached, and no daemon is needed
    Verify(VerifyArgs),
    /// Only the runtime and its pod network, behind a CRI socket: for a kubelet, crictl or critest
    Cri(CriArgs),
    /// Makes this machine a node of a cluster: fetches who the cluster is, asks it for a certificate,
    /// writes the daemon's settings and starts it. Can be repeated
    Join(JoinArgs),
    /// Only the pod network, behind the socket of the CNI plugin vetch-cni: for the pods of another
    /// runtime
    Cni(CniArgs),
    /// Ends a node whose daemon is stopped: kills its pods and removes all it left on the machine
    Cleanup(CleanupArgs),
}

/// Where a node keeps what it makes.
#[derive(Clone, Debug, Args)]
pub struct Places {
    /// Images, writable layers and volumes; must not be an overlayfs
    #[arg(long, env = "VETCH_ROOT_DIR", default_value = "/var/lib/vetch")]
    pub root_dir: PathBuf,
    /// Sockets, namespaces and state of running pods; a tmpfs, so that a reboot empties it
    #[arg(long, env = "VETCH_RUN_DIR", default_value = "/run/vetch")]
    pub run_dir: PathBuf,
    /// The cgroup v2 directory that is the node's: its pods and its Services' clients are below
    #[arg(long, env = "VETCH_CGROUP_ROOT", default_value = "/sys/fs/cgroup")]
    pub cgroup_root: PathBuf,
    /// Where the eBPF maps and links are pinned, on a bpffs
    #[arg(long, env = "VETCH_PIN_DIR", default_value = "/sys/fs/bpf/vetch")]
    pub pin_dir: PathBuf,
    /// Live in the mount namespace bound here, which is made when there is none. Without it the
    /// daemon stays where it is, unless cgroup v2 or a bpffs is missing there: then it is
    /// RUN_DIR/private/mnt
    #[arg(long, value_name = "PATH", env = "VETCH_MOUNT_NAMESPACE")]
    pub mount_namespace: Option<PathBuf>,
}

/// What the runtime is given, whoever asks it for pods.
#[derive(Debug, Args)]
pub struct RuntimeArgs {
    /// The supervisor of pods [default: vetch-shim beside this program]
    #[arg(long, value_name = "FILE", env = "VETCH_SHIM")]
    pub shim: Option<PathBuf>,
    /// Pull images through this network namespace
    #[arg(long, value_name = "PATH", env = "VETCH_PULL_NETNS")]
    pub pull_netns: Option<PathBuf>,
    #[command(flatten)]
    pub registries: Registries,
    /// Where clients of the Container Runtime Interface connect [default: RUN_DIR/cri.sock]
    #[arg(long, value_name = "PATH", env = "VETCH_CRI_SOCKET")]
    pub cri_socket: Option<PathBuf>,
}

/// A runtime without a node: who asks it by its socket says which pods there are.
#[derive(Debug, Args)]
pub struct CriArgs {
    /// An address of this node by which other nodes reach it; of each family, with the main one first
    #[arg(
        long,
        value_name = "IP",
        env = "VETCH_NODE_IP",
        value_delimiter = ',',
        required = true
    )]
    pub node_ip: Vec<IpAddr>,
    /// Where pods get their addresses from, one of each family, until a client says otherwise
    #[arg(
        long,
        value_name = "CIDR",
        env = "VETCH_POD_CIDR",
        value_delimiter = ','
    )]
    pub pod_cidr: Vec<IpNet>,
    #[command(flatten)]
    pub places: Places,
    #[command(flatten)]
    pub runtime: RuntimeArgs,
}

/// A pod network without a node: the runtimes that run its plugin say which pods there are.
#[derive(Debug, Args)]
pub struct CniArgs {
    /// An address of this node by which other nodes reach it; of each family, with the main one first
    #[arg(
        long,
        value_name = "IP",
        env = "VETCH_NODE_IP",
        value_delimiter = ',',
        required = true
    )]
    pub node_ip: Vec<IpAddr>,
    /// Where pods get their addresses from, one of each family
    #[arg(
        long,
        value_name = "CIDR",
        env = "VETCH_POD_CIDR",
        value_delimiter = ',',
        required = true
    )]
    pub pod_cidr: Vec<IpNet>,
    /// The plugin's socket and the records of addresses; a tmpfs, so that a reboot empties it
    #[arg(long, env = "VETCH_RUN_DIR", default_value = "/run/vetch")]
    pub run_dir: PathBuf,
    #[command(flatten)]
    pub conf: CniConf,
}

#[derive(Debug, Args)]
pub struct CniConf {
    /// Write 10-vetch.conflist there, by which runtimes run the plugin vetch-cni; most look in
    /// /etc/cni/net.d [default: nowhere]
    #[arg(long, value_name = "DIR", env = "VETCH_CNI_CONF_DIR")]
    pub cni_conf_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct DaemonArgs {
    /// Names the API server, and who this node is to it
    #[arg(long, value_name = "FILE", env = "VETCH_KUBECONFIG", required = true)]
    pub kubeconfig: Option<PathBuf>,
    /// The name of the Node object
    #[arg(long, value_name = "NAME", env = "VETCH_NODE_NAME", required = true)]
    pub node_name: Option<String>,
    /// An address of this node by which other nodes reach it; of each family, with the main one first
    #[arg(
        long,
        value_name = "IP",
        env = "VETCH_NODE_IP",
        value_delimiter = ',',
        required = true
    )]
    pub node_ip: Vec<IpAddr>,
    #[command(flatten)]
    pub places: Places,
    /// Logs of containers
    #[arg(long, env = "VETCH_POD_LOG_DIR", default_value = "/var/log/pods")]
    pub pod_log_dir: PathBuf,
    #[command(flatten)]
    pub runtime: RuntimeArgs,
    /// A folder of manifests, a Pod each, in JSON or YAML: static pods, which the node runs as long as
    /// their files are there, whether there is an API server or not. Or one such file
    #[arg(long, value_name = "DIR", env = "VETCH_POD_MANIFEST_PATH")]
    pub pod_manifest_path: Option<PathBuf>,
    /// Where pods' seccomp profiles of type Localhost are: localhostProfile is a path below it. The
    /// default goes with the node when it is cleaned up [default: ROOT_DIR/seccomp]
    #[arg(long, value_name = "DIR", env = "VETCH_SECCOMP_PROFILE_ROOT")]
    pub seccomp_profile_root: Option<PathBuf>,
    /// The port of the kubelet API
    #[arg(long, env = "VETCH_KUBELET_PORT", default_value_t = 10250)]
    pub kubelet_port: u16,
    /// How many pods the node takes; each needs an address of the node's pod CIDR
    #[arg(long, value_name = "N", env = "VETCH_MAX_PODS", default_value_t = 110)]
    pub max_pods: u32,
    /// How many processes and threads a pod has at most; -1 for no limit
    #[arg(
        long,
        value_name = "N",
        env = "VETCH_POD_MAX_PIDS",
        default_value_t = -1,
        allow_negative_numbers = true
    )]
    pub pod_max_pids: i64,
    #[command(flatten)]
    pub memory: MemoryArgs,
    #[command(flatten)]
    pub image_gc: ImageGcArgs,
    #[command(flatten)]
    pub eviction: EvictionArgs,
    #[command(flatten)]
    pub shutdown: ShutdownArgs,
    /// Name server of pods that use the cluster's DNS [default: the address of the Service kube-dns
    /// in kube-system, where there is one]
    #[arg(
        long,
        value_name = "IP",
        env = "VETCH_CLUSTER_DNS",
        value_delimiter = ','
    )]
    pub cluster_dns: Vec<IpAddr>,
    #[arg(long, env = "VETCH_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
    #[command(flatten)]
    pub dns: DnsArgs,
    /// Serve the Services whose label service.kubernetes.io/service-proxy-name has this value, and
    /// leave those without it to another proxy [default: serve those without it]
    #[arg(long, value_name = "NAME", env = "VETCH_SERVICE_PROXY_NAME")]
    pub service_proxy_name: Option<String>,
    /// Where the service proxy answers /healthz and /livez
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "VETCH_HEALTHZ_BIND_ADDRESS",
        default_value = "0.0.0.0:10256"
    )]
    pub healthz_bind_address: SocketAddr,
    /// Where the service proxy answers /metrics
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "VETCH_METRICS_BIND_ADDRESS",
        default_value = "127.0.0.1:10249"
    )]
    pub metrics_bind_address: SocketAddr,
    /// Follow TCP connections to services to their end: bytes, and how long they took to be
    /// established, by service (1 % of a connection within the node, service or not)
    #[arg(long, env = "VETCH_CONNECTION_METRICS")]
    pub connection_metrics: bool,
    /// A link by which this node reaches others and is reached [default: the one that has the node's
    /// address, and those of default routes]
    #[arg(long, value_name = "NAME", env = "VETCH_UPLINK", value_delimiter = ',')]
    pub uplink: Vec<String>,
    /// Whether clients outside reach backends on other nodes past this node's stack (XDP), by a
    /// program at the uplinks' drivers: off; native; or auto, which is native at links that are no
    /// virtual ones and whose drivers take it
    #[arg(long, value_name = "MODE", env = "VETCH_XDP", default_value = "off")]
    pub xdp: Xdp,
    /// How backends on other nodes answer clients outside: snat, back by this node, as which they
    /// see the client; or dsr, from their own node, which gets the packets as they came (IP in IP)
    #[arg(
        long,
        value_name = "MODE",
        env = "VETCH_LOAD_BALANCER_MODE",
        default_value = "snat"
    )]
    pub load_balancer_mode: LoadBalancerMode,
    /// When packets between pods of different nodes go in VXLAN: cross-subnet, to nodes behind a
    /// router; always; or never. Calico's vxlanMode; flannel has the first as DirectRouting
    #[arg(
        long,
        value_name = "MODE",
        env = "VETCH_VXLAN_MODE",
        default_value = "cross-subnet"
    )]
    pub vxlan_mode: VxlanMode,
    /// The tunnel's UDP port, the same on every node
    #[arg(long, value_name = "PORT", env = "VETCH_VXLAN_PORT", default_value_t = Vxlan::PORT)]
    pub vxlan_port: u16,
    /// The tunnel's network identifier, the same on every node
    #[arg(long, value_name = "VNI", env = "VETCH_VXLAN_VNI", default_value_t = Vxlan::VNI,
        value_parser = clap::value_parser!(u32).range(1..1 << 24))]
    pub vxlan_vni: u32,
    /// Whether what pods send to hosts outside the cluster goes with this node's address: on; or
    /// off, for a network that leads answers to pods by itself
    #[arg(
        long,
        value_name = "MODE",
        env = "VETCH_MASQUERADE",
        default_value = "on"
    )]
    pub masquerade: Masquerade,
    /// Hosts that pods reach with their own address, beside the cluster's pods and nodes: ranges
    /// that have a route back to pods
    #[arg(
        long,
        value_name = "CIDR",
        env = "VETCH_NON_MASQUERADE_CIDR",
        value_delimiter = ','
    )]
    pub non_masquerade_cidr: Vec<IpNet>,
    #[command(flatten)]
    pub cni: CniConf,
    /// Labels of the Node object: key=value,…
    #[arg(long, value_name = "LABELS", env = "VETCH_NODE_LABELS", value_delimiter = ',', value_parser = label)]
    pub node_labels: Vec<(String, String)>,
    /// Taints the Node object is made with: key=value:Effect,…
    #[arg(long, value_name = "TAINTS", env = "VETCH_REGISTER_WITH_TAINTS", value_delimiter = ',', value_parser = taint)]
    pub register_with_taints: Vec<Taint>,
}

#[derive(Debug, Args)]
pub struct CleanupArgs {
    #[command(flatten)]
    pub places: Places,
    /// Remove the containers' logs too
    #[arg(long)]
    pub pod_log_dir: Option<PathBuf>,
    /// Leave the images for the next node here
    #[arg(long)]
    pub keep_images: bool,
}

impl DaemonArgs {
    pub fn vxlan(&self) -> Vxlan {
        Vxlan {
            mode: self.vxlan_mode,
            port: self.vxlan_port,
            vni: self.vxlan_vni,
        }
    }

    pub fn labels(&self) -> BTreeMap<String, String> {
        self.node_labels.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{NEEDED, parse};
    use super::*;

    #[test]
    fn a_daemon_needs_to_know_who_it_is() {
        let cli = parse(&NEEDED).unwrap();
        assert!(cli.command.is_none());
        assert_eq!((cli.daemon.kubelet_port, cli.daemon.max_pods), (10250, 110));
        assert_eq!(cli.daemon.pod_max_pids, -1);
        let limited = [&NEEDED[..], &["--pod-max-pids", "-1"]].concat();
        assert_eq!(parse(&limited).unwrap().daemon.pod_max_pids, -1);
        for missing in [1, 3, 5] {
            let mut args = NEEDED.to_vec();
            args.drain(missing..missing + 2);
            let error = parse(&args).unwrap_err();
            assert!(error.contains(NEEDED[missing]), "{error}");
        }
    }

    #[test]
    fn lists_are_given_once_or_often() {
        let more = [
            "--node-labels",
            "zone=a,disk=ssd",
            "--insecure-registry",
            "127.0.0.1:5000",
            "--insecure-registry",
            "127.0.0.1:5001",
            "--cluster-dns",
            "10.96.0.10",
            "--node-ip",
            "fd00::1",
            "--uplink",
            "eth0,eth1",
            "--xdp",
            "native",
            "--seccomp-profile-root",
            "/etc/seccomp",
            "--pod-manifest-path",
            "/etc/manifests",
            "--load-balancer-mode",
            "dsr",
            "--connection-metrics",
            "--vxlan-mode",
            "always",
            "--vxlan-port",
            "8472",
        ];
        let cli = parse(&[&NEEDED[..], &more].concat()).unwrap();
        let labels = cli.daemon.labels();
        assert_eq!(labels["zone"], "a");
        assert_eq!(labels["disk"], "ssd");
        assert_eq!(cli.daemon.runtime.registries.insecure_registry.len(), 2);
        assert_eq!(cli.daemon.uplink, ["eth0", "eth1"]);
        assert_eq!(cli.daemon.node_ip.len(), 2);
        let profiles = cli.daemon.seccomp_profile_root.as_deref();
        assert_eq!(profiles, Some("/etc/seccomp".as_ref()));
        let manifests = cli.daemon.pod_manifest_path.as_deref();
        assert_eq!(manifests, Some("/etc/manifests".as_ref()));
        assert_eq!(cli.daemon.xdp, Xdp::Native);
        assert_eq!(parse(&NEEDED).unwrap().daemon.xdp, Xdp::Off);
        assert!(parse(&[&NEEDED[..], &["--xdp", "on"]].concat()).is_err());
        assert_eq!(cli.daemon.load_balancer_mode, LoadBalancerMode::Dsr);
        let default = parse(&NEEDED).unwrap().daemon.load_balancer_mode;
        assert_eq!(default, LoadBalancerMode::Snat);
        assert!(cli.daemon.connection_metrics);
        let vxlan = Vxlan {
            mode: VxlanMode::Always,
            port: 8472,
            vni: Vxlan::VNI,
        };
        assert_eq!(cli.daemon.vxlan(), vxlan);
        assert_eq!(parse(&NEEDED).unwrap().daemon.vxlan(), Vxlan::default());
        for wrong in [["--vxlan-mode", "auto"], ["--vxlan-vni", "16777216"]] {
            assert!(parse(&[&NEEDED[..], &wrong].concat()).is_err(), "{wrong:?}");
        }
        assert!(!parse(&NEEDED).unwrap().daemon.connection_metrics);
        assert!(parse(&[&NEEDED[..], &["--node-labels", "zone"]].concat()).is_err());
    }

    #[test]
    fn pods_are_masqueraded_unless_it_is_said() {
        let default = parse(&NEEDED).unwrap().daemon;
        assert_eq!(default.masquerade, Masquerade::On);
        assert_eq!(default.non_masquerade_cidr, []);
        let more = [
            "--masquerade",
            "off",
            "--non-masquerade-cidr",
            "10.0.0.0/8,fd00::/8",
        ];
        let said = parse(&[&NEEDED[..], &more].concat()).unwrap().daemon;
        assert_eq!(said.masquerade, Masquerade::Off);
        assert_eq!(said.non_masquerade_cidr.len(), 2);
        for wrong in [
            ["--masquerade", "yes"],
            ["--non-masquerade-cidr", "10.0.0.0"],
        ] {
            assert!(parse(&[&NEEDED[..], &wrong].concat()).is_err());
        }
    }

    #[test]
    fn commands_need_no_node() {
        let cri = [
            "vetch-node",
            "cri",
            "--node-ip",
            "10.0.0.1",
            "--pod-cidr",
            "10.1.0.0/24,fd00:1::/64",
        ];
        let Some(Command::Cri(args)) = parse(&cri).unwrap().command else {
            panic!("{cri:?}");
        };
        assert_eq!((args.pod_cidr.len(), args.runtime.cri_socket), (2, None));
        let cni = [
            "vetch-node",
            "cni",
            "--node-ip",
            "10.0.0.1",
            "--pod-cidr",
            "10.1.0.0/24",
        ];
        assert!(parse(&cni[..4]).unwrap_err().contains("--pod-cidr"));
        let Some(Command::Cni(args)) = parse(&cni).unwrap().command else {
            panic!("{cni:?}");
        };
        assert_eq!(args.conf.cni_conf_dir, None, "nothing unless asked");
        let cli = parse(&["vetch-node", "cleanup", "--run-dir", "/r"]).unwrap();
        let Some(Command::Cleanup(args)) = cli.command else {
            panic!("{cli:?}");
        };
        assert_eq!(args.places.run_dir, PathBuf::from("/r"));
    }
}
