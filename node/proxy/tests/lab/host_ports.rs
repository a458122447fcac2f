//! Ports of the node that lead to pods: the whole proxy, over a network and an API
//! server of the test's.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    time::Duration,
};

use nix::unistd::gettid;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use vetch_network::{HostPort, PodOptions};
use vetch_proxy::Protocol::{self, Tcp, Udp};

use crate::{
    api::Api,
    servers::TIMEOUT,
    site::{NODE, Namespace, OUTSIDE, Pod, Site},
};

const LIMIT: Duration = Duration::from_secs(60);
/// When a datagram is there that comes at all, and what is refused is known to be.
const SOON: Duration = Duration::from_secs(1);
/// Where pods answer.
const PORT: u16 = 8000;

/// A proxy that runs on the site's runtime, whenever that runs.
pub struct Running {
    shutdown: CancellationToken,
    proxy: tokio::task::JoinHandle<Result<(), vetch_proxy::Error>>,
}

impl Running {
    pub fn start(site: &Site, api: &Api) -> Self {
        Self::with_guard(site, api, vetch_proxy::Guard::default())
    }

    pub fn with_guard(site: &Site, api: &Api, guard: vetch_proxy::Guard) -> Self {
        // The client has a task of its own.
        let _context = site.tokio.enter();
        let shutdown = CancellationToken::new();
        let (pressure, _) = tokio::sync::watch::channel(None);
        let (client, config, stop) = (api.client(), site.config("a"), shutdown.clone());
        let (pods, ports) = (site.network.pods(), site.network.host_ports());
        let run = vetch_proxy::run(client, config, pods, ports, guard, pressure, stop);
        let proxy = site.tokio.spawn(run);
        Self { shutdown, proxy }
    }

    pub fn stop(self, site: &Site) {
        self.shutdown.cancel();
        site.tokio.block_on(self.proxy).unwrap().unwrap();
    }
}

/// Lets the proxy work until `condition` holds.
pub fn until(site: &Site, what: &str, mut condition: impl FnMut() -> bool) {
    let met = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let met = async { tokio::time::timeout(LIMIT, met).await };
    let met = site.tokio.block_on(met);
    assert!(met.is_ok(), "waited {LIMIT:?} for {what}");
}

fn host_port(host_ip: Option<&str>, protocol: Protocol, port: u16) -> HostPort {
    HostPort {
        host_ip: host_ip.map(|ip| ip.parse().unwrap()),
        protocol,
        port,
        container_port: PORT,
    }
}

fn with_ports(ports: &[HostPort]) -> PodOptions {
    PodOptions {
        host_ports: ports.to_vec(),
        ..PodOptions::default()
    }
}

/// On all addresses 18080, on the node's address 18081, on its loopback 18082.
fn ports() -> Vec<HostPort> {
    let port = |protocol| {
        [
            host_port(None, protocol, 18080),
            host_port(Some(NODE), protocol, 18081),
            host_port(Some("127.0.0.1"), protocol, 18082),
        ]
    };
    [Tcp, Udp].into_iter().flat_map(port).collect()
}

/// The pod's sockets, which the test itself reads and writes.
struct Servers {
    tcp: TcpListener,
    udp: UdpSocket,
}

impl Servers {
    fn of(pod: &Pod) -> Self {
        pod.namespace.run(|| {
            let tcp = TcpListener::bind((pod.ip, PORT)).unwrap();
            let udp = UdpSocket::bind((pod.ip, PORT)).unwrap();
            udp.set_read_timeout(Some(SOON)).unwrap();
            Self { tcp, udp }
        })
    }

    /// Whom the pod sees, after a word there and one back; None if the port is refused.
    fn client(&self, from: &Client<'_>, protocol: Protocol, to: SocketAddr) -> Option<IpAddr> {
        match protocol {
            Tcp => self.tcp_client(from, to),
            _ => self.udp_client(from, to),
        }
    }

    fn tcp_client(&self, from: &Client<'_>, to: SocketAddr) -> Option<IpAddr> {
        let connected = from.run(|| TcpStream::connect_timeout(&to, TIMEOUT));
        let mut stream = match connected {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return None,
            connected => connected.unwrap_or_else(|error| panic!("{to}: {error}")),
        };
        let (mut accepted, seen) = self.tcp.accept().unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        accepted.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut word = [0; 2];
        stream.write_all(b"hi").unwrap();
        accepted.read_exact(&mut word).unwrap();
        accepted.write_all(&word).unwrap();
        stream.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"hi");
        assert_eq!(stream.peer_addr().unwrap(), to);
        Some(seen.ip())
    }

    fn udp_client(&self, from: &Client<'_>, to: SocketAddr) -> Option<IpAddr> {
        let socket = from.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(TIMEOUT)).unwrap();
            socket.connect(to).unwrap();
            socket.send(b"hi").unwrap();
            socket
        });
        let mut word = [0; 8];
        let Ok((len, seen)) = self.udp.recv_from(&mut word) else {
            let refused = socket.recv(&mut word).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{to}");
            return None;
        };
        self.udp.send_to(&word[..len], seen).unwrap();
        let (len, answered) = socket.recv_from(&mut word).unwrap();
        assert_eq!((&word[..len], answered), (&b"hi"[..], to));
        Some(seen.ip())
    }
}

struct Client<'a> {
    name: &'static str,
    /// None for the node's own.
    namespace: Option<&'a Namespace>,
    /// Of another machine: out of the node's cgroup.
    outer_cgroup: Option<PathBuf>,
}

impl Client<'_> {
    fn run<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        let job = || {
            if let Some(threads) = &self.outer_cgroup {
                fs::write(threads, gettid().to_string()).unwrap();
            }
            job()
        };
        match self.namespace {
            Some(namespace) => namespace.run(job),
            None => job(),
        }
    }
}

#[test]
fn host_ports_lead_to_their_pod_from_everywhere() {
    let site = Site::new();
    let a = site.pod_with("a", with_ports(&ports()));
    let b = site.pod("b");
    let servers = Servers::of(&a);
    let running = Running::start(&site, &Api::new());
    let client = |name, namespace| Client {
        name,
        namespace,
        outer_cgroup: None,
    };
    let outside = Client {
        outer_cgroup: Some(site.cell.outer_cgroup()),
        ..client("outside", Some(&site.outside))
    };
    let (node, other, itself) = (
        client("the node", None),
        client("another pod", Some(&b.namespace)),
        client("the pod itself", Some(&a.namespace)),
    );
    let everywhere: SocketAddr = format!("{NODE}:18080").parse().unwrap();
    until(&site, "the host port", || {
        servers.client(&node, Tcp, everywhere).is_some()
    });

    let at = |ip: &str, port: u16| SocketAddr::new(ip.parse().unwrap(), port);
    let (node_ip, outside_ip): (IpAddr, IpAddr) = (NODE.parse().unwrap(), OUTSIDE.parse().unwrap());
    for protocol in [Tcp, Udp] {
        // What comes by packet back to its sender must have another source.
        let own = if protocol == Tcp { a.ip } else { node_ip };
        for (from, to, seen) in [
            (&outside, at(NODE, 18080), Some(outside_ip)),
            (&outside, at(NODE, 18081), Some(outside_ip)),
            (&outside, at(NODE, 18082), None),
            (&other, at(NODE, 18080), Some(b.ip)),
            (&other, at(NODE, 18081), Some(b.ip)),
            // Its own loopback is another one.
            (&other, at("127.0.0.1", 18080), None),
            (&other, at("127.0.0.1", 18082), None),
            (&itself, at(NODE, 18080), Some(own)),
            (&itself, at(NODE, 18081), Some(own)),
            (&itself, at("127.0.0.1", 18082), None),
            (&node, at(NODE, 18080), Some(node_ip)),
            (&node, at(NODE, 18081), Some(node_ip)),
            (&node, at("127.0.0.1", 18080), Some(node_ip)),
            (&node, at("127.0.0.1", 18081), None),
            (&node, at("127.0.0.1", 18082), Some(node_ip)),
        ] {
            let found = servers.client(from, protocol, to);
            assert_eq!(found, seen, "{protocol:?} from {} to {to}", from.name);
        }
    }
    running.stop(&site);
}

#[test]
fn a_host_port_outlives_the_daemon_and_ends_with_its_pod() {
    let site = Site::new();
    let port = [host_port(None, Tcp, 18080)];
    let a = site.pod_with("a", with_ports(&port));
    let servers = Servers::of(&a);
    let api = Api::new();
    let to: SocketAddr = format!("{NODE}:18080").parse().unwrap();
    let node = Client {
        name: "the node",
        namespace: None,
        outer_cgroup: None,
    };
    let running = Running::start(&site, &api);
    until(&site, "the host port", || {
        servers.client(&node, Tcp, to).is_some()
    });
    running.stop(&site);
    assert!(servers.client(&node, Tcp, to).is_some(), "without a daemon");

    let namespace = Namespace::new();
    let path = namespace.path();
    let attach = site.network.attach("late", &path, with_ports(&port));
    let refused = site.tokio.block_on(attach).unwrap_err().to_string();
    assert!(
        refused.contains("host port 18080/TCP is taken"),
        "{refused}"
    );

    let running = Running::start(&site, &api);
    let b = site.pod_with("b", with_ports(&[host_port(None, Tcp, 18081)]));
    let beside = Servers::of(&b);
    let next: SocketAddr = format!("{NODE}:18081").parse().unwrap();
    until(&site, "the next pod's", || {
        beside.client(&node, Tcp, next).is_some()
    });
    assert!(servers.client(&node, Tcp, to).is_some(), "with another one");

    site.detach(&a);
    until(&site, "the end of the host port", || {
        TcpStream::connect_timeout(&to, SOON)
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
    let c = site.pod_with("c", with_ports(&port));
    let servers = Servers::of(&c);
    until(&site, "the pod that has it now", || {
        servers.client(&node, Tcp, to).is_some()
    });
    running.stop(&site);
}

#[test]
fn a_node_port_comes_before_a_host_port_for_as_long_as_it_is_there() {
    let site = Site::new();
    let port = [host_port(None, Tcp, 18080)];
    let (a, b) = (site.pod_with("a", with_ports(&port)), site.pod("b"));
    let pods = [Servers::of(&a), Servers::of(&b)];
    for servers in &pods {
        servers.tcp.set_nonblocking(true).unwrap();
    }
    let api = Api::new();
    let service = json!({
        "metadata": {"namespace": "default", "name": "web"},
        "spec": {
            "type": "NodePort", "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"],
            "ports": [{"port": 80, "nodePort": 18080, "protocol": "TCP"}]
        }
    });
    api.set(
        "endpointslices",
        json!({
            "metadata": {
                "namespace": "default", "name": "web-1",
                "labels": {"kubernetes.io/service-name": "web"}
            },
            "addressType": "IPv4", "ports": [{"name": "", "port": PORT, "protocol": "TCP"}],
            "endpoints": [{"addresses": [b.ip]}]
        }),
    );
    let running = Running::start(&site, &api);
    let to: SocketAddr = format!("{NODE}:18080").parse().unwrap();
    let answers = |servers: &Servers| {
        // Of earlier questions.
        while servers.tcp.accept().is_ok() {}
        let connected = TcpStream::connect_timeout(&to, TIMEOUT);
        connected.is_ok() && servers.tcp.accept().is_ok()
    };
    until(&site, "the host port", || answers(&pods[0]));
    api.set("services", service.clone());
    until(&site, "the node port", || answers(&pods[1]));
    api.delete("services", service);
    until(&site, "the host port again", || answers(&pods[0]));
    running.stop(&site);
}
