//! Direct server return: a client on a link of its own behind a switch, the
//! node that it dials, and the node of the pod that answers. This thread's node
//! is the pod's.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::Arc,
    thread,
    time::Duration,
};

use nix::sys::{
    socket::{setsockopt, sockopt},
    time::{TimeVal, TimeValLike as _},
};
use vetch_ebpf_common::{Address, PeerPods, addresses, maps};
use vetch_ebpf_tests::{set_checksum_offload, sysctl};
use vetch_proxy::{
    Exposure, Hooks, HooksConfig,
    Kind::Tcx,
    LoadBalancerMode::{self, Dsr, Snat},
    Protocol::{Tcp, Udp},
    Proxy, ProxyConfig, Target, Xdp,
};

use crate::{
    cell::{Cell, Services, backend, service},
    servers::{TIMEOUT, there_and_back},
    site::{
        Daemon, NODE, Namespace, OUTSIDE, POD_CIDR, Pod, Site, UPLINK, forwarded, maps_dir, shell,
    },
};

const CLIENT: [&str; 2] = ["172.30.0.3", "fd30::3"];
const DIALLED: [&str; 2] = ["172.30.0.4", "fd30::4"];
const PODS_NODE: [&str; 2] = [NODE, "fd30::1"];
pub const POD_V6: &str = "fd10::2";
pub const PODS_V6: &str = "fd10::/64";
const PORT: u16 = 30080;

fn parse<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

/// Both addresses, the second one at once.
fn address(device: &str, [v4, v6]: [&str; 2]) {
    shell(&format!("ip address add {v4}/24 dev {device}"));
    shell(&format!("ip address add {v6}/64 dev {device} nodad"));
    shell(&format!("ip link set {device} up"));
}

struct Town {
    client: Namespace,
    pod: Pod,
    site: Site,
}

/// What was outside is a switch now.
fn town() -> Town {
    let site = Site::new();
    let client = Namespace::new();
    site.outside.run(|| {
        shell("ip link add switch type bridge");
        shell(&format!("ip address del {OUTSIDE}/24 dev up1"));
        shell("ip link set up1 master switch");
        shell("ip link set switch up");
        shell("ip link add port type veth peer name eth0");
        client.adopt("eth0");
        shell("ip link set port master switch up");
    });
    client.run(|| address("eth0", CLIENT));
    shell(&format!(
        "ip address add {}/64 dev {UPLINK} nodad",
        PODS_NODE[1]
    ));
    let pod = site.pod("pod");
    Town { client, pod, site }
}

/// Pods have no IPv6 of the network's; this one has the programs', and a router
/// that it need not look for.
pub fn give_v6(daemon: &Daemon, pod: &Pod) {
    let path = maps_dir(&daemon.pin_dir).join(maps::PODS);
    let data = aya::maps::MapData::from_pin(path).unwrap();
    let mut pods: aya::maps::HashMap<_, Address, vetch_ebpf_common::Pod> =
        aya::maps::Map::HashMap(data).try_into().unwrap();
    let known = pods.get(&pod.ip.into(), 0).unwrap();
    let v6: IpAddr = parse(POD_V6);
    pods.insert(Address::from(v6), known, 0).unwrap();
    let router = known
        .gateway_mac
        .map(|byte| format!("{byte:02x}"))
        .join(":");
    pod.namespace.run(|| {
        shell(&format!("ip address add {POD_V6}/128 dev eth0 nodad"));
        shell(&format!(
            "ip neighbour add fe80::1 lladdr {router} dev eth0"
        ));
        shell("ip route add default via fe80::1 dev eth0");
    });
}

/// A node's programs: its addresses, its peer's, and where the peer's pods are.
fn set(daemon: &mut Daemon, own: [&str; 2], peer: [&str; 2], pods: &[&str], services: &Services) {
    let of = |addresses: [&str; 2], flag| addresses.map(|address| (parse::<IpAddr>(address), flag));
    let all = of(own, addresses::NODE)
        .into_iter()
        .chain(of(peer, addresses::PEER));
    daemon.proxy.set_node_addresses(all.collect()).unwrap();
    let pods = pods.iter().map(|range| (parse(range), PeerPods::default()));
    let pods: BTreeMap<_, _> = pods.collect();
    daemon.proxy.set_peer_pods(&pods).unwrap();
    let uplinks = daemon.follow.uplinks();
    daemon.proxy.set_uplinks(&uplinks).unwrap();
    assert_eq!(daemon.proxy.sync_all(services), []);
}

/// The node that is dialled; the calling thread's from here on.
struct Front {
    cell: Cell,
    tokio: tokio::runtime::Runtime,
    services: Services,
}

impl Front {
    fn enter(switch: &Namespace, services: Services) -> Self {
        let cell = Cell::enter();
        shell(&format!("ip link add {UPLINK} type veth peer name port2"));
        switch.adopt("port2");
        switch.run(|| shell("ip link set port2 master switch up"));
        address(UPLINK, DIALLED);
        for (range, node) in [POD_CIDR, PODS_V6].into_iter().zip(PODS_NODE) {
            shell(&format!("ip route add {range} via {node}"));
        }
        let tokio = tokio::runtime::Builder::new_current_thread();
        let tokio = { tokio }.enable_all().build().unwrap();
        Self {
            cell,
            tokio,
            services,
        }
    }

    fn daemon(&self, load_balancer_mode: LoadBalancerMode) -> Daemon {
        let config = ProxyConfig {
            node_ips: DIALLED.map(parse).into(),
            load_balancer_mode,
            ..self.cell.config("front")
        };
        let mut proxy = Proxy::open(&config).unwrap();
        let hooks = HooksConfig {
            pin_dir: config.pin_dir.clone(),
            node_ips: config.node_ips,
            uplinks: Vec::new(),
            kind: Tcx,
            xdp: Xdp::Off,
        };
        let hooks = Hooks::open(hooks, proxy.programs().ebpf()).unwrap();
        let _context = self.tokio.enter();
        let (_none, pods) = tokio::sync::watch::channel(Some(Arc::default()));
        let mut follow = vetch_proxy::Follow::new(hooks, pods).unwrap();
        follow.look();
        let mut daemon = Daemon {
            follow,
            proxy,
            pin_dir: config.pin_dir,
        };
        set(
            &mut daemon,
            DIALLED,
            PODS_NODE,
            &[POD_CIDR, PODS_V6],
            &self.services,
        );
        daemon.follow.act();
        daemon
    }
}

/// Pods' sockets of one family.
struct Served {
    tcp: TcpListener,
    udp: UdpSocket,
    client: IpAddr,
    dialled: SocketAddr,
    front: IpAddr,
}

impl Served {
    fn new(family: usize, pod: &Pod, at: IpAddr) -> Self {
        let limit = TimeVal::seconds(TIMEOUT.as_secs().cast_signed());
        let (tcp, udp) = pod.namespace.run(|| {
            (
                TcpListener::bind((at, 0)).unwrap(),
                UdpSocket::bind((at, 0)).unwrap(),
            )
        });
        setsockopt(&tcp, sockopt::ReceiveTimeout, &limit).unwrap();
        let front = parse(DIALLED[family]);
        Self {
            tcp,
            udp,
            client: parse(CLIENT[family]),
            dialled: SocketAddr::new(front, PORT),
            front,
        }
    }

    fn services(&self) -> Services {
        let any = if self.client.is_ipv4() {
            format!("0.0.0.0:{PORT}")
        } else {
            format!("[::]:{PORT}")
        };
        let of = |protocol, at| {
            let target = Target {
                cluster: vec![backend(at)],
                serving: vec![backend(at)],
                ..Target::default()
            };
            service(&[(&any, Exposure::EXTERNAL)], protocol, target)
        };
        let tcp = of(Tcp, self.tcp.local_addr().unwrap());
        let udp = of(Udp, self.udp.local_addr().unwrap());
        [tcp, udp].into()
    }

    /// A connection, and whom the pod takes its client for.
    fn connect(&self, client: &Namespace) -> (TcpStream, TcpStream, IpAddr) {
        let dialled = self.dialled;
        let stream = client.run(|| TcpStream::connect_timeout(&dialled, TIMEOUT).unwrap());
        let (accepted, from) = self.tcp.accept().unwrap();
        for end in [&stream, &accepted] {
            end.set_read_timeout(Some(TIMEOUT)).unwrap();
            end.set_write_timeout(Some(TIMEOUT)).unwrap();
        }
        (stream, accepted, from.ip())
    }

    /// Much there and back, and one datagram after another.
    fn ask(&self, client: &Namespace) {
        let (mut stream, mut accepted, from) = self.connect(client);
        assert_eq!(from, self.client);
        there_and_back(&mut stream, &mut accepted);
        let dialled = self.dialled;
        let socket = client.run(|| {
            let any = SocketAddr::new(Address::from(dialled.ip()).any().into(), 0);
            let socket = UdpSocket::bind(any).unwrap();
            socket.connect(dialled).unwrap();
            socket
        });
        for length in [1, 700, 1400] {
            self.datagram(&socket, length, 1);
        }
        // The first of them is too long and comes back as an error, from which
        // the client learns to send it in pieces.
        self.datagram(&socket, 3000, 100);
        let full = if dialled.is_ipv4() { 1472 } else { 1452 };
        self.datagram(&socket, full, 100);
    }

    /// There and back, in so many attempts.
    fn datagram(&self, socket: &UdpSocket, length: usize, attempts: u32) {
        let sent: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let mut bytes = [0; 4096];
        let patience = if attempts == 1 {
            TIMEOUT
        } else {
            Duration::from_millis(50)
        };
        self.udp.set_read_timeout(Some(patience)).unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        for _ in 0..attempts {
            match socket.send(&sent) {
                Ok(_) => {}
                // What is known of the path is less than what was to be sent.
                Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => continue,
                Err(error) => panic!("{error}"),
            }
            match self.udp.recv_from(&mut bytes) {
                Ok((received, from)) => {
                    assert!(bytes[..received] == sent && from.ip() == self.client);
                    self.udp.send_to(&sent[..1], from).unwrap();
                    let mut answer = [9; 8];
                    assert_eq!(socket.recv(&mut answer).unwrap(), 1);
                    return;
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        panic!("{length} bytes did not arrive in {attempts} attempts");
    }
}

/// The test's own part, in the namespace of the node that is dialled.
fn with_two_nodes(job: impl FnOnce(&Town, &Front, &[Served; 2]) + Send) {
    let town = town();
    let config = ProxyConfig {
        node_ips: PODS_NODE.map(parse).into(),
        ..town.site.config("a")
    };
    let mut daemon = town.site.daemon_of(config, Tcx);
    daemon.follow.act();
    set(&mut daemon, PODS_NODE, DIALLED, &[], &Services::new());
    give_v6(&daemon, &town.pod);
    let served = [
        Served::new(0, &town.pod, town.pod.ip),
        Served::new(1, &town.pod, parse(POD_V6)),
    ];
    let mut services = Services::new();
    for family in &served {
        services.extend(family.services());
    }
    // The network does so for IPv4.
    sysctl("ipv6/conf/all/forwarding", "1");
    let stays = forwarded();
    let (outside, town) = (&town.site.outside, &town);
    thread::scope(|scope| {
        let front = scope.spawn(|| {
            let front = Front::enter(outside, services);
            job(town, &front, &served);
        });
        if let Err(panic) = front.join() {
            std::panic::resume_unwind(panic);
        }
    });
    println!(
        "{} packets by the stack of the pod's node",
        forwarded() - stays
    );
}

#[test]
fn a_pod_of_another_node_answers_its_client_itself() {
    with_two_nodes(|town, front, served| {
        let _daemon = front.daemon(Dsr);
        let before = forwarded();
        for like_a_wire in [false, true] {
            // Then nothing is left for the other end of a link to do.
            town.client
                .run(|| set_checksum_offload("eth0", !like_a_wire));
            for family in served {
                family.ask(&town.client);
            }
        }
        assert_eq!(forwarded(), before, "by the stack of the dialled node");
    });
}

/// What was begun goes on as it was begun, whatever the next daemon is told.
#[test]
fn a_daemon_of_another_mode_cuts_nobody() {
    with_two_nodes(|town, front, served| {
        let mut open = Vec::new();
        for mode in [Dsr, Snat, Dsr] {
            let _daemon = front.daemon(mode);
            for family in served {
                let (stream, accepted, from) = family.connect(&town.client);
                let seen = if mode == Dsr {
                    family.client
                } else {
                    family.front
                };
                assert_eq!(from, seen, "{mode:?}");
                open.push((stream, accepted));
            }
            for (stream, accepted) in &mut open {
                for end in [stream, accepted] {
                    end.write_all(b"?").unwrap();
                }
            }
            for (stream, accepted) in &mut open {
                for end in [stream, accepted] {
                    end.read_exact(&mut [0]).unwrap();
                }
            }
        }
        for (mut stream, mut accepted) in open {
            there_and_back(&mut stream, &mut accepted);
        }
    });
}
