//! What people are shown of single calls and packets, against what really happens.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use nix::unistd::gettid;
use serde_json::json;
use vetch_proxy::{
    Exposure, Kind,
    Protocol::{Tcp, Udp},
    Target,
    inspect::{self, FlowEvent, FlowFilter, Opening, Outcome, Question, Trace, Verdict},
};

use crate::{
    api::Api,
    cell::{Services, backend, service, services},
    host_ports::{Running, until},
    network_policies::{PORT, api_pod, drain, namespace, policy, reaches},
    site::{Daemon, NODE, OUTSIDE, Pod, Site},
};

/// When a connection is there that comes at all.
const SOON: Duration = Duration::from_secs(1);

const WEB: &str = "10.96.0.10:80";
const DNS: &str = "10.96.0.10:53";
const EMPTY: &str = "10.96.0.11:80";
const NO_PORT: &str = "10.96.0.10:81";
const NODE_PORT: &str = "172.30.0.1:30080";

struct Servers {
    tcp: TcpListener,
    _udp: UdpSocket,
}

/// A pod that serves, and what leads to it.
fn served(pod: &Pod) -> (Servers, Services) {
    let at = SocketAddr::new(pod.ip, PORT);
    let servers = pod.namespace.run(|| Servers {
        tcp: TcpListener::bind(at).unwrap(),
        _udp: UdpSocket::bind(at).unwrap(),
    });
    let mut all = services(&[(WEB, Tcp, &[at]), (DNS, Udp, &[at]), (EMPTY, Tcp, &[])]);
    let target = Target {
        cluster: vec![backend(at)],
        ..Target::default()
    };
    all.extend([service(
        &[("0.0.0.0:30080", Exposure::EXTERNAL)],
        Tcp,
        target,
    )]);
    (servers, all)
}

fn serving(site: &Site, all: &Services) -> Daemon {
    let mut daemon = site.serving(site.config("a"), Kind::Tcx, all);
    daemon.proxy.programs().attach().unwrap();
    daemon
}

#[test]
fn what_begins_is_told_of_while_somebody_follows() {
    let site = Site::new();
    let [client, server] = ["client", "server"].map(|name| site.pod(name));
    let (_servers, all) = served(&server);
    let daemon = serving(&site, &all);
    let mut events = inspect::events(&daemon.pin_dir).unwrap();
    let connect = |to: &str| {
        let to: SocketAddr = to.parse().unwrap();
        let stream = TcpStream::connect_timeout(&to, SOON);
        stream.map(drop)
    };
    client.namespace.run(|| connect(WEB)).unwrap();
    assert_eq!(events.read(), [], "nobody follows");

    events.follow().unwrap();
    client.namespace.run(|| connect(WEB)).unwrap();
    let source_port = client.namespace.run(|| {
        let socket = UdpSocket::bind((client.ip, 0)).unwrap();
        for _ in 0..2 {
            socket.send_to(b"x", DNS).unwrap();
        }
        socket.local_addr().unwrap().port()
    });
    client.namespace.run(|| connect(EMPTY)).unwrap_err();
    // To nobody's service, and held by no policy.
    let straight = SocketAddr::new(server.ip, PORT).to_string();
    client.namespace.run(|| connect(&straight)).unwrap();
    let told = events.read();
    let number = |at: &str| {
        let numbers = inspect::numbers(&daemon.pin_dir, &[at.parse().unwrap()]).unwrap();
        numbers.first().copied()
    };
    let at_server = Some(SocketAddr::new(server.ip, PORT));
    let short = |event: &FlowEvent| {
        (
            event.verdict,
            event.hook,
            (event.source, event.source_port),
            event.backend,
            event.service,
        )
    };
    let told_short: Vec<_> = told.iter().map(short).collect();
    let pod = Some(client.ip);
    assert_eq!(
        told_short,
        [
            (
                Verdict::Translate,
                "connect",
                (pod, None),
                at_server,
                number("10.96.0.10:80/TCP"),
            ),
            (
                Verdict::Translate,
                "from_pod",
                (pod, Some(source_port)),
                at_server,
                number("10.96.0.10:53/UDP"),
            ),
            (
                Verdict::Refusal,
                "connect",
                (pod, None),
                None,
                number("10.96.0.11:80/TCP"),
            ),
        ]
    );
    assert_eq!(told[2].reason, Some("no-endpoints"));
    assert_eq!(events.missed().unwrap(), 0);
    let of_server = FlowFilter {
        pod: Some(server.ip),
        ..FlowFilter::default()
    };
    assert_eq!(told.iter().filter(|one| of_server.lets(one)).count(), 2);
    // Another reader finds the same.
    assert_eq!(inspect::events(&daemon.pin_dir).unwrap().read().len(), 3);
}

#[test]
fn a_process_of_the_node_is_told_of_once_a_backend() {
    let site = Site::new();
    let server = site.pod("server");
    let (_servers, all) = served(&server);
    let daemon = serving(&site, &all);
    let mut events = inspect::events(&daemon.pin_dir).unwrap();
    events.follow().unwrap();
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    for _ in 0..3 {
        socket.send_to(b"x", DNS).unwrap();
    }
    let told: Vec<_> = events
        .read()
        .into_iter()
        .map(|event| (event.verdict, event.hook, event.source))
        .collect();
    assert_eq!(told, [(Verdict::Translate, "sendmsg", None)]);
}

fn asked(src: IpAddr, dst: SocketAddr) -> Question {
    Question {
        src,
        dst: dst.ip(),
        what: Opening::Port(Tcp, dst.port()),
    }
}

fn traced(daemon: &std::path::Path, src: IpAddr, dst: &str) -> Trace {
    inspect::trace(daemon, &asked(src, dst.parse().unwrap())).unwrap()
}

/// What becomes of a connection, in a trace's words.
fn probe(to: &str) -> Outcome {
    let to: SocketAddr = to.parse().unwrap();
    let Err(error) = TcpStream::connect_timeout(&to, SOON) else {
        return Outcome::Delivered;
    };
    match error.kind() {
        ErrorKind::ConnectionRefused => Outcome::Refused,
        ErrorKind::TimedOut => Outcome::Dropped,
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable => Outcome::Unreachable,
        _ => panic!("{to}: {error}"),
    }
}

#[test]
fn a_trace_says_what_happens() {
    let site = Site::new();
    let [client, server] = ["client", "server"].map(|name| site.pod(name));
    let (servers, mut all) = served(&server);
    // Of which no endpoint is here.
    let elsewhere = Target {
        internal_local: true,
        cluster: vec![backend("10.244.2.9:8000".parse().unwrap())],
        ..Target::default()
    };
    let local = "10.96.0.12:80";
    all.extend([service(&[(local, Exposure::CLUSTER)], Tcp, elsewhere)]);
    let daemon = serving(&site, &all);
    let straight = SocketAddr::new(server.ip, PORT).to_string();
    // Without a default route.
    let nowhere = "203.0.113.7:80";
    let outer = site.cell.outer_cgroup();
    let (node, outside): (IpAddr, IpAddr) = (NODE.parse().unwrap(), OUTSIDE.parse().unwrap());
    for (src, dst, expected) in [
        (client.ip, straight.as_str(), Outcome::Delivered),
        (client.ip, WEB, Outcome::Delivered),
        (client.ip, NODE_PORT, Outcome::Delivered),
        (client.ip, EMPTY, Outcome::Refused),
        (client.ip, NO_PORT, Outcome::Refused),
        (client.ip, local, Outcome::Dropped),
        (client.ip, nowhere, Outcome::Unreachable),
        (node, straight.as_str(), Outcome::Delivered),
        (node, WEB, Outcome::Delivered),
        (node, EMPTY, Outcome::Refused),
        (node, nowhere, Outcome::Unreachable),
        (outside, straight.as_str(), Outcome::Delivered),
        (outside, NODE_PORT, Outcome::Delivered),
        (outside, NO_PORT, Outcome::Refused),
        (outside, EMPTY, Outcome::Refused),
        (outside, local, Outcome::Dropped),
    ] {
        let trace = traced(&daemon.pin_dir, src, dst);
        let said: Vec<Outcome> = trace.ways.iter().map(|way| way.outcome).collect();
        assert_eq!(said, [expected], "{src} -> {dst}: {trace:#?}");
        let happens = if src == node {
            probe(dst)
        } else if src == outside {
            site.outside.run(|| {
                // Else the socket would be one of this node's.
                fs::write(&outer, gettid().to_string()).unwrap();
                probe(dst)
            })
        } else {
            client.namespace.run(|| probe(dst))
        };
        assert_eq!(happens, expected, "{src} -> {dst}: {trace:#?}");
    }
    let trace = traced(&daemon.pin_dir, client.ip, WEB);
    assert_eq!(
        trace.ways[0].backend,
        Some(servers.tcp.local_addr().unwrap())
    );
    let last = &trace.ways[0].hops.last().unwrap().what;
    assert!(last.contains("bpf_redirect_peer"), "{trace:#?}");
    assert!(last.contains(&server.link), "{trace:#?}");
}

#[test]
fn policies_are_told_of_and_traced() {
    let site = Site::new();
    let api = Api::new();
    let pods = ["server", "client", "other"].map(|name| site.pod(name));
    let [server, client, other] = &pods;
    let at = SocketAddr::from((server.ip, PORT));
    let listener = server.namespace.run(|| TcpListener::bind(at).unwrap());
    api.set("namespaces", namespace());
    for pod in &pods {
        api.set("pods", api_pod(pod));
    }
    let running = Running::start(&site, &api);
    let client_only = json!([{
        "from": [{"podSelector": {"matchLabels": {"app": "client"}}}],
        "ports": [{"port": "web"}],
    }]);
    api.set("networkpolicies", policy("allow", client_only));
    let pin_dir = site.config("a").pin_dir;
    // Policies hold before the Services are all known.
    until(&site, "the policy holds, and the daemon is in sync", || {
        drain(&listener);
        reaches(Some(&client.namespace), at)
            && !reaches(Some(&other.namespace), at)
            && inspect::trace(&pin_dir, &asked(client.ip, at)).is_ok()
    });
    running.stop(&site);

    for (pod, outcome, reason) in [
        (client, Outcome::Delivered, None),
        (other, Outcome::Dropped, Some("policy-ingress")),
    ] {
        let trace = traced(&pin_dir, pod.ip, &at.to_string());
        let way = &trace.ways[0];
        assert_eq!((way.outcome, way.reason), (outcome, reason), "{trace:#?}");
    }
    let mut events = inspect::events(&pin_dir).unwrap();
    events.read();
    events.follow().unwrap();
    assert!(reaches(Some(&client.namespace), at));
    assert!(!reaches(Some(&other.namespace), at));
    let told = events.read();
    let of = |pod: &Pod| {
        let own = told.iter().find(|event| event.source == Some(pod.ip));
        own.unwrap_or_else(|| panic!("{told:#?}"))
    };
    let allowed = of(client);
    assert_eq!(
        (allowed.verdict, allowed.hook),
        (Verdict::Allow, "from_pod")
    );
    assert_eq!(allowed.destination, Some(server.ip));
    assert!(allowed.source_identity.is_some(), "{allowed:#?}");
    let dropped = of(other);
    assert_eq!(dropped.verdict, Verdict::Drop);
    assert_eq!(dropped.reason, Some("policy-ingress"));
}

/// The node's own end does not see what goes straight into a pod.
#[test]
fn what_pods_send_and_receive_is_counted_at_their_end() {
    const BYTES: usize = 1 << 20;
    let site = Site::new();
    let [client, server] = ["client", "server"].map(|name| site.pod(name));
    let daemon = site.started("a", Kind::Tcx);
    let at = SocketAddr::from((server.ip, PORT));
    let listener = server.namespace.run(|| TcpListener::bind(at).unwrap());
    let counted = || {
        let traffic = inspect::paths(&daemon.pin_dir).unwrap().traffic;
        (traffic[&client.ip], traffic[&server.ip])
    };
    let (client_before, server_before) = counted();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut accepted, _) = listener.accept().unwrap();
            let mut all = Vec::new();
            accepted.read_to_end(&mut all).unwrap();
            assert_eq!(all.len(), BYTES);
        });
        client.namespace.run(|| {
            let mut stream = TcpStream::connect_timeout(&at, SOON).unwrap();
            stream.write_all(&vec![0; BYTES]).unwrap();
        });
    });
    let (client_after, server_after) = counted();
    let grew = |after: u64, before: u64| after - before >= BYTES as u64;
    assert!(grew(client_after.sent_bytes, client_before.sent_bytes));
    assert!(
        grew(server_after.received_bytes, server_before.received_bytes),
        "{server_before:?} {server_after:?}: Linux before 6.7 does not count what is redirected"
    );
    assert!(server_after.received_packets > server_before.received_packets);
    assert!(client_after.sent_packets > client_before.sent_packets);
}
