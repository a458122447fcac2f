//! Pods of both families, and of IPv6 alone: by plain routing, as without the programs at links.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use vetch_network::{Network, NetworkConfig, Peer, PodOptions, Vxlan};

use crate::namespace::{Bridge, Namespace};

const TIMEOUT: Duration = Duration::from_secs(5);

struct Node {
    namespace: Namespace,
    network: Network,
    ips: [IpAddr; 2],
    cidrs: [&'static str; 2],
    _state: tempfile::TempDir,
}

/// 172.30.0.NUMBER and fd00::NUMBER on the bridge.
fn ips(number: u8) -> [IpAddr; 2] {
    let v6 = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, number.into());
    [Ipv4Addr::new(172, 30, 0, number).into(), v6.into()]
}

/// Pods get addresses of the families that `cidrs` has.
async fn node(bridge: &Bridge, number: u8, cidrs: [&'static str; 2]) -> Node {
    let ips = ips(number);
    let namespace = bridge.node(Ipv4Addr::new(172, 30, 0, number)).await;
    namespace.add_ipv6("eth0", ips[1], 64).await;
    let state = tempfile::tempdir().unwrap();
    namespace.enter();
    let network = Network::open(NetworkConfig {
        node_name: "test".into(),
        node_ips: ips.to_vec(),
        state_dir: state.path().into(),
        mtu: None,
        vxlan: Vxlan::default(),
    })
    .await
    .unwrap();
    let node = Node {
        namespace,
        network,
        ips,
        cidrs,
        _state: state,
    };
    let pod_cidrs = node.peer().pod_cidrs;
    node.network.set_pod_cidrs(&pod_cidrs).await.unwrap();
    node
}

impl Node {
    async fn pod(&self, id: &str) -> (Namespace, Vec<IpAddr>) {
        let pod = Namespace::new();
        let options = PodOptions::default();
        let attached = self.network.attach(id, &pod.path(), options).await;
        (pod, attached.unwrap().ips)
    }

    fn peer(&self) -> Peer {
        let cidrs = self.cidrs.iter().filter(|cidr| !cidr.is_empty());
        Peer {
            name: format!("node-{}", self.ips[0]),
            pod_cidrs: cidrs.map(|cidr| cidr.parse().unwrap()).collect(),
            node_ips: self.ips.to_vec(),
        }
    }

    /// Of a link, or of all.
    fn ipv6_conf(&self, link: &str, name: &str) -> Option<String> {
        let path = format!("/proc/sys/net/ipv6/conf/{link}/{name}");
        let read = self.namespace.run(|| fs::read_to_string(path));
        read.ok().map(|text| text.trim().to_owned())
    }
}

/// A TCP round trip; returns the address the server saw the client at.
fn tcp(client: &Namespace, server: &Namespace, ip: IpAddr) -> IpAddr {
    // At its own address: it may be bound as soon as the pod has it.
    let listener = server.run(|| TcpListener::bind((ip, 0)).unwrap());
    let target = listener.local_addr().unwrap();
    let mut stream = client
        .run(|| TcpStream::connect_timeout(&target, TIMEOUT))
        .unwrap_or_else(|error| panic!("{target}: {error}"));
    let (mut accepted, from) = listener.accept().unwrap();
    stream.write_all(b"ping").unwrap();
    let mut bytes = [0; 4];
    accepted.read_exact(&mut bytes).unwrap();
    from.ip()
}

/// A datagram of `len` bytes there and back.
fn udp(client: &Namespace, server: &Namespace, ip: IpAddr, len: usize) -> IpAddr {
    let any: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let server = server.run(|| UdpSocket::bind((ip, 0)).unwrap());
    let client = client.run(|| UdpSocket::bind((any, 0)).unwrap());
    for socket in [&client, &server] {
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    }
    let mut bytes = vec![0; len + 1];
    client
        .send_to(&vec![1; len], server.local_addr().unwrap())
        .unwrap();
    let (read, from) = server.recv_from(&mut bytes).unwrap();
    assert_eq!(read, len);
    server.send_to(&bytes[..read], from).unwrap();
    assert_eq!(
        client.recv_from(&mut bytes).unwrap(),
        (len, server.local_addr().unwrap())
    );
    from.ip()
}

/// Until the node would talk to `ip` from this address; without one, until it has no way there.
async fn wait_source(node: &Namespace, ip: IpAddr, wanted: Option<IpAddr>) {
    let source = || {
        let socket = UdpSocket::bind("[::]:0")?;
        socket.connect((ip, 9))?;
        socket.local_addr()
    };
    let waiting = async {
        loop {
            let found = node.run(source).ok().map(|address| address.ip());
            if found == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, waiting)
        .await
        .unwrap_or_else(|_| panic!("{ip} is reached from {:?}", node.run(source)));
}

const ONE: [&str; 2] = ["10.244.1.0/24", "fd00:1::/64"];
const TWO: [&str; 2] = ["10.244.2.0/24", "fd00:2::/64"];

/// The IPv6 addresses of a namespace's links. A child's /proc/net is the one of the thread that it came from.
fn in_addresses(namespace: &Namespace) -> String {
    namespace.run(|| {
        let cat = Command::new("cat").arg("/proc/net/if_inet6").output();
        String::from_utf8(cat.unwrap().stdout).unwrap()
    })
}

#[tokio::test]
async fn pods_have_both_families_at_once() {
    let bridge = Bridge::new().await;
    let one = node(&bridge, 11, ONE).await;
    let (a, a_ips) = one.pod("a").await;
    let (b, b_ips) = one.pod("b").await;
    let texts: Vec<String> = a_ips.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["10.244.1.2", "fd00:1::2"]);
    for at in 0..2 {
        assert_eq!(tcp(&a, &b, b_ips[at]), a_ips[at]);
        assert_eq!(udp(&b, &a, a_ips[at], 4), b_ips[at]);
        // More than fits a link: cut, and put together again.
        assert_eq!(udp(&a, &b, b_ips[at], 4000), a_ips[at]);
        assert_eq!(tcp(&a, &one.namespace, one.ips[at]), a_ips[at]);
        assert_eq!(tcp(&one.namespace, &b, b_ips[at]), one.ips[at]);
        assert_eq!(tcp(&a, &a, a_ips[at]), a_ips[at], "a pod reaches itself");
    }
    // Nobody was waited for, and no router is listened to on either side.
    let addresses = in_addresses(&a);
    let tentative = |line: &str| {
        const TENTATIVE: u8 = 0x40;
        let flags = line.split_whitespace().nth(4).unwrap();
        u8::from_str_radix(flags, 16).unwrap() & TENTATIVE != 0
    };
    let own: Vec<&str> = addresses
        .lines()
        .filter(|line| line.starts_with("fd00"))
        .collect();
    assert_eq!(own.len(), 1, "{addresses}");
    assert!(!addresses.lines().any(tentative), "{addresses}");
    let accepts = a.run(|| fs::read_to_string("/proc/sys/net/ipv6/conf/eth0/accept_ra"));
    assert_eq!(accepts.unwrap().trim(), "0");
    let (link, _) = one.namespace.host_link_of(&a).await;
    assert_eq!(one.ipv6_conf(&link, "accept_ra").as_deref(), Some("0"));

    // Again, as after a restart in between: the same, and nothing twice.
    let links = one.namespace.links().await;
    let options = PodOptions::default();
    let again = one.network.attach("a", &a.path(), options).await.unwrap();
    assert_eq!(again.ips, a_ips);
    assert_eq!(one.namespace.links().await, links);
    let after = in_addresses(&a);
    assert_eq!(after.lines().count(), addresses.lines().count(), "{after}");
}

#[tokio::test]
async fn forwarding_leaves_the_routers_that_others_listen_to() {
    let bridge = Bridge::new().await;
    let one = node(&bridge, 11, ONE).await;
    let _pod = one.pod("a").await;
    if one.ipv6_conf("eth0", "force_forwarding").is_some() {
        // 6.17 and newer: nothing is said of links that are not the node's own.
        assert_eq!(
            one.ipv6_conf("eth0", "force_forwarding").as_deref(),
            Some("1")
        );
        assert_eq!(
            one.ipv6_conf("lo", "force_forwarding").as_deref(),
            Some("0")
        );
        assert_eq!(one.ipv6_conf("all", "forwarding").as_deref(), Some("0"));
        assert_eq!(one.ipv6_conf("eth0", "accept_ra").as_deref(), Some("1"));
    } else {
        assert_eq!(one.ipv6_conf("all", "forwarding").as_deref(), Some("1"));
        assert_eq!(one.ipv6_conf("eth0", "accept_ra").as_deref(), Some("2"));
    }
}

#[tokio::test]
async fn pods_of_two_nodes_reach_each_other_by_each_family() {
    let bridge = Bridge::new().await;
    let one = node(&bridge, 11, ONE).await;
    let two = node(&bridge, 12, TWO).await;
    let peers = [one.peer(), two.peer()];
    for _ in 0..2 {
        one.network.set_peers(&peers).await.unwrap();
        two.network.set_peers(&peers).await.unwrap();
    }
    let (a, a_ips) = one.pod("a").await;
    let (b, b_ips) = two.pod("b").await;
    for at in 0..2 {
        assert_eq!(tcp(&a, &b, b_ips[at]), a_ips[at]);
        assert_eq!(tcp(&b, &a, a_ips[at]), b_ips[at]);
        assert_eq!(udp(&a, &b, b_ips[at], 4000), a_ips[at]);
        assert_eq!(tcp(&one.namespace, &b, b_ips[at]), one.ips[at]);
    }
    // The peer goes, and with it the routes to its pods: no other.
    one.network.set_peers(&peers[..1]).await.unwrap();
    for ip in &b_ips {
        let target = SocketAddr::new(*ip, 1);
        let gone = a.run(|| TcpStream::connect_timeout(&target, TIMEOUT));
        let errno = gone.unwrap_err().raw_os_error();
        assert_eq!(errno, Some(nix::Error::ENETUNREACH as i32), "{ip}");
    }
    for at in 0..2 {
        assert_eq!(tcp(&one.namespace, &a, a_ips[at]), one.ips[at]);
    }
}

#[tokio::test]
async fn pods_may_have_ipv6_alone() {
    let bridge = Bridge::new().await;
    let one = node(&bridge, 11, ["", ONE[1]]).await;
    let two = node(&bridge, 12, ["", TWO[1]]).await;
    let peers = [one.peer(), two.peer()];
    one.network.set_peers(&peers).await.unwrap();
    two.network.set_peers(&peers).await.unwrap();
    let (a, a_ips) = one.pod("a").await;
    let (b, b_ips) = two.pod("b").await;
    let texts: Vec<String> = a_ips.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["fd00:1::2"]);
    assert_eq!(tcp(&a, &b, b_ips[0]), a_ips[0]);
    assert_eq!(tcp(&two.namespace, &b, b_ips[0]), two.ips[1]);
}

#[tokio::test]
async fn what_somebody_deletes_comes_back() {
    let bridge = Bridge::new().await;
    let one = node(&bridge, 11, ONE).await;
    let two = node(&bridge, 12, TWO).await;
    let peers = [one.peer(), two.peer()];
    for node in [&one, &two] {
        node.network.set_peers(&peers).await.unwrap();
    }
    let (a, a_ips) = one.pod("a").await;
    let (b, b_ips) = two.pod("b").await;
    let network = one.network.clone();
    let kept = tokio::spawn(async move { network.keep().await });
    let (a_ip, b_ip, own) = (a_ips[1], b_ips[1], one.ips[1]);
    wait_source(&one.namespace, a_ip, Some(own)).await;

    for destination in [a_ip, "fd00:2::".parse().unwrap()] {
        one.namespace.remove_route(destination).await;
    }
    for ip in [a_ip, b_ip] {
        wait_source(&one.namespace, ip, Some(own)).await;
    }
    assert_eq!(tcp(&b, &a, a_ip), b_ip);

    // The node's address goes: pods are still reached, from their gateway, and as before when it is back.
    one.namespace.remove_address("eth0", own).await;
    let gateway: IpAddr = "fe80::1".parse().unwrap();
    wait_source(&one.namespace, a_ip, Some(gateway)).await;
    assert_eq!(tcp(&one.namespace, &a, a_ip), gateway);
    one.namespace.add_ipv6("eth0", own, 64).await;
    for ip in [a_ip, b_ip] {
        wait_source(&one.namespace, ip, Some(own)).await;
    }
    assert_eq!(tcp(&b, &a, a_ip), b_ip);
    assert!(!kept.is_finished());
    kept.abort();
}
