//! Out of the cluster: a pod, its node, a router beyond the uplink, and a host behind it. Neither of
//! the two knows a way to pods.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd,
};

use nix::sys::{
    socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, recv, sendto,
        setsockopt, socket, sockopt,
    },
    time::{TimeVal, TimeValLike as _},
};
use vetch_ebpf_common::addresses;
use vetch_ebpf_tests::{set_checksum_offload, set_receive_errors, sysctl};
use vetch_proxy::{
    Kind::{self, Clsact, Tcx},
    Masquerade, ProxyConfig, SNAT_PORTS,
};

use crate::{
    direct::{POD_V6, PODS_V6, give_v6},
    servers::{TIMEOUT, there_and_back},
    site::{Daemon, NODE, Namespace, OUTSIDE, POD_CIDR, Pod, Site, UPLINK, shell},
};

const NODE_V6: &str = "fd30::1";
const ROUTER_V6: &str = "fd30::2";
/// The host, and another address of it that pods reach with their own.
const FAR: [&str; 2] = ["203.0.113.7", "2001:db8:7::7"];
const EXCLUDED: [&str; 2] = ["203.0.113.8", "2001:db8:7::8"];
/// Of the router's.
const FAR_ROUTER: [&str; 2] = ["203.0.113.1", "2001:db8:7::1"];
/// To the host, and less than any of the links has: the router says so.
const PATH_MTU: u32 = 1300;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

struct Way {
    daemon: Daemon,
    far: Namespace,
    pod: Pod,
    site: Site,
}

fn addresses(device: &str, all: &[&str]) {
    for address in all {
        let (length, now) = match ip(address) {
            IpAddr::V4(_) => (24, ""),
            IpAddr::V6(_) => (64, " nodad"),
        };
        shell(&format!(
            "ip address add {address}/{length} dev {device}{now}"
        ));
    }
    shell(&format!("ip link set {device} up"));
}

fn way(name: &str, kind: Kind, masquerade: Masquerade) -> Way {
    let site = Site::new();
    let far = Namespace::new();
    addresses(UPLINK, &[NODE_V6]);
    site.outside.run(|| {
        shell("ip route del default");
        for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            sysctl(setting, "1");
        }
        shell("ip link add far type veth peer name eth0");
        far.adopt("eth0");
        addresses("up1", &[ROUTER_V6]);
        addresses("far", &FAR_ROUTER);
        for host in FAR.into_iter().chain(EXCLUDED) {
            shell(&format!("ip route add {host} dev far mtu {PATH_MTU}"));
        }
    });
    far.run(|| {
        addresses("eth0", &[FAR, EXCLUDED].concat());
        shell("ip link set lo up");
        for (router, own) in FAR_ROUTER.into_iter().zip(FAR) {
            shell(&format!("ip route add default via {router} src {own}"));
        }
    });
    for router in [OUTSIDE, ROUTER_V6] {
        shell(&format!("ip route add default via {router}"));
    }
    // The network does so for IPv4.
    sysctl("ipv6/conf/all/forwarding", "1");
    let pod = site.pod("pod");
    let daemon = daemon(&site, name, kind, masquerade);
    give_v6(&daemon, &pod);
    Way {
        daemon,
        far,
        pod,
        site,
    }
}

fn daemon(site: &Site, name: &str, kind: Kind, masquerade: Masquerade) -> Daemon {
    let config = ProxyConfig {
        node_ips: vec![ip(NODE), ip(NODE_V6)],
        masquerade,
        ..site.config(name)
    };
    let mut daemon = site.daemon_of(config, kind);
    let own = [NODE, NODE_V6].map(|own| (ip(own), addresses::NODE));
    daemon.proxy.set_node_addresses(own.into()).unwrap();
    let ranges: BTreeSet<_> = [POD_CIDR, PODS_V6]
        .map(|range| range.parse().unwrap())
        .into_iter()
        .chain(EXCLUDED.map(|own| ip(own).into()))
        .collect();
    let proxy = &mut daemon.proxy;
    proxy.set_masquerade(&ranges, &BTreeMap::new()).unwrap();
    daemon.follow.act();
    daemon
}

/// Who the other end of a connection is, after much went both ways. What goes to the host has to
/// find out how long it may be.
fn connection(from: &Namespace, to: &Namespace, at: IpAddr) -> SocketAddr {
    let listener = to.run(|| TcpListener::bind((at, 0)).unwrap());
    let limit = TimeVal::seconds(TIMEOUT.as_secs().cast_signed());
    setsockopt(&listener, sockopt::ReceiveTimeout, &limit).unwrap();
    let place = listener.local_addr().unwrap();
    let mut stream = from.run(|| TcpStream::connect_timeout(&place, TIMEOUT).unwrap());
    let (mut accepted, peer) = listener.accept().unwrap();
    for end in [&stream, &accepted] {
        end.set_read_timeout(Some(TIMEOUT)).unwrap();
        end.set_write_timeout(Some(TIMEOUT)).unwrap();
    }
    there_and_back(&mut stream, &mut accepted);
    peer
}

/// Likewise of datagrams, of one that is sent in pieces too.
fn datagrams(from: &Namespace, to: &Namespace, at: IpAddr) -> SocketAddr {
    let server = to.run(|| UdpSocket::bind((at, 0)).unwrap());
    let place = server.local_addr().unwrap();
    let client = from.run(|| connected(place));
    let mut peers = BTreeSet::new();
    for length in [1, 1200, 3000] {
        peers.insert(datagram(&client, &server, length));
    }
    assert_eq!(peers.len(), 1, "{peers:?}");
    peers.pop_first().unwrap()
}

fn connected(place: SocketAddr) -> UdpSocket {
    let any: IpAddr = match place {
        SocketAddr::V4(_) => [0; 4].into(),
        SocketAddr::V6(_) => [0_u16; 8].into(),
    };
    let socket = UdpSocket::bind((any, 0)).unwrap();
    socket.connect(place).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    socket
}

/// One that is too long for the path is lost, and the sender told.
fn datagram(client: &UdpSocket, server: &UdpSocket, length: usize) -> SocketAddr {
    let sent: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
    let mut bytes = [0; 4096];
    server
        .set_read_timeout(Some(std::time::Duration::from_millis(100)))
        .unwrap();
    for _ in 0..50 {
        client.send(&sent).unwrap();
        match server.recv_from(&mut bytes) {
            Ok((received, peer)) => {
                assert!(bytes[..received] == sent);
                server.send_to(b"!", peer).unwrap();
                assert_eq!(client.recv(&mut [0; 8]).unwrap(), 1);
                return peer;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    panic!("{length} bytes did not arrive");
}

/// Whether an echo of this number comes back.
fn ping(to: IpAddr, number: [u8; 2]) -> bool {
    let (family, protocol, request, reply) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, 8, 0),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128, 129),
    };
    let raw = socket(family, SockType::Raw, SockFlag::empty(), protocol).unwrap();
    let limit = TimeVal::seconds(TIMEOUT.as_secs().cast_signed());
    setsockopt(&raw, sockopt::ReceiveTimeout, &limit).unwrap();
    let [a, b] = number;
    // Of IPv6 the kernel makes it.
    let sum = u32::from(request) * 256 + u32::from(u16::from_be_bytes(number));
    let [high, low] = (!(sum % 65536 + sum / 65536) as u16).to_be_bytes();
    let packet = [request, 0, high, low, a, b, 0, 0];
    let place = SockaddrStorage::from(SocketAddr::new(to, 0));
    sendto(raw.as_raw_fd(), &packet, &place, MsgFlags::empty()).unwrap();
    let mut bytes = [0; 256];
    // Of IPv4 the header comes along.
    let skip = if to.is_ipv4() { 20 } else { 0 };
    while let Ok(count) = recv(raw.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
        if count >= skip + 6 && bytes[skip] == reply && bytes[skip + 4..skip + 6] == number {
            return true;
        }
    }
    false
}

#[track_caller]
fn is_node(peer: SocketAddr, family: usize) {
    assert_eq!(peer.ip(), ip([NODE, NODE_V6][family]));
    assert!(SNAT_PORTS.contains(&peer.port()), "{peer}");
}

fn pods_are_seen_as_their_node(kind: Kind) {
    let way = way("a", kind, Masquerade::On);
    let (pod, far) = (&way.pod.namespace, &way.far);
    for like_a_wire in [false, true] {
        // Then nothing is left for the other end of a link to do.
        pod.run(|| set_checksum_offload("eth0", !like_a_wire));
        for (family, at) in FAR.into_iter().enumerate() {
            is_node(connection(pod, far, ip(at)), family);
            is_node(datagrams(pod, far, ip(at)), family);
            assert!(pod.run(|| ping(ip(at), [0x12, 0x34])), "{at}");
            // The number stays, if it is one of the range.
            assert!(pod.run(|| ping(ip(at), [0xff, 0x34])), "{at}");
        }
    }
}

#[test]
fn pods_are_seen_as_their_node_by_tcx() {
    pods_are_seen_as_their_node(Tcx);
}

#[test]
fn pods_are_seen_as_their_node_by_clsact() {
    pods_are_seen_as_their_node(Clsact);
}

#[test]
fn what_routers_and_hosts_say_comes_to_the_pod() {
    let way = way("a", Tcx, Masquerade::On);
    let pod = &way.pod.namespace;
    for (family, at) in FAR.into_iter().enumerate() {
        let is_v6 = family == 1;
        // Nobody listens there.
        let refused = pod.run(|| {
            let socket = connected(SocketAddr::new(ip(at), 9));
            socket.send(b"?").unwrap();
            socket.recv(&mut [0; 8]).unwrap_err()
        });
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{at}");
        // The router is the second hop.
        let too_old = pod.run(|| {
            let socket = connected(SocketAddr::new(ip(at), 33434));
            set_receive_errors(&socket, is_v6);
            if is_v6 {
                setsockopt(&socket, sockopt::Ipv6Ttl, &2).unwrap();
            } else {
                socket.set_ttl(2).unwrap();
            }
            socket.send(b"?").unwrap();
            socket.recv(&mut [0; 8]).unwrap_err()
        });
        assert_eq!(too_old.raw_os_error(), Some(libc::EHOSTUNREACH), "{at}");
    }
}

/// The host gets a way back to the pod for what is between the two alone.
#[test]
fn excluded_hosts_see_the_pod() {
    let way = way("a", Tcx, Masquerade::On);
    let (pod, far) = (&way.pod.namespace, &way.far);
    let pods = [way.pod.ip, ip(POD_V6)];
    way.site.outside.run(|| {
        shell(&format!("ip route add {POD_CIDR} via {NODE}"));
        shell(&format!("ip route add {PODS_V6} via {NODE_V6}"));
    });
    for family in [0, 1] {
        let excluded = ip(EXCLUDED[family]);
        assert_eq!(connection(pod, far, excluded).ip(), pods[family]);
        assert_eq!(datagrams(pod, far, excluded).ip(), pods[family]);
        assert!(pod.run(|| ping(excluded, [0xff, 0x35])));
        // Who dials a pod is answered by it, though it is not excluded.
        let seen = ip(FAR[family]);
        assert_eq!(asked(far, pod, pods[family]).ip(), seen);
        is_node(connection(pod, far, seen), family);
    }
}

/// A word each way, by TCP and UDP, over sockets that listen to whom they have dialled alone.
fn asked(from: &Namespace, to: &Namespace, at: IpAddr) -> SocketAddr {
    let listener = to.run(|| TcpListener::bind((at, 0)).unwrap());
    let place = listener.local_addr().unwrap();
    let mut stream = from.run(|| TcpStream::connect_timeout(&place, TIMEOUT).unwrap());
    let (mut accepted, peer) = listener.accept().unwrap();
    accepted.write_all(b"!").unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.read_exact(&mut [0]).unwrap();
    let server = to.run(|| UdpSocket::bind((at, 0)).unwrap());
    let place = server.local_addr().unwrap();
    let client = from.run(|| connected(place));
    assert_eq!(datagram(&client, &server, 1).ip(), peer.ip());
    peer
}

#[test]
fn off_is_off() {
    let way = way("a", Tcx, Masquerade::Off);
    let (pod, far) = (&way.pod.namespace, &way.far);
    let server = far.run(|| UdpSocket::bind((ip(FAR[0]), 0)).unwrap());
    server.set_read_timeout(Some(TIMEOUT)).unwrap();
    let place = server.local_addr().unwrap();
    let client = pod.run(|| connected(place));
    client.send(b"?").unwrap();
    let (_, peer) = server.recv_from(&mut [0; 8]).unwrap();
    assert_eq!(peer.ip(), way.pod.ip);
}

/// What was begun goes on under the next daemon, on its port.
#[test]
fn daemons_come_and_go() {
    let way = way("a", Tcx, Masquerade::On);
    let Way {
        daemon: first,
        far,
        pod,
        site,
    } = way;
    let server = far.run(|| UdpSocket::bind((ip(FAR[0]), 0)).unwrap());
    let place = server.local_addr().unwrap();
    let client = pod.namespace.run(|| connected(place));
    let peer = datagram(&client, &server, 1);
    drop(first);
    assert_eq!(datagram(&client, &server, 1), peer, "without a daemon");
    let _second = daemon(&site, "a", Tcx, Masquerade::On);
    assert_eq!(datagram(&client, &server, 1), peer, "under the next");
}
