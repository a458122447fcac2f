use std::{
    collections::{BTreeMap, HashMap},
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use vetch_network::{
    Error, HostPort, HostPorts, IpamError, Network, NetworkConfig, Peer, PodAddresses, PodOptions,
    PodPorts, Pods,
};

use crate::namespace::{Bridge, Namespace};

const NODE_1: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 11);
const NODE_2: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 12);
const TIMEOUT: Duration = Duration::from_secs(5);

struct Node {
    namespace: Namespace,
    network: Network,
    state: tempfile::TempDir,
}

/// Opens the network of the node on this thread, which moves inside: the
/// process of a real node lives there too.
async fn open(
    namespace: &Namespace,
    ip: Ipv4Addr,
    state: &tempfile::TempDir,
    pod_cidr: &str,
) -> Network {
    namespace.enter();
    let config = NetworkConfig {
        node_name: "test".into(),
        node_ips: vec![ip.into()],
        state_dir: state.path().into(),
        mtu: None,
        vxlan: vetch_network::Vxlan::default(),
    };
    let network = Network::open(config).await.unwrap();
    network
        .set_pod_cidrs(&[pod_cidr.parse().unwrap()])
        .await
        .unwrap();
    network
}

async fn node(bridge: &Bridge, ip: Ipv4Addr, pod_cidr: &str) -> Node {
    let namespace = bridge.node(ip).await;
    let state = tempfile::tempdir().unwrap();
    let network = open(&namespace, ip, &state, pod_cidr).await;
    Node {
        namespace,
        network,
        state,
    }
}

impl Node {
    async fn pod(&self, id: &str) -> (Namespace, IpAddr) {
        let pod = Namespace::new();
        let ip = self.pod_at(id, &pod).await;
        (pod, ip)
    }

    async fn pod_at(&self, id: &str, pod: &Namespace) -> IpAddr {
        let options = PodOptions::default();
        let attached = self.network.attach(id, &pod.path(), options).await;
        attached.unwrap().ips[0]
    }
}

pub fn peer(name: &str, cidr: &str, ip: Ipv4Addr) -> Peer {
    Peer {
        name: name.into(),
        pod_cidrs: vec![cidr.parse().unwrap()],
        node_ips: vec![ip.into()],
    }
}

/// Until the node would talk to `ip` from this address; without one, until it has no way there.
async fn wait_source(node: &Namespace, ip: IpAddr, wanted: Option<Ipv4Addr>) {
    // Connecting a UDP socket looks the route up and sends nothing.
    let source = || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect((ip, 9))?;
        socket.local_addr()
    };
    let wanted = wanted.map(IpAddr::from);
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

/// A TCP round trip; returns the address the server saw the client at.
pub fn tcp(client: &Namespace, server: &Namespace, ip: IpAddr) -> IpAddr {
    let listener = server.run(|| TcpListener::bind("0.0.0.0:0").unwrap());
    let target = SocketAddr::new(ip, listener.local_addr().unwrap().port());
    let mut stream = client
        .run(|| TcpStream::connect_timeout(&target, TIMEOUT))
        .unwrap();
    let (mut accepted, from) = listener.accept().unwrap();
    stream.write_all(b"ping").unwrap();
    let mut bytes = [0; 4];
    accepted.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"ping");
    from.ip()
}

pub fn udp(client: &Namespace, server: &Namespace, ip: IpAddr) {
    let bind = || UdpSocket::bind("0.0.0.0:0").unwrap();
    let (client, server) = (client.run(bind), server.run(bind));
    for socket in [&client, &server] {
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    }
    let mut bytes = [0; 16];
    client
        .send_to(b"ping", (ip, server.local_addr().unwrap().port()))
        .unwrap();
    let (n, from) = server.recv_from(&mut bytes).unwrap();
    server.send_to(&bytes[..n], from).unwrap();
    assert_eq!(client.recv_from(&mut bytes).unwrap().1.ip(), ip);
}

#[tokio::test]
async fn pods_of_one_node_reach_each_other_the_node_and_are_reached_by_it() {
    let bridge = Bridge::new().await;
    let node = node(&bridge, NODE_1, "10.244.1.0/24").await;
    let (a, a_ip) = node.pod("a").await;
    let (b, b_ip) = node.pod("b").await;
    assert_ne!(a_ip, b_ip);
    assert_eq!(tcp(&a, &b, b_ip), a_ip);
    assert_eq!(tcp(&b, &a, a_ip), b_ip);
    udp(&a, &b, b_ip);
    assert_eq!(tcp(&a, &node.namespace, NODE_1.into()), a_ip);
    assert_eq!(tcp(&node.namespace, &b, b_ip), IpAddr::from(NODE_1));
    assert_eq!(tcp(&a, &a, a_ip), a_ip, "a pod reaches itself");
    assert_eq!(
        tcp(&a, &a, Ipv4Addr::LOCALHOST.into()),
        IpAddr::from(Ipv4Addr::LOCALHOST)
    );
}

#[tokio::test]
async fn pods_of_two_nodes_reach_each_other_until_the_peer_goes() {
    let bridge = Bridge::new().await;
    let one = node(&bridge, NODE_1, "10.244.1.0/24").await;
    let two = node(&bridge, NODE_2, "10.244.2.0/24").await;
    // Every node is handed all of them, itself too, and again and again.
    let peers = [
        peer("one", "10.244.1.0/24", NODE_1),
        peer("two", "10.244.2.0/24", NODE_2),
    ];
    for _ in 0..2 {
        one.network.set_peers(&peers).await.unwrap();
        two.network.set_peers(&peers).await.unwrap();
    }
    // A peer nobody can reach keeps no other from its routes.
    let lost = peer("lost", "10.244.0.0/24", Ipv4Addr::new(192, 0, 2, 1));
    let with_lost = [lost, peers[0].clone(), peers[1].clone()];
    one.network.set_peers(&[]).await.unwrap();
    let error = one.network.set_peers(&with_lost).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot route 10.244.0.0/24 via 192.0.2.1"
    );

    let (a, a_ip) = one.pod("a").await;
    let (b, b_ip) = two.pod("b").await;
    assert_eq!(tcp(&a, &b, b_ip), a_ip);
    assert_eq!(tcp(&b, &a, a_ip), b_ip);
    udp(&b, &a, a_ip);
    assert_eq!(tcp(&one.namespace, &b, b_ip), IpAddr::from(NODE_1));

    // The peer's range moves to another node, then the peer goes.
    one.network
        .set_peers(&[peer("two", "10.244.2.0/24", Ipv4Addr::new(172, 30, 0, 13))])
        .await
        .unwrap();
    one.network.set_peers(&peers).await.unwrap();
    assert_eq!(tcp(&a, &b, b_ip), a_ip);
    one.network.set_peers(&peers[..1]).await.unwrap();
    let gone = a
        .run(|| TcpStream::connect_timeout(&SocketAddr::new(b_ip, 1), TIMEOUT))
        .unwrap_err();
    assert_eq!(
        gone.raw_os_error(),
        Some(nix::Error::ENETUNREACH as i32),
        "{gone}"
    );
    assert_eq!(
        tcp(&a, &one.namespace, NODE_1.into()),
        a_ip,
        "the pod's own routes stay"
    );
}

/// As networkd does when the carrier of the link is lost and comes back.
#[tokio::test]
async fn routes_that_went_with_the_nodes_address_come_back_with_it() {
    let bridge = Bridge::new().await;
    let one = node(&bridge, NODE_1, "10.244.1.0/24").await;
    let two = node(&bridge, NODE_2, "10.244.2.0/24").await;
    let peers = [
        peer("one", "10.244.1.0/24", NODE_1),
        peer("two", "10.244.2.0/24", NODE_2),
    ];
    for node in [&one, &two] {
        node.network.set_peers(&peers).await.unwrap();
    }
    let (a, a_ip) = one.pod("a").await;
    let (b, b_ip) = two.pod("b").await;
    let network = one.network.clone();
    let kept = tokio::spawn(async move { network.keep().await });

    one.namespace.remove_address("eth0", NODE_1).await;
    // Its pods are still reached, from their gateway.
    let gateway = Ipv4Addr::new(169, 254, 1, 1);
    wait_source(&one.namespace, a_ip, Some(gateway)).await;
    assert_eq!(tcp(&one.namespace, &a, a_ip), IpAddr::from(gateway));
    // So is one that comes meanwhile.
    let (c, c_ip) = one.pod("c").await;
    assert_eq!(tcp(&one.namespace, &c, c_ip), IpAddr::from(gateway));
    assert_eq!(tcp(&a, &c, c_ip), a_ip);

    one.namespace.add_address("eth0", NODE_1).await;
    for ip in [a_ip, b_ip, c_ip] {
        wait_source(&one.namespace, ip, Some(NODE_1)).await;
    }
    assert_eq!(tcp(&one.namespace, &a, a_ip), IpAddr::from(NODE_1));
    assert_eq!(tcp(&a, &b, b_ip), a_ip);
    assert_eq!(tcp(&b, &c, c_ip), b_ip);

    // Set down and up, the link keeps its address and loses every route over it.
    one.namespace.set_up("eth0", false).await;
    wait_source(&one.namespace, b_ip, None).await;
    one.namespace.set_up("eth0", true).await;
    wait_source(&one.namespace, b_ip, Some(NODE_1)).await;
    assert_eq!(tcp(&a, &b, b_ip), a_ip);

    // Somebody tidies up what is not theirs.
    one.namespace
        .remove_route(Ipv4Addr::new(10, 244, 2, 0))
        .await;
    wait_source(&one.namespace, b_ip, Some(NODE_1)).await;
    assert!(!kept.is_finished());
    kept.abort();
}

#[tokio::test]
async fn attach_and_detach_may_be_repeated() {
    let bridge = Bridge::new().await;
    let node = node(&bridge, NODE_1, "10.244.1.0/24").await;
    let (a, a_ip) = node.pod("a").await;
    let before = (node.namespace.links().await, a.index("eth0").await);
    let again = node
        .network
        .attach("a", &a.path(), PodOptions::default())
        .await
        .unwrap();
    assert_eq!(again, PodAddresses { ips: vec![a_ip] });
    assert_eq!(
        before,
        (node.namespace.links().await, a.index("eth0").await)
    );
    assert_eq!(node.network.addresses("a").await, Some(again));

    for _ in 0..2 {
        node.network.detach("a").await.unwrap();
    }
    assert_eq!(node.network.addresses("a").await, None);
    assert_eq!(a.links().await, ["lo"]);
    assert_eq!(node.namespace.links().await, ["lo", "eth0"]);
    node.network.detach("never-attached").await.unwrap();
}

#[tokio::test]
async fn attach_repairs_what_was_half_done() {
    let bridge = Bridge::new().await;
    let node = node(&bridge, NODE_1, "10.244.1.0/24").await;
    let (b, b_ip) = node.pod("b").await;
    let (a, a_ip) = node.pod("a").await;
    // Killed before the pod's side was set up.
    let inside = a.netlink();
    let eth0 = a.index("eth0").await;
    inside
        .link()
        .set(rtnetlink::LinkUnspec::new_with_index(eth0).down().build())
        .execute()
        .await
        .unwrap();
    node.network
        .attach("a", &a.path(), PodOptions::default())
        .await
        .unwrap();
    assert_eq!(tcp(&a, &b, b_ip), a_ip);
    // The same sandbox in a new namespace, while the old one still lives.
    let again = Namespace::new();
    node.network
        .attach("a", &again.path(), PodOptions::default())
        .await
        .unwrap();
    assert_eq!(tcp(&again, &b, b_ip), a_ip);
    assert_eq!(a.links().await, ["lo"]);
}

#[tokio::test]
async fn a_restart_keeps_addresses_and_links_and_frees_what_leaked() {
    let bridge = Bridge::new().await;
    let Node {
        namespace,
        network,
        state,
    } = node(&bridge, NODE_1, "10.244.1.0/29").await;
    let (a, leaked) = (Namespace::new(), Namespace::new());
    let a_ip = network
        .attach("a", &a.path(), PodOptions::default())
        .await
        .unwrap()
        .ips[0];
    let leaked_ip = network
        .attach("leaked", &leaked.path(), PodOptions::default())
        .await
        .unwrap()
        .ips[0];
    drop(network);
    // The namespace of the leaked one is gone; its address is still recorded.
    drop(leaked);

    let network = open(&namespace, NODE_1, &state, "10.244.1.0/29").await;
    let node = Node {
        namespace,
        network,
        state,
    };
    let (b, b_ip) = node.pod("b").await;
    assert!(![a_ip, leaked_ip].contains(&b_ip));
    assert_eq!(tcp(&b, &a, a_ip), b_ip);
    assert_eq!(node.network.addresses("a").await, None, "nobody has looked");
    let live = HashMap::from([
        ("a".to_owned(), Some(a.path())),
        ("b".to_owned(), Some(b.path())),
    ]);
    node.network.retain(&live).await.unwrap();
    assert_eq!(
        node.network.addresses("a").await,
        Some(PodAddresses { ips: vec![a_ip] })
    );
    assert_eq!(node.network.addresses("leaked").await, None);
    assert_eq!(tcp(&b, &a, a_ip), b_ip);
    assert_eq!(
        node.namespace
            .links()
            .await
            .iter()
            .filter(|name| name.starts_with("vt"))
            .count(),
        2
    );
    let records = std::fs::read_dir(node.state.path().join("sandboxes"))
        .unwrap()
        .count();
    assert_eq!(records, 2);
}

/// What a program in the kernel would be told, from the kernel itself.
async fn seen(node: &Node, pod: &Namespace, id: &str) -> vetch_ebpf_common::Pod {
    let (name, mac) = node.namespace.host_link_of(pod).await;
    let ifindex = node.namespace.index(&name).await;
    assert!(name.starts_with("vt"), "{id} {name}");
    vetch_ebpf_common::Pod {
        ifindex,
        flags: 0,
        mac: pod.mac("eth0").await,
        gateway_mac: mac,
        ingress: 0,
        egress: 0,
        netns: pod.cookie(),
    }
}

fn published(network: &Network) -> Option<Pods> {
    Some(network.pods().borrow().as_deref()?.clone())
}

#[tokio::test]
async fn attached_pods_are_published_and_found_again() {
    use vetch_ebpf_common::Pod;
    let bridge = Bridge::new().await;
    let mut node = node(&bridge, NODE_1, "10.244.1.0/24").await;
    assert_eq!(published(&node.network), None, "not known yet");
    node.network.retain(&HashMap::new()).await.unwrap();
    assert_eq!(published(&node.network), Some(BTreeMap::new()));

    let (a, a_ip) = node.pod("a").await;
    let b = Namespace::new();
    let options = PodOptions {
        by_stack: true,
        tcp_by_packet: true,
        host_ports: vec![HostPort {
            host_ip: None,
            protocol: vetch_network::Protocol::Udp,
            port: 5353,
            container_port: 53,
        }],
        ..PodOptions::default()
    };
    let told = HostPorts::from([(
        "b".to_owned(),
        PodPorts {
            ips: vec!["10.244.1.3".parse().unwrap()],
            ports: options.host_ports.clone(),
        },
    )]);
    let host_ports = |network: &Network| network.host_ports().borrow().as_deref().cloned();
    let attach = node.network.attach("b", &b.path(), options).await;
    let b_ip = attach.unwrap().ips[0];
    let a_seen = seen(&node, &a, "a").await;
    let b_seen = Pod {
        flags: Pod::BY_STACK | Pod::TCP_BY_PACKET,
        ..seen(&node, &b, "b").await
    };
    let both = BTreeMap::from([(a_ip, a_seen), (b_ip, b_seen)]);
    assert_eq!(published(&node.network).as_ref(), Some(&both));
    assert_eq!(host_ports(&node.network).as_ref(), Some(&told));

    // The next daemon; one pod is half attached, and one is somewhere else.
    let (c, _) = node.pod("c").await;
    let (d, _) = node.pod("d").await;
    let (c_link, _) = node.namespace.host_link_of(&c).await;
    drop(node.network);
    node.namespace.delete_route_to(&c_link).await;
    node.network = open(&node.namespace, NODE_1, &node.state, "10.244.1.0/24").await;
    let paths = [("a", &a), ("b", &b), ("c", &c), ("d", &Namespace::new())];
    let mut live: HashMap<_, _> = paths
        .iter()
        .map(|(id, pod)| ((*id).to_owned(), Some(pod.path())))
        .collect();
    live.insert("of-the-nodes-network".into(), None);
    assert_eq!(host_ports(&node.network), None, "not known yet");
    node.network.retain(&live).await.unwrap();
    assert_eq!(published(&node.network).as_ref(), Some(&both));
    assert_eq!(host_ports(&node.network).as_ref(), Some(&told));
    assert_eq!(node.network.addresses("c").await, None, "to be attached");
    let c_ip = node.pod_at("c", &c).await;
    assert_eq!(tcp(&a, &c, c_ip), a_ip);
    drop(d);

    let mut pods = node.network.pods();
    pods.borrow_and_update();
    node.network.detach("b").await.unwrap();
    let left: Vec<IpAddr> = pods
        .borrow_and_update()
        .iter()
        .flat_map(|pods| pods.keys().copied().collect::<Vec<_>>())
        .collect();
    assert_eq!(left, [a_ip, c_ip]);
}

#[tokio::test]
async fn ports_for_translated_connections_are_reserved() {
    let bridge = Bridge::new().await;
    let namespace = bridge.node(NODE_1).await;
    let path = "/proc/sys/net/ipv4/ip_local_reserved_ports";
    namespace.run(|| std::fs::write(path, "8080,62000").unwrap());
    let state = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        drop(open(&namespace, NODE_1, &state, "10.244.1.0/24").await);
        let reserved = namespace.run(|| std::fs::read_to_string(path).unwrap());
        assert_eq!(reserved.trim(), "8080,61000-65535");
    }
}

#[tokio::test]
async fn the_end_of_a_node_leaves_only_what_is_not_ours() {
    let bridge = Bridge::new().await;
    let node = node(&bridge, NODE_1, "10.244.1.0/24").await;
    let peer = Peer {
        name: "other".into(),
        pod_cidrs: vec!["10.244.2.0/24".parse().unwrap()],
        node_ips: vec![NODE_2.into()],
    };
    node.network.set_peers(&[peer]).await.unwrap();
    let (_pod, _) = node.pod("a").await;
    let state = node.state.path().to_owned();
    let still_open = vetch_network::remove_all(&state).await;
    assert!(still_open.is_err(), "a daemon has the records");
    drop(node.network);
    for _ in 0..2 {
        vetch_network::remove_all(&state).await.unwrap();
    }
    assert_eq!(node.namespace.links().await, ["lo", "eth0"]);
    let routes = node
        .namespace
        .run(|| std::fs::read_to_string("/proc/thread-self/net/route"));
    let routes = routes.unwrap();
    // The header and the route of eth0's own subnet.
    assert_eq!(routes.lines().count(), 2, "{routes}");
    assert!(!state.exists());
}

#[tokio::test]
async fn a_full_node_says_so_and_has_room_again_after_a_detach() {
    let bridge = Bridge::new().await;
    let node = node(&bridge, NODE_1, "10.244.1.0/30").await;
    let (_a, a_ip) = node.pod("a").await;
    let b = Namespace::new();
    let full = node
        .network
        .attach("b", &b.path(), PodOptions::default())
        .await
        .unwrap_err();
    assert!(
        matches!(full, Error::Ipam(IpamError::Full { used: 1, .. })),
        "{full:?}"
    );
    assert_eq!(b.links().await, ["lo"]);
    node.network.detach("a").await.unwrap();
    assert_eq!(
        node.network
            .attach("b", &b.path(), PodOptions::default())
            .await
            .unwrap()
            .ips,
        [a_ip]
    );
}

/// Figures, not promises.
#[tokio::test]
#[ignore = "measures"]
async fn attach_latency() {
    let bridge = Bridge::new().await;
    let node = node(&bridge, NODE_1, "10.244.1.0/24").await;
    let pods: Vec<Namespace> = (0..200).map(|_| Namespace::new()).collect();
    let (mut attach, mut detach) = (Vec::new(), Vec::new());
    for (n, pod) in pods.iter().enumerate() {
        let started = std::time::Instant::now();
        node.network
            .attach(&format!("s{n}"), &pod.path(), PodOptions::default())
            .await
            .unwrap();
        attach.push(started.elapsed());
    }
    for n in 0..pods.len() {
        let started = std::time::Instant::now();
        node.network.detach(&format!("s{n}")).await.unwrap();
        detach.push(started.elapsed());
    }
    for (what, mut times) in [("attach", attach), ("detach", detach)] {
        times.sort();
        println!(
            "{what}: p50 {:?} p99 {:?}",
            times[times.len() / 2],
            times[times.len() * 99 / 100]
        );
    }
}

#[tokio::test]
async fn an_address_that_is_not_the_nodes_is_refused() {
    let bridge = Bridge::new().await;
    let namespace = bridge.node(NODE_1).await;
    namespace.enter();
    let state = tempfile::tempdir().unwrap();
    let config = NetworkConfig {
        node_name: "test".into(),
        node_ips: vec![NODE_2.into()],
        state_dir: state.path().into(),
        mtu: None,
        vxlan: vetch_network::Vxlan::default(),
    };
    let error = Network::open(config).await.err().unwrap();
    assert!(error.to_string().contains("172.30.0.12"), "{error}");
}
