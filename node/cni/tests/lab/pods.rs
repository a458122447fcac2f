//! Pods by the plugin, from their addresses to their packets.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use futures::TryStreamExt as _;
use netlink_packet_route::tc::{TcAttribute, TcMessage};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use vetch_network::{Network, Owner, Owners, Peer};

use crate::daemon::{self, Daemon};
use crate::namespace::{Bridge, Namespace};
use crate::plugin::{Call, path_of};

const NODE_1: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 11);
const NODE_2: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 12);
const CIDR_1: &str = "10.244.1.0/28";
const CIDR_2: &str = "10.244.2.0/28";
const TIMEOUT: Duration = Duration::from_secs(5);

fn call(command: &str, run_dir: &Path, container: &str, pod: &Namespace) -> Call {
    Call::new(command, "1.1.0", run_dir).of(container, &path_of(pod))
}

fn ip(added: &Value) -> IpAddr {
    let address = added["ips"][0]["address"].as_str().unwrap();
    address.split_once('/').unwrap().0.parse().unwrap()
}

/// A TCP round trip; returns the address the server saw the client at.
fn tcp(client: &Namespace, server: &Namespace, ip: IpAddr) -> IpAddr {
    let listener = server.run(|| TcpListener::bind("0.0.0.0:0").unwrap());
    let target = SocketAddr::new(ip, listener.local_addr().unwrap().port());
    let connect = || TcpStream::connect_timeout(&target, TIMEOUT).unwrap();
    let mut stream = client.run(connect);
    let (mut accepted, from) = listener.accept().unwrap();
    stream.write_all(b"ping").unwrap();
    let mut bytes = [0; 4];
    accepted.read_exact(&mut bytes).unwrap();
    from.ip()
}

fn records(run_dir: &Path) -> Vec<String> {
    names(&run_dir.join("network/sandboxes"))
}

fn marks(run_dir: &Path) -> Vec<String> {
    names(&run_dir.join("network/deleted"))
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_comes_is_checked_and_goes() {
    let bridge = Bridge::new().await;
    let node = bridge.node(NODE_1).await;
    let dir = tempfile::tempdir().unwrap();
    let run_dir = dir.path();
    let _daemon = Daemon::start(&node, run_dir, NODE_1.into(), CIDR_1);
    let (a, b) = (Namespace::new(), Namespace::new());
    let add = |id, pod| call("ADD", run_dir, id, pod).run_in(&node);
    let added = add("a", &a).unwrap();
    let again = add("a", &a).unwrap();
    assert_eq!(added, again, "an ADD may be repeated");
    let b_ip = ip(&add("b", &b).unwrap());
    assert_eq!(tcp(&a, &b, b_ip), ip(&added));
    assert_eq!(tcp(&node, &b, b_ip), IpAddr::from(NODE_1));
    let (host, _) = node.host_link_of(&a).await;
    assert_eq!(added["interfaces"][0]["name"], host.as_str());

    let check = call("CHECK", run_dir, "a", &a).field("prevResult", added.clone());
    check.run_in(&node).unwrap();
    // Somebody else's: another name for the pod's main link, or the link of another container.
    let mut second = call("ADD", run_dir, "a", &a);
    second.environment.retain(|(name, _)| name != "CNI_IFNAME");
    let second = second.with("CNI_IFNAME", "net1").run_in(&node);
    assert_eq!(second.code(), 7, "{}", second.output);
    let other = add("c", &a);
    assert_eq!(other.code(), 4, "{}", other.output);
    let own = node.run(|| call("ADD", run_dir, "d", &node).run());
    assert_eq!(own.code(), 8, "{}", own.output);
    assert_eq!(records(run_dir).len(), 2, "what is refused has no address");
    // An address of one's wish.
    let wish = Namespace::new();
    let asked = call("ADD", run_dir, "wish", &wish)
        .field("runtimeConfig", json!({ "ips": ["10.244.1.9/28"] }))
        .run_in(&node);
    assert_eq!(ip(&asked.unwrap()).to_string(), "10.244.1.9");

    a.remove_address("eth0", ip(&added)).await;
    let broken = check.run_in(&node);
    let details = broken.output["details"].to_string();
    assert!(
        broken.code() == 102 && details.contains("lost its address"),
        "{details}"
    );
    add("a", &a).unwrap();
    check.run_in(&node).unwrap();

    for (id, pod) in [
        ("a", &a),
        ("a", &a),
        ("b", &b),
        ("wish", &wish),
        ("never", &b),
    ] {
        call("DEL", run_dir, id, pod).run_in(&node).unwrap();
    }
    for pod in [&a, &b, &wish] {
        assert_eq!(pod.links().await, ["lo"]);
    }
    assert_eq!(node.links().await, ["lo", "eth0"]);
    assert!(records(run_dir).is_empty());
    assert!(!check.run_in(&node).ok, "it is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_needs_no_daemon_and_a_daemon_keeps_the_others() {
    let bridge = Bridge::new().await;
    let node = bridge.node(NODE_1).await;
    let dir = tempfile::tempdir().unwrap();
    let run_dir = dir.path();
    let start = || Daemon::start(&node, run_dir, NODE_1.into(), CIDR_1);
    let mut daemon = start();
    let (a, b, c) = (Namespace::new(), Namespace::new(), Namespace::new());
    let add = |id, pod| call("ADD", run_dir, id, pod).run_in(&node);
    let a_ip = ip(&add("a", &a).unwrap());
    let b_added = add("b", &b).unwrap();
    add("c", &c).unwrap();
    daemon.kill();
    assert_eq!(add("d", &a).code(), 11);
    // Pods go on meanwhile.
    assert_eq!(tcp(&a, &b, ip(&b_added)), a_ip);
    for _ in 0..2 {
        call("DEL", run_dir, "a", &a).run_in(&node).unwrap();
    }
    assert_eq!(a.links().await, ["lo"]);
    // A namespace that the runtime has forgotten, by a runtime in another network namespace.
    let c_path = path_of(&c);
    Call::new("DEL", "1.1.0", run_dir)
        .of("c", &c_path)
        .run()
        .unwrap();
    assert_eq!(c.links().await, ["lo"], "from within its namespace");
    assert_eq!((records(run_dir).len(), marks(run_dir).len()), (3, 2));

    let _daemon = start();
    assert!(marks(run_dir).is_empty());
    assert_eq!(records(run_dir).len(), 1);
    let check = call("CHECK", run_dir, "b", &b).field("prevResult", b_added.clone());
    check.run_in(&node).unwrap();
    // The same name again: a mark of before has no power over it.
    add("a", &a).unwrap();
    assert_eq!(tcp(&b, &a, ip(&add("a", &a).unwrap())), ip(&b_added));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_ends_what_nobody_ended() {
    let bridge = Bridge::new().await;
    let node = bridge.node(NODE_1).await;
    let dir = tempfile::tempdir().unwrap();
    let run_dir = dir.path();
    let _daemon = Daemon::start(&node, run_dir, NODE_1.into(), CIDR_1);
    let pods = [Namespace::new(), Namespace::new(), Namespace::new()];
    let ids = ["kept", "leaked", "gone"];
    for (id, pod) in ids.iter().zip(&pods) {
        call("ADD", run_dir, id, pod).run_in(&node).unwrap();
    }
    let elsewhere = Namespace::new();
    let other = call("ADD", run_dir, "leaked", &elsewhere).field("name", json!("other"));
    other.run_in(&node).unwrap();
    let [kept, leaked, gone] = pods;
    drop(gone);
    let valid = json!([{ "containerID": "kept", "ifname": "eth0" }]);
    let collect = Call::new("GC", "1.1.0", run_dir).field("cni.dev/valid-attachments", valid);
    for _ in 0..2 {
        collect.run_in(&node).unwrap();
    }
    assert_eq!(
        records(run_dir).len(),
        2,
        "another network's is not its business"
    );
    assert_eq!(leaked.links().await, ["lo"]);
    for pod in [&kept, &elsewhere] {
        assert_eq!(pod.links().await, ["lo", "eth0"]);
    }
    let links = node.links().await;
    assert_eq!(
        links.iter().filter(|name| name.starts_with("vt")).count(),
        2
    );
}

/// The kinds of the queues at the root of a link.
async fn queues(of: &Namespace, link: &str) -> Vec<String> {
    let index = of.index(link).await.cast_signed();
    // Held until the answer is there: a connection whose last handle is gone ends, and so does its answer.
    let netlink = of.netlink();
    let all = netlink.qdisc().get().execute();
    let all: Vec<TcMessage> = all.try_collect().await.unwrap();
    let of_link = all.iter().filter(|one| one.header.index == index);
    of_link
        .flat_map(|one| &one.attributes)
        .filter_map(|attribute| match attribute {
            TcAttribute::Kind(kind) => Some(kind.clone()),
            _ => None,
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rates_are_limited_where_a_runtime_says_so() {
    let bridge = Bridge::new().await;
    let node = bridge.node(NODE_1).await;
    let dir = tempfile::tempdir().unwrap();
    let run_dir = dir.path();
    let _daemon = Daemon::start(&node, run_dir, NODE_1.into(), CIDR_1);
    let burst = u32::MAX;
    for (id, bandwidth, limited) in [
        (
            "in",
            json!({ "ingressRate": 10_000_000, "ingressBurst": burst }),
            [true, false],
        ),
        (
            "out",
            json!({ "ingressRate": 0, "egressRate": 10_000_000, "egressBurst": burst }),
            [false, true],
        ),
    ] {
        let pod = Namespace::new();
        let add = call("ADD", run_dir, id, &pod)
            .field("runtimeConfig", json!({ "bandwidth": bandwidth }));
        add.run_in(&node).unwrap();
        let (host, _) = node.host_link_of(&pod).await;
        let ends = [queues(&node, &host).await, queues(&pod, "eth0").await];
        let found = [0, 1].map(|end| ends[end].iter().any(|kind| kind == "tbf"));
        assert_eq!(found, limited, "{id}: {ends:?}");
    }
}

/// With the network in this process, which knows other nodes.
async fn serve(node: &Namespace, run_dir: &Path, ip: Ipv4Addr, cidr: &str) -> Network {
    // The thread that polls this may be another after each wait.
    let (run_dir, cidr) = (run_dir.to_owned(), cidr.to_owned());
    let handle = tokio::runtime::Handle::current();
    node.run(|| {
        handle.block_on(async {
            let network = daemon::open(&run_dir, ip.into(), &cidr).await;
            let serving = vetch_cni_server::run(
                daemon::config(&run_dir),
                network.clone(),
                CancellationToken::new(),
            );
            tokio::spawn(serving);
            network
        })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_two_nodes_reach_each_other() {
    let bridge = Bridge::new().await;
    let (one, two) = (bridge.node(NODE_1).await, bridge.node(NODE_2).await);
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let networks = [
        serve(&one, dirs[0].path(), NODE_1, CIDR_1).await,
        serve(&two, dirs[1].path(), NODE_2, CIDR_2).await,
    ];
    let peer = |name: &str, cidr: &str, ip: Ipv4Addr| Peer {
        name: name.into(),
        pod_cidrs: vec![cidr.parse().unwrap()],
        node_ips: vec![ip.into()],
    };
    let peers = [peer("one", CIDR_1, NODE_1), peer("two", CIDR_2, NODE_2)];
    for network in &networks {
        network.set_peers(&peers).await.unwrap();
    }
    let (a, b) = (Namespace::new(), Namespace::new());
    let added = |dir: &tempfile::TempDir, id: &str, pod: &Namespace, node: &Namespace| {
        let status = Call::new("STATUS", "1.1.0", dir.path());
        let started = std::time::Instant::now();
        while !status.run().ok {
            assert!(started.elapsed() < TIMEOUT, "nobody answers");
        }
        let args = match id {
            "a" => "K8S_POD_NAMESPACE=ns;K8S_POD_NAME=a;K8S_POD_UID=1",
            _ => "K8S_POD_NAMESPACE=ns;K8S_POD_NAME=b",
        };
        let call = call("ADD", dir.path(), id, pod).with("CNI_ARGS", args);
        ip(&call.run_in(node).unwrap())
    };
    let a_ip = added(&dirs[0], "a", &a, &one);
    let b_ip = added(&dirs[1], "b", &b, &two);
    assert_eq!(tcp(&a, &b, b_ip), a_ip);
    assert_eq!(tcp(&b, &a, a_ip), b_ip);
    // As those of the node's own runtime are, for the programs in the kernel.
    let told = networks[0].pods().borrow().clone().unwrap();
    assert_eq!(told[&a_ip].netns, a.cookie());
    // And for the policies of the API's pods, one of which is known by all that it takes.
    let owner = Owner {
        namespace: "ns".into(),
        name: "a".into(),
        uid: "1".into(),
    };
    let owners = networks
        .each_ref()
        .map(|network| network.owners().borrow().clone());
    let [of_one, of_two] = owners.map(|told| told.unwrap());
    assert_eq!(*of_one, Owners::from([(a_ip, owner)]));
    assert!(of_two.is_empty(), "{of_two:?}");
}
