//! Programs at pods' links and uplinks, by tcx and by clsact filters.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{IpAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};

use vetch_ebpf_common::Pod as PodValue;
use vetch_network::PodOptions;
use vetch_proxy::{
    Exposure,
    Kind::{self, Clsact, Tcx},
    Protocol::Udp,
    Target,
};

use crate::{
    cell::{service, wait_for},
    servers::{Server, TIMEOUT, ask, udp_client},
    site::{self, Daemon, NODE, Namespace, OUTSIDE, Pod, Site, UPLINK, forwarded, shell},
};

const KINDS: [Kind; 2] = [Tcx, Clsact];

/// Some segments each way over a new connection; the client's address as the
/// server sees it.
fn exchange(client: &Namespace, server: &Namespace, ip: IpAddr) -> IpAddr {
    let listener = server.run(|| TcpListener::bind((ip, 0)).unwrap());
    let target = listener.local_addr().unwrap();
    let mut stream = client
        .run(|| TcpStream::connect_timeout(&target, TIMEOUT))
        .unwrap();
    let (mut accepted, from) = listener.accept().unwrap();
    let mut bytes = vec![7; 100_000];
    let sent = bytes.clone();
    std::thread::scope(|scope| {
        scope.spawn(|| stream.write_all(&sent).unwrap());
        accepted.set_read_timeout(Some(TIMEOUT)).unwrap();
        accepted.read_exact(&mut bytes).unwrap();
    });
    from.ip()
}

/// By `tc`, line by line.
fn filters(link: &str, direction: &str) -> Vec<String> {
    let shown = shell(&format!("tc filter show dev {link} {direction}"));
    shown.lines().map(ToOwned::to_owned).collect()
}

fn has_filter(link: &str, direction: &str, program: &str) -> bool {
    let filters = filters(link, direction);
    let ours = |line: &&String| line.contains(&format!("vetch/{program} direct-action"));
    filters.iter().filter(ours).count() == 1
        && filters
            .iter()
            .all(|line| line.contains(" pref 86 ") || !line.contains("bpf"))
}

#[test]
fn packets_between_pods_skip_the_stack_unless_a_pod_wants_it() {
    for kind in KINDS {
        let site = Site::new();
        let (a, b) = (site.pod("a"), site.pod("b"));
        let opted_out = PodOptions {
            by_stack: true,
            ..PodOptions::default()
        };
        let c = site.pod_with("c", opted_out);
        let passed = |from: &Namespace, to: &crate::site::Pod, source: IpAddr| {
            let before = forwarded();
            assert_eq!(exchange(from, &to.namespace, to.ip), source);
            forwarded() - before
        };
        let before = passed(&a.namespace, &b, a.ip);
        assert!(before > 2, "{before} packets, nothing attached");
        let daemon = site.started("a", kind);
        assert_eq!(passed(&a.namespace, &b, a.ip), 0, "{kind:?}");
        assert_eq!(passed(&b.namespace, &a, b.ip), 0, "{kind:?}");
        for (from, to) in [(&a, &c), (&c, &a)] {
            let by_stack = passed(&from.namespace, to, from.ip);
            assert!(by_stack > 2, "{by_stack} {kind:?}");
        }
        let outside: IpAddr = OUTSIDE.parse().unwrap();
        assert_eq!(exchange(&site.outside, &a.namespace, a.ip), outside);
        assert_eq!(exchange(&a.namespace, &site.outside, outside), a.ip);
        drop(daemon);
    }
}

#[test]
fn pods_are_known_while_their_programs_are_there() {
    for kind in KINDS {
        let site = Site::new();
        let options = PodOptions {
            by_stack: true,
            tcp_by_packet: true,
            ..PodOptions::default()
        };
        let (a, b) = (site.pod("a"), site.pod_with("b", options));
        let mut daemon = site.daemon("a", kind);
        assert_eq!(daemon.kernel().pods.len(), 0, "nothing is attached yet");
        daemon.follow.act();
        let kernel = daemon.kernel();
        let published = site.network.pods().borrow().clone().unwrap();
        assert_eq!(kernel.pods.len(), 2);
        for (pod, flags) in [
            (&a, PodValue::UDP_BY_PACKET),
            (
                &b,
                PodValue::UDP_BY_PACKET | PodValue::BY_STACK | PodValue::TCP_BY_PACKET,
            ),
        ] {
            let expected = PodValue {
                flags,
                ..published[&pod.ip]
            };
            assert_eq!(kernel.pods[&pod.ip], expected);
            assert_eq!(kernel.netns[&expected.netns], flags);
        }
        assert_eq!(kernel.netns.len(), 2);
        let uplinks = daemon.follow.uplinks();
        assert_eq!(uplinks.len(), 1);
        assert_eq!(
            uplinks[0].index,
            nix::net::if_::if_nametoindex(UPLINK).unwrap()
        );
        let own: BTreeSet<IpAddr> = [NODE.parse().unwrap()].into();
        assert_eq!(*daemon.follow.node_addresses(), own);

        // One goes, one comes, and so does an address.
        site.detach(&a);
        let c = site.pod("c");
        site.until(&mut daemon, "the change of pods", || {
            let published = site.network.pods().borrow().clone().unwrap();
            published.len() == 2
        });
        daemon.follow.act();
        let kernel = daemon.kernel();
        let known: BTreeSet<IpAddr> = kernel.pods.keys().copied().collect();
        assert_eq!(known, [b.ip, c.ip].into());
        assert_eq!(kernel.netns.len(), 2);
        shell(&format!("ip address add 192.0.2.7/32 dev {UPLINK}"));
        site.tokio.block_on(daemon.follow.due());
        daemon.follow.act();
        assert!(
            daemon
                .follow
                .node_addresses()
                .contains(&"192.0.2.7".parse().unwrap())
        );
        let loaded = vetch_proxy::loaded(&daemon.pin_dir).unwrap();
        let hooks: Vec<&str> = loaded.iter().map(|one| one.hook.as_str()).collect();
        assert_eq!(hooks, ["from_net", "from_pod", "to_net", "to_pod"]);
        if kind == Tcx {
            let pins = [
                "from_net", "from_pod", "from_pod", "to_net", "to_pod", "to_pod",
            ];
            assert_eq!(daemon.pins(), pins, "and none of the link that went");
        } else {
            assert_eq!(daemon.pins(), [""; 0]);
            for pod in [&b, &c] {
                assert!(has_filter(&pod.link, "ingress", "from_pod"));
                assert!(has_filter(&pod.link, "egress", "to_pod"));
            }
            assert!(has_filter(UPLINK, "ingress", "from_net"));
            assert!(has_filter(UPLINK, "egress", "to_net"));
        }
    }
}

#[test]
fn a_filter_that_somebody_deletes_comes_back() {
    let site = Site::new();
    let a = site.pod("a");
    let mut daemon = site.started("a", Clsact);
    for command in [
        format!("tc filter del dev {} ingress pref 86", a.link),
        format!("tc filter del dev {UPLINK} egress"),
        format!("tc qdisc del dev {} clsact", a.link),
        format!("tc qdisc del dev {UPLINK} clsact"),
    ] {
        shell(&command);
        site.until(&mut daemon, &command, || {
            has_filter(&a.link, "ingress", "from_pod")
                && has_filter(&a.link, "egress", "to_pod")
                && has_filter(UPLINK, "ingress", "from_net")
                && has_filter(UPLINK, "egress", "to_net")
        });
    }
}

#[test]
fn the_audit_finds_links_and_entries_that_somebody_took() {
    let site = Site::new();
    let (a, b) = (site.pod("a"), site.pod("b"));
    let mut daemon = site.started("a", Tcx);
    let (pins, kernel) = (daemon.pins(), daemon.kernel());
    for entry in std::fs::read_dir(daemon.pin_dir.join("links")).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().contains("_pod-") {
            std::fs::remove_file(path).unwrap();
        }
    }
    // The kernel takes its time to end a link without a pin, and refuses to
    // have a program twice at a place.
    let before = forwarded();
    wait_for("the programs to be gone", || {
        exchange(&a.namespace, &b.namespace, b.ip);
        forwarded() > before
    });
    daemon.follow.audit();
    let dir = daemon.pin_dir.clone();
    site.until(&mut daemon, "the programs", || site::pins(&dir) == pins);
    assert_eq!(daemon.kernel(), kernel);
    let before = forwarded();
    exchange(&a.namespace, &b.namespace, b.ip);
    assert_eq!(forwarded(), before);
}

#[test]
fn programs_of_others_are_left_alone() {
    for kind in KINDS {
        let site = Site::new();
        let a = site.pod("a");
        // Another daemon of the kind is as strange to ours as any.
        let other = site.started("other", Tcx);
        shell(&format!("tc qdisc replace dev {UPLINK} clsact"));
        for pref in [1, 86, 49152] {
            let filter = "protocol all u32 match u32 0xffffffff 0xffffffff";
            shell(&format!(
                "tc filter add dev {UPLINK} ingress pref {pref} {filter}"
            ));
        }
        let before = filters(UPLINK, "ingress");
        let mut daemon = site.daemon("a", kind);
        daemon.follow.act();
        if kind == Tcx {
            assert_eq!(daemon.pins().len(), 4);
            assert_eq!(filters(UPLINK, "ingress"), before);
        } else {
            // Its number is taken there by a filter of another kind.
            assert!(has_filter(UPLINK, "egress", "to_net"));
            assert!(has_filter(&a.link, "ingress", "from_pod"));
            assert_eq!(filters(UPLINK, "ingress"), before);
            shell(&format!("tc filter del dev {UPLINK} ingress pref 86"));
            site.until(&mut daemon, "a place for ours", || {
                has_filter(UPLINK, "ingress", "from_net")
            });
            let now = filters(UPLINK, "ingress");
            let others = |line: &&String| !line.contains(" pref 86 ");
            assert!(before.iter().filter(others).all(|line| now.contains(line)));
        }
        assert_eq!(other.pins().len(), 4);
        // The end of one node is not that of the other.
        vetch_proxy::remove(&daemon.pin_dir).unwrap();
        assert_eq!(other.pins().len(), 4);
        assert!(
            filters(UPLINK, "ingress")
                .iter()
                .all(|line| !line.contains("vetch/"))
        );
        assert!(filters(&a.link, "ingress").is_empty());
    }
}

#[test]
fn a_daemon_that_does_not_know_its_pods_yet_leaves_them_as_they_are() {
    for kind in KINDS {
        let site = Site::new();
        let (a, b) = (site.pod("a"), site.pod("b"));
        let first = site.started("a", kind);
        let kernel = first.kernel();
        drop(first);
        let site = site.restart_network();
        let mut second = site.daemon("a", kind);
        second.follow.act();
        assert_eq!(second.kernel(), kernel, "pods are not known yet");
        let before = forwarded();
        exchange(&a.namespace, &b.namespace, b.ip);
        assert_eq!(forwarded(), before);
        site.adopt(&[&a]);
        second.follow.act();
        assert_eq!(second.kernel().pods.keys().collect::<Vec<_>>(), [&a.ip]);
    }
}

/// Runs `disturb` while a pod and a host outside connect to a pod all the time,
/// and datagrams go to it and back one by one; returns how many connections
/// there were and every failure. TCP would send again what is lost; of
/// datagrams each counts.
fn under_load(
    site: &Site,
    [a, b]: [&Pod; 2],
    disturb: impl FnOnce(&AtomicU32),
) -> (u32, Vec<String>) {
    let (tcp, udp) = b
        .namespace
        .run(|| (Server::tcp_at(b.ip, 9), Server::udp_at(b.ip, 9)));
    let (stop, done) = (AtomicBool::new(false), AtomicU32::new(0));
    let connect = || {
        let mut failures = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            if let Err(error) = ask(&tcp.address.to_string()) {
                failures.push(format!("connection: {error}"));
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
        failures
    };
    let send = || {
        let socket = udp_client();
        socket.connect(udp.address).unwrap();
        let mut failures = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let answer = socket.send(b"?").and_then(|_| socket.recv(&mut [0]));
            if let Err(error) = answer {
                failures.push(format!("datagram: {error}"));
            }
        }
        failures
    };
    let failures = std::thread::scope(|scope| {
        let from = [&a.namespace, &site.outside];
        let connecting = from.map(|from| scope.spawn(move || from.run(connect)));
        let sending = from.map(|from| scope.spawn(move || from.run(send)));
        wait_for("the first connections", || {
            done.load(Ordering::Relaxed) > 10
        });
        disturb(&done);
        stop.store(true, Ordering::Relaxed);
        let clients = connecting.into_iter().chain(sending);
        clients.flat_map(|client| client.join().unwrap()).collect()
    });
    // Where their addresses are: each is woken by a datagram from its own.
    b.namespace.run(|| drop((tcp, udp)));
    (done.load(Ordering::Relaxed), failures)
}

fn meanwhile(done: &AtomicU32) {
    let from = done.load(Ordering::Relaxed);
    wait_for("clients to go on", || {
        done.load(Ordering::Relaxed) > from + 10
    });
}

#[test]
fn daemons_hand_over_under_load_without_loss() {
    // Also from one way of holding programs to the other.
    for kinds in [[Tcx, Tcx], [Clsact, Clsact], [Clsact, Tcx]] {
        let site = Site::new();
        let pods = [site.pod("client"), site.pod("server")];
        // The first filter at a link costs packets, the following none.
        drop(site.started("a", kinds[0]));
        let (connections, failures) = under_load(&site, pods.each_ref(), |done| {
            for kind in kinds.iter().cycle().take(6) {
                let mut daemon = site.started("a", *kind);
                meanwhile(done);
                let kernel = daemon.kernel();
                assert_eq!(kernel.pods.len(), 2);
                daemon.follow.audit();
                assert_eq!(daemon.kernel(), kernel);
            }
            meanwhile(done);
        });
        assert_eq!(failures, Vec::<String>::new(), "of {connections}");
    }
}

#[test]
fn uplinks_follow_the_default_routes() {
    for kind in KINDS {
        let site = Site::new();
        let mut daemon = site.started("a", kind);
        shell("ip link add more type veth peer name more-in");
        shell("ip address add 192.0.2.1/24 dev more");
        shell("ip link set more up");
        shell("ip link set more-in up");
        let is_there = |daemon: &Daemon| {
            let index = nix::net::if_::if_nametoindex("more").unwrap();
            daemon
                .follow
                .uplinks()
                .iter()
                .any(|uplink| uplink.index == index)
        };
        let held = |daemon: &Daemon| {
            if kind == Tcx {
                daemon.pins().len() == 4
            } else {
                has_filter("more", "ingress", "from_net")
            }
        };
        assert!(!is_there(&daemon));
        for (change, wanted) in [
            ("ip route add default via 192.0.2.9 dev more", true),
            ("ip route del default", false),
            ("ip -6 route add default dev more", true),
            ("ip -6 route del default dev more", false),
        ] {
            shell(change);
            // What fails while routes change is tried again.
            while (is_there(&daemon), held(&daemon)) != (wanted, wanted) {
                site.tokio.block_on(daemon.follow.due());
                daemon.follow.act();
            }
        }
    }
}

#[test]
fn nothing_is_attached_from_another_network_namespace() {
    let site = Site::new();
    let mut daemon = site.daemon("a", Tcx);
    let elsewhere = Namespace::new();
    elsewhere.run(|| daemon.follow.act());
    assert_eq!(daemon.pins(), [""; 0]);
    daemon.follow.act();
    assert_eq!(daemon.pins(), ["from_net", "to_net"]);
}

/// Whether a datagram to `to` from `client` is answered, from where it was sent to.
fn answered(client: &Namespace, to: &str) -> bool {
    client.run(|| {
        let socket = udp_client();
        socket
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        socket.connect(to).unwrap();
        (0..3).any(|_| {
            socket
                .send(b"?")
                .and_then(|_| socket.recv(&mut [0]))
                .is_ok()
        })
    })
}

/// UDP, for that is balanced by the packet. However strict the stack is about
/// where packets come from, and without any route to the service's address.
#[test]
fn services_reach_pods_by_the_stack_and_backends_elsewhere() {
    const VIP: &str = "10.96.0.10:53";
    const FAR: &str = "10.244.2.7";
    let node_port = format!("{NODE}:30053");
    for kind in KINDS {
        let site = Site::new();
        for link in ["all", UPLINK] {
            let path = format!("/proc/sys/net/ipv4/conf/{link}/rp_filter");
            std::fs::write(path, "1").unwrap();
        }
        shell(&format!("ip route add 10.244.2.0/24 via {OUTSIDE}"));
        site.outside
            .run(|| shell(&format!("ip address add {FAR}/32 dev up1")));
        let by_stack = || PodOptions {
            by_stack: true,
            ..PodOptions::default()
        };
        let (a, b) = (site.pod("a"), site.pod("b"));
        let (c, d) = (
            site.pod_with("c", by_stack()),
            site.pod_with("d", by_stack()),
        );
        let mut daemon = site.started("a", kind);
        // Not at sockets: the host outside is in the test's cgroup as well.
        let own = [(NODE.parse().unwrap(), vetch_ebpf_common::addresses::NODE)];
        daemon.proxy.set_node_addresses(own.into()).unwrap();
        let uplinks = daemon.follow.uplinks();
        daemon.proxy.set_uplinks(&uplinks).unwrap();
        let mut failed = Vec::new();
        for (name, namespace, ip) in [
            ("b", &b.namespace, b.ip),
            ("d, by the stack", &d.namespace, d.ip),
            ("far", &site.outside, FAR.parse().unwrap()),
        ] {
            let server = namespace.run(|| Server::udp_at(ip, 9));
            let backends = vec![crate::cell::backend(server.address)];
            let target = Target {
                cluster: backends.clone(),
                serving: backends,
                ..Target::default()
            };
            let external = Exposure {
                external: true,
                source_ranges: false,
            };
            let frontends = [(VIP, Exposure::CLUSTER), ("0.0.0.0:30053", external)];
            let all = [service(&frontends, Udp, target)];
            assert_eq!(daemon.proxy.sync_all(&all.into()), []);
            for (client, from, to) in [
                ("a", &a.namespace, VIP),
                ("a", &a.namespace, &node_port),
                ("c, by the stack", &c.namespace, VIP),
                ("c, by the stack", &c.namespace, &node_port),
                ("outside", &site.outside, &node_port),
            ] {
                if !answered(from, to) {
                    failed.push(format!("{client} at {to} from {name}"));
                }
            }
            namespace.run(|| drop(server));
        }
        assert_eq!(failed, [""; 0], "{kind:?}");
    }
}
