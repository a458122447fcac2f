//! The command line.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Taint;
use vetch_agent::node::image_gc::Thresholds;
use vetch_agent::node::pressure::{Eviction, HARD};
use vetch_agent::pods::{Periods, parse_go_duration};
use vetch_join::{CaHash, Token};
use vetch_network::{Vxlan, VxlanMode};
use vetch_proxy::{Frontend, LoadBalancerMode, Masquerade, Xdp};

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

#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Reads images from a tar: an OCI layout, or what `docker save` writes
    Import {
        #[command(flatten)]
        root: RootDir,
        /// The tar
        file: PathBuf,
    },
    /// Lists the images
    #[command(alias = "list")]
    Ls {
        #[command(flatten)]
        root: RootDir,
    },
    /// Pulls an image from its registry, or its mirrors
    Pull {
        #[command(flatten)]
        root: RootDir,
        #[command(flatten)]
        registries: Registries,
        /// For the registry
        #[arg(
            long,
            value_name = "USER:PASSWORD",
            env = "VETCH_REGISTRY_CREDS",
            hide_env_values = true
        )]
        creds: Option<String>,
        /// Such as docker.io/library/busybox:1.37
        #[arg(value_name = "IMAGE")]
        reference: String,
    },
    /// Removes images, or one of their names where they have several. What containers have of them
    /// stays until these are gone
    Rm {
        #[command(flatten)]
        root: RootDir,
        /// Names, digests or ids
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Lists every address, port and protocol that is served
    Ls(MapsArgs),
    /// Shows one of them with its backends
    Show {
        #[command(flatten)]
        maps: MapsArgs,
        /// Such as 10.96.0.1:443/TCP; a NodePort's address is 0.0.0.0 or [::]
        #[arg(value_name = "ADDRESS:PORT/PROTOCOL")]
        frontend: Frontend,
    },
}

#[derive(Debug, Subcommand)]
pub enum CtCommand {
    /// Lists them by protocol and client. A socket whose backend was chosen when it connected is
    /// none of them
    Ls(MapsArgs),
}

#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Lists the pods' addresses with their sets of rules
    Ls(MapsArgs),
    /// Shows the rules of one of them
    Show {
        #[command(flatten)]
        maps: MapsArgs,
        /// Of a pod on this node: `kubectl get pod -o wide` has it
        #[arg(value_name = "ADDRESS")]
        address: IpAddr,
    },
}

#[derive(Debug, Args)]
pub struct RootDir {
    /// The node's root directory
    #[arg(long, env = "VETCH_ROOT_DIR", default_value = "/var/lib/vetch")]
    pub root_dir: PathBuf,
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

/// How registries are spoken to.
#[derive(Clone, Debug, Args)]
pub struct Registries {
    /// A registry that speaks plain HTTP
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "VETCH_INSECURE_REGISTRY",
        value_delimiter = ','
    )]
    pub insecure_registry: Vec<String>,
    /// Mirrors and certificates of registries, in containerd's format: REGISTRY/hosts.toml below it
    #[arg(
        long,
        value_name = "DIR",
        env = "VETCH_REGISTRY_CONFIG_PATH",
        default_value = "/etc/vetch/certs.d"
    )]
    pub registry_config_path: PathBuf,
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
    /// How full the images' disk is, in per cent, when those that no container has begin to go; 100 for
    /// never
    #[arg(
        long,
        value_name = "PERCENT",
        env = "VETCH_IMAGE_GC_HIGH_THRESHOLD",
        default_value_t = 85,
        value_parser = clap::value_parser!(u8).range(0..=100)
    )]
    pub image_gc_high_threshold: u8,
    /// How full it is then; below the other one
    #[arg(
        long,
        value_name = "PERCENT",
        env = "VETCH_IMAGE_GC_LOW_THRESHOLD",
        default_value_t = 80,
        value_parser = clap::value_parser!(u8).range(0..=100)
    )]
    pub image_gc_low_threshold: u8,
    /// What the node has to have left; where it has less, pods are ended at once. Signals are
    /// memory.available, nodefs.available, nodefs.inodesFree, imagefs.available, imagefs.inodesFree and
    /// pid.available, amounts like 100Mi or 10%; empty for never
    #[arg(
        long,
        value_name = "SIGNAL<AMOUNT,…",
        env = "VETCH_EVICTION_HARD",
        default_value = HARD
    )]
    pub eviction_hard: String,
    /// The same, of what it may miss for a while
    #[arg(
        long,
        value_name = "SIGNAL<AMOUNT,…",
        env = "VETCH_EVICTION_SOFT",
        default_value = ""
    )]
    pub eviction_soft: String,
    /// For how long it may, of each of these: memory.available=1m30s
    #[arg(
        long,
        value_name = "SIGNAL=DURATION,…",
        env = "VETCH_EVICTION_SOFT_GRACE_PERIOD",
        default_value = ""
    )]
    pub eviction_soft_grace_period: String,
    /// How long a pod has at most to end, of those that go for these
    #[arg(
        long,
        value_name = "SECONDS",
        env = "VETCH_EVICTION_MAX_POD_GRACE_PERIOD",
        default_value_t = 0
    )]
    pub eviction_max_pod_grace_period: u32,
    /// How long the machine waits for its pods to end when it goes down, by systemd's logind; 0 for not
    /// at all
    #[arg(
        long,
        value_name = "DURATION",
        env = "VETCH_SHUTDOWN_GRACE_PERIOD",
        default_value = "0s",
        value_parser = duration
    )]
    pub shutdown_grace_period: Duration,
    /// How much of that critical pods have, which end after all others
    #[arg(
        long,
        value_name = "DURATION",
        env = "VETCH_SHUTDOWN_GRACE_PERIOD_CRITICAL_PODS",
        default_value = "0s",
        value_parser = duration
    )]
    pub shutdown_grace_period_critical_pods: Duration,
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

/// How names are looked up by pods and, by the Service kube-dns, by the node.
#[derive(Debug, Args)]
pub struct DnsArgs {
    /// Whether this node answers the Service kube-dns itself: auto, where the Service has no selector
    /// and no endpoints; always, instead of the servers it has; or off
    #[arg(
        long = "dns",
        value_name = "MODE",
        env = "VETCH_DNS",
        value_enum,
        default_value_t = DnsMode::Auto
    )]
    pub mode: DnsMode,
    /// The port of the node's addresses at which cluster DNS is served, to this node and its pods
    #[arg(
        long,
        value_name = "PORT",
        env = "VETCH_DNS_PORT",
        default_value_t = 10053
    )]
    pub dns_port: u16,
    /// Who is asked about names that are not the cluster's [default: the servers of the node's
    /// /etc/resolv.conf]
    #[arg(
        long,
        value_name = "ADDRESS[:PORT]",
        env = "VETCH_DNS_UPSTREAM",
        value_delimiter = ',',
        value_parser = name_server
    )]
    pub dns_upstream: Vec<SocketAddr>,
    /// Who is asked about names of a domain: corp.example=192.0.2.53; given again for more servers
    /// and more domains, of which the longest that fits is asked
    #[arg(
        long,
        value_name = "DOMAIN=ADDRESS[:PORT]",
        env = "VETCH_DNS_DOMAIN_UPSTREAM",
        value_delimiter = ',',
        value_parser = domain_server
    )]
    pub dns_domain_upstream: Vec<(String, SocketAddr)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DnsMode {
    Auto,
    Always,
    Off,
}

#[derive(Debug, Args)]
pub struct MapsArgs {
    /// Where the eBPF maps and links are pinned
    #[arg(long, env = "VETCH_PIN_DIR", default_value = "/sys/fs/bpf/vetch")]
    pub pin_dir: PathBuf,
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct DropsArgs {
    #[command(flatten)]
    pub maps: MapsArgs,
    /// Stay, and print what comes; JSON is one object a line then
    #[arg(long, short)]
    pub follow: bool,
}

impl MapsArgs {
    /// The likely reason when nothing can be read there.
    pub fn no_node(&self) -> String {
        format!(
            "no node has its maps at {}: on a node of `cargo xtask up` run this by \
             `cargo xtask exec --mounts`",
            self.pin_dir.display()
        )
    }
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Only this program
    pub program: Option<String>,
    /// Text: the counts of each, or the whole log of the one that is named
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
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
    pub fn image_gc(&self) -> Result<Thresholds, String> {
        let (high, low) = (self.image_gc_high_threshold, self.image_gc_low_threshold);
        if low >= high {
            return Err(format!(
                "--image-gc-low-threshold is {low}, and has to be below --image-gc-high-threshold, \
                 which is {high}"
            ));
        }
        Ok(Thresholds { high, low })
    }

    pub fn vxlan(&self) -> Vxlan {
        Vxlan {
            mode: self.vxlan_mode,
            port: self.vxlan_port,
            vni: self.vxlan_vni,
        }
    }

    pub fn eviction(&self) -> Result<Eviction, String> {
        Eviction::parse(
            &self.eviction_hard,
            &self.eviction_soft,
            &self.eviction_soft_grace_period,
            Duration::from_secs(self.eviction_max_pod_grace_period.into()),
        )
    }

    pub fn shutdown(&self) -> Result<Periods, String> {
        let periods = Periods {
            grace: self.shutdown_grace_period,
            critical: self.shutdown_grace_period_critical_pods,
        };
        periods.check()
    }

    pub fn labels(&self) -> BTreeMap<String, String> {
        self.node_labels.iter().cloned().collect()
    }
}

impl DnsArgs {
    /// Each domain with its servers.
    pub fn domain_upstreams(&self) -> Vec<(String, Vec<SocketAddr>)> {
        let mut domains: BTreeMap<String, Vec<SocketAddr>> = BTreeMap::new();
        for (domain, server) in &self.dns_domain_upstream {
            domains.entry(domain.clone()).or_default().push(*server);
        }
        domains.into_iter().collect()
    }
}

/// Without a port it is 53.
fn name_server(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse().map(|ip: IpAddr| SocketAddr::new(ip, 53));
    address
        .or_else(|_| text.parse())
        .map_err(|_| "a name server is an address, such as 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:5353".into())
}

fn domain_server(text: &str) -> Result<(String, SocketAddr), String> {
    match text.split_once('=') {
        Some((domain, server)) if !domain.is_empty() => {
            let domain = domain.trim_end_matches('.').to_ascii_lowercase();
            Ok((domain, name_server(server)?))
        }
        _ => Err("a domain's name server is given as corp.example=192.0.2.53".into()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_go_duration(text).ok_or_else(|| "a duration is like 30s or 1m30s".to_owned())
}

/// The API server checks the rest.
fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("a label is key=value".into()),
    }
}

/// `key=value:Effect` or `key:Effect`, as kubectl and the kubelet have it.
fn taint(text: &str) -> Result<Taint, String> {
    let wrong = || {
        "a taint is key=value:Effect, where Effect is NoSchedule, PreferNoSchedule or NoExecute"
            .to_owned()
    };
    let (what, effect) = text.rsplit_once(':').ok_or_else(wrong)?;
    let (key, value) = match what.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (what, None),
    };
    let known = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    if key.is_empty() || !known.contains(&effect) {
        return Err(wrong());
    }
    Ok(Taint {
        key: key.to_owned(),
        value: value.filter(|value| !value.is_empty()),
        effect: effect.to_owned(),
        time_added: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDED: [&str; 7] = [
        "vetch-node",
        "--kubeconfig",
        "k",
        "--node-name",
        "n",
        "--node-ip",
        "10.0.0.1",
    ];

    fn parse(args: &[&str]) -> Result<Cli, String> {
        Cli::try_parse_from(args).map_err(|error| error.to_string())
    }

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
    fn what_the_node_keeps() {
        let with = |flags: &[&str]| {
            parse(&[&NEEDED[..], flags].concat())
                .unwrap()
                .daemon
                .eviction()
        };
        assert_eq!(with(&[]), Ok(Eviction::default()));
        assert_eq!(with(&["--eviction-hard", ""]).unwrap().all().count(), 0);
        let flags = |grace, critical| {
            let named = ["--shutdown-grace-period", grace];
            let more = ["--shutdown-grace-period-critical-pods", critical];
            parse(&[&NEEDED[..], &named, &more].concat()).map(|cli| cli.daemon.shutdown())
        };
        assert_eq!(flags("1m30s", "10s").unwrap().unwrap().grace.as_secs(), 90);
        assert!(flags("10s", "30s").unwrap().is_err());
        assert!(flags("soon", "0").is_err());
        let soft = "memory.available<1Gi";
        let told = with(&["--eviction-soft", soft]).unwrap_err();
        assert!(told.contains("has no grace period"), "{told}");
        let graces = "memory.available=90s";
        let flags = [
            "--eviction-soft",
            soft,
            "--eviction-soft-grace-period",
            graces,
            "--eviction-max-pod-grace-period",
            "30",
        ];
        let eviction = with(&flags).unwrap();
        assert_eq!(eviction.soft[0].grace, Some(Duration::from_secs(90)));
        assert_eq!(eviction.max_pod_grace, Duration::from_secs(30));
    }

    #[test]
    fn images_go_from_one_threshold_down_to_a_lower_one() {
        let with = |high: &str, low: &str| {
            let flags = [
                "--image-gc-high-threshold",
                high,
                "--image-gc-low-threshold",
                low,
            ];
            parse(&[&NEEDED[..], &flags].concat()).map(|cli| cli.daemon.image_gc())
        };
        assert_eq!(with("90", "70"), Ok(Ok(Thresholds { high: 90, low: 70 })));
        assert!(
            with("80", "80")
                .unwrap()
                .unwrap_err()
                .contains("has to be below")
        );
        assert!(with("101", "80").is_err());
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
        for bad in ["k", "k=v", ":NoSchedule", "k=v:Sometimes"] {
            assert!(taint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn name_servers_are_addresses() {
        let more = [
            "--dns-upstream",
            "192.0.2.1,[2001:db8::1]:5353",
            "--dns-domain-upstream",
            "Corp.example.=192.0.2.2:5353,corp.example=2001:db8::2",
            "--dns-domain-upstream",
            "example.org=192.0.2.3",
            "--dns",
            "always",
        ];
        let dns = parse(&[&NEEDED[..], &more].concat()).unwrap().daemon.dns;
        let text = |servers: &[SocketAddr]| {
            let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
            servers.join(" ")
        };
        assert_eq!(text(&dns.dns_upstream), "192.0.2.1:53 [2001:db8::1]:5353");
        let domains = dns.domain_upstreams();
        let domains: Vec<(&str, String)> = domains
            .iter()
            .map(|(domain, servers)| (domain.as_str(), text(servers)))
            .collect();
        let corp = "192.0.2.2:5353 [2001:db8::2]:53".to_owned();
        let org = "192.0.2.3:53".to_owned();
        assert_eq!(domains, [("corp.example", corp), ("example.org", org)]);
        assert_eq!(dns.mode, DnsMode::Always);
        let default = parse(&NEEDED).unwrap().daemon.dns;
        assert_eq!((default.mode, default.dns_port), (DnsMode::Auto, 10053));
        for wrong in [
            ["--dns-upstream", "dns.example"],
            ["--dns-domain-upstream", "192.0.2.1"],
            ["--dns-domain-upstream", "=192.0.2.1"],
            ["--dns", "on"],
        ] {
            assert!(parse(&[&NEEDED[..], &wrong].concat()).is_err(), "{wrong:?}");
        }
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
        let cli = parse(&["vetch-node", "image", "import", "--root-dir", "/r", "x.tar"]).unwrap();
        let Some(Command::Image(ImageCommand::Import { root, file })) = cli.command else {
            panic!("{cli:?}");
        };
        assert_eq!((root.root_dir, file), ("/r".into(), "x.tar".into()));
        let show = [
            "vetch-node",
            "service",
            "show",
            "[fd96::1]:53/udp",
            "-o",
            "json",
        ];
        let Some(Command::Service(ServiceCommand::Show { maps, frontend })) =
            parse(&show).unwrap().command
        else {
            panic!("{show:?}");
        };
        assert_eq!(
            (maps.output, frontend.to_string()),
            (Output::Json, "[fd96::1]:53/UDP".into())
        );
        for wrong in [
            "10.96.0.1:53",
            "10.96.0.1/UDP",
            "10.96.0.1:53/ICMP",
            "dns:53/UDP",
        ] {
            let error = parse(&["vetch-node", "service", "show", wrong]).unwrap_err();
            assert!(error.contains("ADDRESS:PORT/PROTOCOL"), "{error}");
        }
        let cli = parse(&["vetch-node", "drops", "--follow", "--output", "json"]).unwrap();
        let Some(Command::Drops(args)) = cli.command else {
            panic!("{cli:?}");
        };
        assert_eq!((args.follow, args.maps.output), (true, Output::Json));
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
