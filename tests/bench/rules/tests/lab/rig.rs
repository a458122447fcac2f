//! client 172.20.0.2 — 172.20.0.1 node 10.244.0.1 — 10.244.0.10 … .12 backends

use std::{
    fs::File,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd,
    path::PathBuf,
    process::Command,
    time::Duration,
};

use nix::sched::{CloneFlags, setns, unshare};
use vetch_bench_rules::{Namespace, Node, Protocol, Service};

pub const NODE: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 1);
/// The node as backends see it: who is masqueraded comes from here.
pub const NODE_INSIDE: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
pub const BACKENDS: [Ipv4Addr; 3] = [
    Ipv4Addr::new(10, 244, 0, 10),
    Ipv4Addr::new(10, 244, 0, 11),
    Ipv4Addr::new(10, 244, 0, 12),
];
const PORT: u16 = 8080;
const PATIENCE: Duration = Duration::from_secs(5);

/// A network namespace that lives as long as its file is open.
pub struct Net(File);

impl Net {
    fn new() -> Self {
        let file = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .expect("unshare(CLONE_NEWNET): these tests need root");
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        let net = Self(file.join().unwrap());
        net.ip("link set lo up");
        net
    }

    /// A path by which any process opens the namespace.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }

    /// Runs `job` on a thread inside.
    pub fn run<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
                job()
            });
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// What a program says that must go well.
    pub fn sh(&self, script: &str) -> String {
        let output = Command::new("nsenter")
            .arg(format!("--net={}", self.path().display()))
            .args(["--", "sh", "-ec", script])
            .output()
            .unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn ip(&self, arguments: &str) {
        self.sh(&format!("ip {arguments}"));
    }

    fn sysctl(&self, name: &str, value: &str) {
        self.run(|| std::fs::write(format!("/proc/sys/net/ipv4/{name}"), value).unwrap());
    }

    /// Connections that conntrack of this namespace knows.
    pub fn connections(&self) -> u32 {
        let file = "/proc/sys/net/netfilter/nf_conntrack_count";
        let count = self.run(|| std::fs::read_to_string(file).unwrap());
        count.trim().parse().unwrap()
    }

    /// What a TCP server says: its name and the peer it saw.
    pub fn ask(&self, to: SocketAddrV4) -> std::io::Result<Answer> {
        self.run(|| {
            let mut stream = TcpStream::connect_timeout(&to.into(), PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(Answer::parse(&answer))
        })
    }

    /// The same over UDP.
    pub fn ask_udp(&self, to: SocketAddrV4) -> std::io::Result<Answer> {
        self.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.connect(to)?;
            socket.send(b"who?")?;
            let mut answer = [0; 100];
            let length = socket.recv(&mut answer)?;
            Ok(Answer::parse(
                std::str::from_utf8(&answer[..length]).unwrap(),
            ))
        })
    }
}

#[derive(Debug, PartialEq)]
pub struct Answer {
    pub backend: Ipv4Addr,
    pub peer: Ipv4Addr,
}

impl Answer {
    fn parse(text: &str) -> Self {
        let (backend, peer) = text.split_once(' ').unwrap();
        Self {
            backend: backend.parse().unwrap(),
            peer: peer.parse().unwrap(),
        }
    }
}

pub struct Lab {
    pub client: Net,
    pub node: Net,
    pub backends: Net,
}

impl Lab {
    pub fn new() -> Self {
        let [client, node, backends] = [(); 3].map(|()| Net::new());
        for (host, to, address, gateway, prefix) in [
            (&client, "client", "172.20.0.2", NODE, 24),
            (&backends, "pods", "10.244.0.10", NODE_INSIDE, 24),
        ] {
            let inside = host.path();
            node.ip(&format!(
                "link add {to} type veth peer name eth0 netns {}",
                inside.display()
            ));
            node.ip(&format!("addr add {gateway}/{prefix} dev {to}"));
            node.ip(&format!("link set {to} up"));
            host.ip(&format!("addr add {address}/{prefix} dev eth0"));
            host.ip("link set eth0 up");
            host.ip(&format!("route add default via {gateway}"));
        }
        for address in &BACKENDS[1..] {
            backends.ip(&format!("addr add {address}/24 dev eth0"));
        }
        // Without a route a packet to a ClusterIP ends before the chains that refuse it.
        node.ip("link add uplink type veth peer name nowhere");
        node.ip("addr add 198.51.100.1/24 dev uplink");
        node.ip("link set uplink up");
        node.ip("link set nowhere up");
        node.ip("route add default via 198.51.100.2");
        node.sysctl("ip_forward", "1");
        // The way back out of the interface a packet came by is part of the plan.
        node.sysctl("conf/all/send_redirects", "0");
        node.sysctl("conf/pods/send_redirects", "0");
        for address in BACKENDS {
            serve(&backends, address);
        }
        Self {
            client,
            node,
            backends,
        }
    }

    /// The node, to lay rules in.
    pub fn rules(&self) -> Namespace {
        Namespace(self.node.path())
    }
}

fn serve(net: &Net, address: Ipv4Addr) {
    let (listener, socket) = net.run(|| {
        let tcp = TcpListener::bind((address, PORT)).unwrap();
        (tcp, UdpSocket::bind((address, PORT)).unwrap())
    });
    std::thread::spawn(move || {
        while let Ok((mut stream, peer)) = listener.accept() {
            // The client may have gone.
            let _ = write!(stream, "{address} {}", peer.ip());
        }
    });
    std::thread::spawn(move || {
        let mut question = [0; 100];
        while let Ok((_, peer)) = socket.recv_from(&mut question) {
            let _ = socket.send_to(format!("{address} {}", peer.ip()).as_bytes(), peer);
        }
    });
}

pub fn node() -> Node {
    Node {
        pod_cidr: "10.244.0.0/16".parse().unwrap(),
        addresses: vec![NODE],
    }
}

/// The Service at 10.96.0.`number`:80 with the first `endpoints` backends.
pub fn service(number: u8, endpoints: usize) -> Service {
    Service {
        namespace: "default".to_owned(),
        name: format!("svc{number}"),
        port_name: "http".to_owned(),
        protocol: Protocol::Tcp,
        cluster_ip: Ipv4Addr::new(10, 96, 0, number),
        port: 80,
        node_port: None,
        endpoints: BACKENDS[..endpoints]
            .iter()
            .map(|address| SocketAddrV4::new(*address, PORT))
            .collect(),
    }
}

pub fn cluster_ip(service: &Service) -> SocketAddrV4 {
    SocketAddrV4::new(service.cluster_ip, service.port)
}
