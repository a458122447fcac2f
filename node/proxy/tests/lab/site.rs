//! A node with pods and a neighbour outside: the test thread's namespace is the
//! node's, with an uplink to a namespace beyond it.

use std::{
    collections::HashMap,
    fs::{self, File},
    net::IpAddr,
    os::fd::AsRawFd,
    path::PathBuf,
    process::Command,
};

use nix::sched::{CloneFlags, setns, unshare};
use vetch_network::{Network, NetworkConfig, PodOptions};
use vetch_proxy::{Follow, Hooks, HooksConfig, Kind, Proxy, ProxyConfig, Xdp};

use crate::cell::{Cell, Services};

pub const NODE: &str = "172.30.0.1";
pub const OUTSIDE: &str = "172.30.0.2";
pub const UPLINK: &str = "up0";
pub const POD_CIDR: &str = "10.244.1.0/24";

/// Lives as long as its file is open.
pub struct Namespace {
    file: File,
}

impl Namespace {
    pub fn new() -> Self {
        let file = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        Self {
            file: file.join().unwrap(),
        }
    }

    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }

    /// Takes a device from the caller's namespace.
    pub fn adopt(&self, device: &str) {
        // A path of ours means another file to the command.
        let (holder, fd) = (std::process::id(), self.file.as_raw_fd());
        shell(&format!(
            "ip link set {device} netns /proc/{holder}/fd/{fd}"
        ));
    }

    /// Runs `job` on a thread inside; threads that it starts are inside too.
    pub fn run<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.file, CloneFlags::CLONE_NEWNET).unwrap();
                job()
            });
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl AsRawFd for Namespace {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.file.as_raw_fd()
    }
}

/// A command of iproute2 in the calling thread's network namespace.
pub fn shell(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

pub struct Pod {
    pub namespace: Namespace,
    pub id: String,
    pub ip: IpAddr,
    /// The node's side of its link.
    pub link: String,
}

pub struct Site {
    pub outside: Namespace,
    pub network: Network,
    // After the network, whose tasks are its own.
    pub tokio: tokio::runtime::Runtime,
    state: tempfile::TempDir,
    // Last: leaving it ends the namespaces.
    pub cell: Cell,
}

/// What a site leaves to other processes.
pub struct Left {
    pub outside: Namespace,
    /// What a network knows of its pods.
    pub state: tempfile::TempDir,
    // Last: leaving it ends the namespaces.
    pub cell: Cell,
}

impl Site {
    pub fn new() -> Self {
        let cell = Cell::enter();
        let outside = Namespace::new();
        shell(&format!("ip link add {UPLINK} type veth peer name up1"));
        outside.adopt("up1");
        shell(&format!("ip address add {NODE}/24 dev {UPLINK}"));
        shell(&format!("ip link set {UPLINK} up"));
        outside.run(|| {
            shell(&format!("ip address add {OUTSIDE}/24 dev up1"));
            shell("ip link set up1 up");
            shell("ip link set lo up");
            shell(&format!("ip route add default via {NODE}"));
        });
        let tokio = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let state = tempfile::tempdir().unwrap();
        let network = tokio.block_on(network(&state));
        tokio.block_on(network.retain(&HashMap::new())).unwrap();
        Self {
            outside,
            network,
            tokio,
            state,
            cell,
        }
    }

    pub fn pod(&self, id: &str) -> Pod {
        self.pod_with(id, PodOptions::default())
    }

    pub fn pod_with(&self, id: &str, options: PodOptions) -> Pod {
        let namespace = Namespace::new();
        let path = namespace.path();
        let attach = self.network.attach(id, &path, options);
        let ip = self.tokio.block_on(attach).unwrap().ips[0];
        let pods = self.network.pods();
        let ifindex = pods.borrow().as_ref().unwrap()[&ip].ifindex;
        Pod {
            namespace,
            id: id.into(),
            ip,
            link: link_name(ifindex),
        }
    }

    /// Without a network of its own: daemons of other processes go on.
    pub fn leave(self) -> Left {
        let Self {
            outside,
            network,
            tokio,
            state,
            cell,
        } = self;
        drop(network);
        drop(tokio);
        Left {
            outside,
            state,
            cell,
        }
    }

    pub fn detach(&self, pod: &Pod) {
        self.tokio.block_on(self.network.detach(&pod.id)).unwrap();
    }

    pub fn config(&self, name: &str) -> ProxyConfig {
        ProxyConfig {
            node_ips: vec![NODE.parse().unwrap()],
            ..self.cell.config(name)
        }
    }

    /// A daemon that has just started: its programs loaded, nothing attached.
    pub fn daemon(&self, name: &str, kind: Kind) -> Daemon {
        self.daemon_of(self.config(name), kind)
    }

    pub fn daemon_with(&self, name: &str, kind: Kind, xdp: Xdp) -> Daemon {
        let config = ProxyConfig {
            xdp,
            ..self.config(name)
        };
        self.daemon_of(config, kind)
    }

    pub fn daemon_of(&self, config: ProxyConfig, kind: Kind) -> Daemon {
        let pin_dir = config.pin_dir.clone();
        let mut proxy = Proxy::open(&config).unwrap();
        let config = HooksConfig {
            pin_dir: pin_dir.clone(),
            node_ips: config.node_ips,
            uplinks: Vec::new(),
            kind,
            xdp: config.xdp,
        };
        let hooks = Hooks::open(config, proxy.programs().ebpf()).unwrap();
        let _context = self.tokio.enter();
        let mut follow = Follow::new(hooks, self.network.pods()).unwrap();
        follow.look();
        Daemon {
            follow,
            proxy,
            pin_dir,
        }
    }

    /// One that has attached all.
    pub fn started(&self, name: &str, kind: Kind) -> Daemon {
        let mut daemon = self.daemon(name, kind);
        daemon.follow.act();
        daemon
    }

    /// One that has, and whose node ports answer.
    pub fn serving(&self, config: ProxyConfig, kind: Kind, services: &Services) -> Daemon {
        let mut daemon = self.daemon_of(config, kind);
        daemon.follow.act();
        let own = [(NODE.parse().unwrap(), vetch_ebpf_common::addresses::NODE)];
        daemon.proxy.set_node_addresses(own.into()).unwrap();
        let uplinks = daemon.follow.uplinks();
        daemon.proxy.set_uplinks(&uplinks).unwrap();
        assert_eq!(daemon.proxy.sync_all(services), []);
        daemon
    }

    /// Lets the daemon look after the links until `condition` holds.
    pub fn until(&self, daemon: &mut Daemon, what: &str, mut condition: impl FnMut() -> bool) {
        let limit = std::time::Duration::from_secs(60);
        self.tokio.block_on(async {
            let follow = async {
                while !condition() {
                    daemon.follow.due().await;
                    daemon.follow.act();
                }
            };
            let done = tokio::time::timeout(limit, follow).await;
            assert!(done.is_ok(), "waited {limit:?} for {what}");
        });
    }

    /// The next daemon's network, before it knows what the last one left.
    pub fn restart_network(self) -> Self {
        let Self {
            outside,
            network: old,
            tokio,
            state,
            cell,
        } = self;
        drop(old);
        let network = tokio.block_on(network(&state));
        Self {
            outside,
            network,
            tokio,
            state,
            cell,
        }
    }

    pub fn adopt(&self, live: &[&Pod]) {
        let live: HashMap<_, _> = live
            .iter()
            .map(|pod| (pod.id.clone(), Some(pod.namespace.path())))
            .collect();
        self.tokio.block_on(self.network.retain(&live)).unwrap();
    }
}

async fn network(state: &tempfile::TempDir) -> Network {
    let config = NetworkConfig {
        node_name: "test".into(),
        node_ips: vec![NODE.parse().unwrap()],
        state_dir: state.path().into(),
        mtu: None,
        vxlan: vetch_network::Vxlan::default(),
    };
    let network = Network::open(config).await.unwrap();
    network
        .set_pod_cidrs(&[POD_CIDR.parse().unwrap()])
        .await
        .unwrap();
    network
}

fn link_name(ifindex: u32) -> String {
    let links = shell("ip -o link");
    let line = links
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{ifindex}: ")));
    let name = line.unwrap().split(['@', ':']).next();
    name.unwrap().into()
}

pub struct Daemon {
    pub follow: Follow,
    pub proxy: Proxy,
    pub pin_dir: PathBuf,
}

impl Daemon {
    pub fn pins(&self) -> Vec<String> {
        pins(&self.pin_dir)
    }

    pub fn kernel(&self) -> Kernel {
        Kernel::read(&self.pin_dir)
    }
}

/// Names of the pinned links, without the number of the interface.
pub fn pins(pin_dir: &std::path::Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(pin_dir.join("links"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains('_'))
        .map(|name| name.split('-').next().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// What the programs know of pods, in the kernel.
#[derive(Debug, PartialEq, Eq)]
pub struct Kernel {
    pub pods: HashMap<IpAddr, vetch_ebpf_common::Pod>,
    pub netns: HashMap<u64, u32>,
}

impl Kernel {
    fn read(pin_dir: &std::path::Path) -> Self {
        use vetch_ebpf_common::{Address, Pod, maps};
        let maps_dir = maps_dir(pin_dir);
        let pods = entries::<Address, Pod>(&maps_dir.join(maps::PODS));
        Self {
            pods: pods.into_iter().map(|(ip, pod)| (ip.into(), pod)).collect(),
            netns: entries::<u64, u32>(&maps_dir.join(maps::NETNS_FLAGS))
                .into_iter()
                .collect(),
        }
    }
}

pub fn maps_dir(pin_dir: &std::path::Path) -> PathBuf {
    fs::read_dir(pin_dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().contains("/maps-"))
        .unwrap()
}

fn entries<K: aya::Pod, V: aya::Pod>(path: &std::path::Path) -> Vec<(K, V)> {
    let data = aya::maps::MapData::from_pin(path).unwrap();
    let map: aya::maps::HashMap<_, K, V> = aya::maps::Map::HashMap(data).try_into().unwrap();
    map.iter().map(Result::unwrap).collect()
}

/// Packets that the node's stack has forwarded.
pub fn forwarded() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("Ip:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.split(' ').position(|name| name == "ForwDatagrams");
    values.split(' ').nth(at.unwrap()).unwrap().parse().unwrap()
}
