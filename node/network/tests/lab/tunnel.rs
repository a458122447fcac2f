//! Nodes behind a router: the kernel's routing alone, without the programs of the service proxy.

use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    time::Duration,
};

use nix::sys::socket::{getsockopt, sockopt::IpMtu};
use vetch_network::{Network, NetworkConfig, Peer, PodOptions, TUNNEL_LINK, Vxlan, VxlanMode};

use crate::{
    namespace::Namespace,
    pods::{peer, tcp, udp},
    router::{Router, ip},
};

const NODE_1: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
const NODE_2: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 2);
const CIDR_1: &str = "10.244.1.0/24";
const CIDR_2: &str = "10.244.2.0/24";
const TIMEOUT: Duration = Duration::from_secs(5);

struct Node {
    namespace: Namespace,
    network: Network,
    state: tempfile::TempDir,
}

async fn open(
    namespace: &Namespace,
    ip: Ipv4Addr,
    state: &tempfile::TempDir,
    cidr: &str,
    mode: VxlanMode,
) -> Network {
    namespace.enter();
    let config = NetworkConfig {
        node_name: "test".into(),
        node_ips: vec![ip.into()],
        state_dir: state.path().into(),
        mtu: None,
        vxlan: Vxlan {
            mode,
            ..Vxlan::default()
        },
    };
    let network = Network::open(config).await.unwrap();
    network
        .set_pod_cidrs(&[cidr.parse().unwrap()])
        .await
        .unwrap();
    network
}

impl Node {
    async fn new(router: &Router, ip: Ipv4Addr, cidr: &str, mode: VxlanMode) -> Self {
        let namespace = router.node(ip).await;
        // As cautious as a node may be.
        namespace.run(|| std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "1").unwrap());
        let state = tempfile::tempdir().unwrap();
        let network = open(&namespace, ip, &state, cidr, mode).await;
        Self {
            namespace,
            network,
            state,
        }
    }

    async fn pod(&self, id: &str) -> (Namespace, IpAddr) {
        let pod = Namespace::new();
        let attached = self
            .network
            .attach(id, &pod.path(), PodOptions::default())
            .await;
        let ip = attached.unwrap().ips[0];
        (pod, ip)
    }

    /// All that the ways to other nodes are made of.
    fn ways(&self) -> String {
        [
            "-o link show",
            "route show table all proto 86",
            "rule show",
            "neigh show nud permanent",
        ]
        .map(|arguments| ip(&self.namespace, arguments))
        .concat()
    }
}

fn peers() -> [Peer; 2] {
    [peer("one", CIDR_1, NODE_1), peer("two", CIDR_2, NODE_2)]
}

async fn two_nodes(mode: VxlanMode) -> (Router, Node, Node) {
    let router = Router::new();
    let one = Node::new(&router, NODE_1, CIDR_1, mode).await;
    let two = Node::new(&router, NODE_2, CIDR_2, mode).await;
    for node in [&one, &two] {
        node.network.set_peers(&peers()).await.unwrap();
    }
    (router, one, two)
}

async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(TIMEOUT, waiting).await;
    assert!(waited.is_ok(), "not within {TIMEOUT:?}: {what}");
}

#[tokio::test]
async fn pods_behind_a_router_reach_each_other_and_the_nodes_with_their_own_addresses() {
    let (_router, one, two) = two_nodes(VxlanMode::CrossSubnet).await;
    let (a, a_ip) = one.pod("a").await;
    let (b, b_ip) = two.pod("b").await;
    assert_eq!(tcp(&a, &b, b_ip), a_ip);
    assert_eq!(tcp(&b, &a, a_ip), b_ip);
    udp(&a, &b, b_ip);
    // The router takes no pod's address anywhere: answers are in the tunnel too.
    assert_eq!(tcp(&one.namespace, &b, b_ip), IpAddr::from(NODE_1));
    assert_eq!(tcp(&b, &one.namespace, NODE_1.into()), b_ip);
    // And the nodes' own traffic is not.
    assert_eq!(
        tcp(&one.namespace, &two.namespace, NODE_2.into()),
        IpAddr::from(NODE_1)
    );
    let plain = ip(&one.namespace, &format!("route get {NODE_2}"));
    assert!(plain.contains("dev eth0"), "{plain}");
}

#[tokio::test]
async fn a_daemon_that_starts_again_touches_nothing() {
    let (_router, one, two) = two_nodes(VxlanMode::CrossSubnet).await;
    let (a, a_ip) = one.pod("a").await;
    let (b, b_ip) = two.pod("b").await;
    let before = one.ways();
    assert!(before.contains(TUNNEL_LINK), "{before}");
    let Node {
        namespace,
        network,
        state,
    } = one;
    drop(network);
    let network = open(&namespace, NODE_1, &state, CIDR_1, VxlanMode::CrossSubnet).await;
    let one = Node {
        namespace,
        network,
        state,
    };
    assert_eq!(one.ways(), before, "before the peers are known");
    one.network.set_peers(&peers()).await.unwrap();
    assert_eq!(one.ways(), before);
    assert_eq!(tcp(&b, &a, a_ip), b_ip);
}

#[tokio::test]
async fn who_sends_too_much_for_the_tunnel_is_told() {
    let (_router, one, two) = two_nodes(VxlanMode::CrossSubnet).await;
    let (a, _) = one.pod("a").await;
    let (b, b_ip) = two.pod("b").await;
    let bind = || UdpSocket::bind("0.0.0.0:0").unwrap();
    let (client, server) = (a.run(bind), b.run(bind));
    server
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    client
        .connect((b_ip, server.local_addr().unwrap().port()))
        .unwrap();
    let mut bytes = [0; 10_000];
    // The most that goes through whole.
    client.send(&[1; 1450 - 28]).unwrap();
    assert_eq!(server.recv(&mut bytes).unwrap(), 1450 - 28);
    assert_eq!(
        getsockopt(&client, IpMtu).unwrap(),
        1500,
        "nobody has said anything yet"
    );
    // Linux sets DF until it knows of a shorter path, and cuts from then on.
    let mut received = None;
    for _ in 0..10 {
        // What its node said of the one before is told here once.
        let _ = client.send(&[2; 1500 - 28]);
        received = server.recv(&mut bytes).ok();
        if received.is_some() {
            break;
        }
    }
    assert_eq!(received, Some(1500 - 28));
    assert_eq!(getsockopt(&client, IpMtu).unwrap(), 1450);
    client.send(&[3; 9000]).unwrap();
    assert_eq!(server.recv(&mut bytes).unwrap(), 9000);
}

#[tokio::test]
async fn where_all_is_in_the_tunnel_pods_know_its_length() {
    let (_router, one, two) = two_nodes(VxlanMode::Always).await;
    let (a, a_ip) = one.pod("a").await;
    let (b, b_ip) = two.pod("b").await;
    assert_eq!(tcp(&a, &b, b_ip), a_ip);
    let link = ip(&a, "-o link show dev eth0");
    assert!(link.contains("mtu 1450"), "{link}");
}

#[tokio::test]
async fn a_node_that_comes_back_with_another_address_is_found_there() {
    let (_router, one, two) = two_nodes(VxlanMode::CrossSubnet).await;
    let (a, a_ip) = one.pod("a").await;
    let (b, b_ip) = two.pod("b").await;
    assert_eq!(tcp(&a, &b, b_ip), a_ip);

    let moved = Ipv4Addr::new(10, 2, 0, 77);
    two.namespace.remove_address("eth0", NODE_2).await;
    two.namespace.add_address("eth0", moved).await;
    ip(&two.namespace, "route replace default via 10.2.0.1");
    drop(two.network);
    let network = open(
        &two.namespace,
        moved,
        &two.state,
        CIDR_2,
        VxlanMode::CrossSubnet,
    )
    .await;
    let peers = [peer("one", CIDR_1, NODE_1), peer("two", CIDR_2, moved)];
    network.set_peers(&peers).await.unwrap();
    one.network.set_peers(&peers).await.unwrap();
    // Also the pod's own route, which had the old address.
    network
        .attach("b", &b.path(), PodOptions::default())
        .await
        .unwrap();
    assert_eq!(tcp(&a, &b, b_ip), a_ip);
    assert_eq!(tcp(&b, &a, a_ip), b_ip);
    assert_eq!(tcp(&one.namespace, &b, b_ip), IpAddr::from(NODE_1));
    let ways = one.ways();
    assert!(!ways.contains(&NODE_2.to_string()), "{ways}");
}

#[tokio::test]
async fn what_somebody_takes_away_comes_back() {
    let (_router, one, two) = two_nodes(VxlanMode::CrossSubnet).await;
    let (a, a_ip) = one.pod("a").await;
    let (b, b_ip) = two.pod("b").await;
    let network = one.network.clone();
    let kept = tokio::spawn(async move { network.keep().await });
    // Links have numbers of their own, which do not come back.
    let is_whole = || {
        let ways = one.ways();
        let has = |word: &str| ways.contains(word);
        let mut routes = ways.lines().filter(|line| line.starts_with(CIDR_2));
        routes.any(|line| line.contains("encap ip"))
            && has(&format!("from {CIDR_1} lookup 86"))
            && has(&format!("dev {TUNNEL_LINK} lladdr"))
            && has("table 86")
    };
    eventually("at first", || async { is_whole() }).await;
    for taken in [
        format!("link delete {TUNNEL_LINK}"),
        format!("link set {TUNNEL_LINK} down"),
        format!("route delete {CIDR_2}"),
        "route flush table 86".to_owned(),
        format!("rule delete from {CIDR_1} lookup 86"),
    ] {
        ip(&one.namespace, &taken);
        eventually(&taken, || async { is_whole() }).await;
        assert_eq!(tcp(&a, &b, b_ip), a_ip, "{taken}");
        assert_eq!(tcp(&b, &one.namespace, NODE_1.into()), b_ip, "{taken}");
    }
    // The tunnel is as long as its uplink.
    ip(&one.namespace, "link set eth0 mtu 1400");
    eventually("the device follows", || async {
        ip(&one.namespace, &format!("-o link show dev {TUNNEL_LINK}")).contains("mtu 1350")
    })
    .await;
    // So are its pods' links, at both ends.
    eventually("pods follow", || async {
        ip(&a, "-o link show dev eth0").contains("mtu 1400")
            && ip(&one.namespace, "-o link show type veth")
                .lines()
                .filter(|line| line.contains(" vt"))
                .all(|line| line.contains("mtu 1400"))
    })
    .await;
    assert_eq!(tcp(&a, &b, b_ip), a_ip);
    // A link to the peer's network, and the tunnel is not needed any more.
    ip(&one.namespace, "route add 10.2.0.0/24 dev eth0");
    eventually("directly", || async {
        let ways = ip(&one.namespace, "route show table all proto 86");
        ways.contains(&format!("{CIDR_2} via {NODE_2} dev eth0")) && !ways.contains("encap")
    })
    .await;
    let links = one.namespace.links().await;
    assert!(!links.iter().any(|name| name == TUNNEL_LINK), "{links:?}");
    assert!(!ip(&one.namespace, "rule show").contains("lookup 86"));
    assert!(!kept.is_finished());
    kept.abort();
}

#[tokio::test]
async fn never_is_refused_behind_a_router() {
    let router = Router::new();
    let one = Node::new(&router, NODE_1, CIDR_1, VxlanMode::Never).await;
    let error = one.network.set_peers(&peers()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot route {CIDR_2} via {NODE_2}")
    );
    assert_eq!(one.namespace.links().await, ["lo", "eth0"]);
}

#[tokio::test]
async fn the_end_of_a_node_takes_the_tunnel_along() {
    let (_router, one, two) = two_nodes(VxlanMode::CrossSubnet).await;
    // The thread is in the second node since.
    let state = two.state.path().to_owned();
    drop(two.network);
    vetch_network::remove_all(&state).await.unwrap();
    assert_eq!(two.namespace.links().await, ["lo", "eth0"]);
    let rules = ip(&two.namespace, "rule show");
    assert!(!rules.contains("lookup 86"), "{rules}");
    let routes = ip(&two.namespace, "route show table all proto 86");
    assert_eq!(routes, "");
    // Another node's is its own.
    assert!(one.ways().contains(TUNNEL_LINK));
}
