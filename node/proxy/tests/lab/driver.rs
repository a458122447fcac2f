//! The program at the uplink's driver: a client and a backend on another node,
//! each on a link of its own behind a switch.

use std::{
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    thread,
    time::{Duration, Instant},
};

use aya::{
    programs::loaded_programs,
    sys::{Stats, enable_stats},
};
use nix::sys::{
    socket::{setsockopt, sockopt},
    time::{TimeVal, TimeValLike as _},
};
use vetch_ebpf_common::addresses;
use vetch_ebpf_tests::{pass_at_driver, set_checksum_offload};
use vetch_proxy::{
    Exposure,
    Kind::Tcx,
    ObjectName,
    Protocol::{self, Tcp, Udp},
    ServicePort, Target, Xdp,
};

use crate::{
    cell::{backend, service},
    servers::{Server, TIMEOUT, there_and_back, udp_client},
    site::{Daemon, NODE, Namespace, OUTSIDE, Site, UPLINK, shell},
};

const CLIENT: &str = "172.30.0.3";
const OTHER_NODE: &str = "172.30.0.4";
const FAR: &str = "10.244.2.7";
const EXTERNAL: Exposure = Exposure {
    external: true,
    source_ranges: false,
};

struct Town {
    client: Namespace,
    other: Namespace,
    site: Site,
    _program: OwnedFd,
}

/// What was outside is a switch now.
fn town() -> Town {
    let site = Site::new();
    let (client, other) = (Namespace::new(), Namespace::new());
    let program = site.outside.run(|| {
        shell("ip link add switch type bridge");
        shell(&format!("ip address del {OUTSIDE}/24 dev up1"));
        shell("ip link set up1 master switch");
        shell("ip link set switch up");
        for (device, end) in [("port1", &client), ("port2", &other)] {
            shell(&format!("ip link add {device} type veth peer name eth0"));
            end.adopt("eth0");
            shell(&format!("ip link set {device} master switch"));
            shell(&format!("ip link set {device} up"));
        }
        pass_at_driver("up1")
    });
    for (end, address) in [(&client, CLIENT), (&other, OTHER_NODE)] {
        end.run(|| {
            shell(&format!("ip address add {address}/24 dev eth0"));
            shell("ip link set eth0 up");
            shell("ip link set lo up");
        });
    }
    other.run(|| shell(&format!("ip address add {FAR}/32 dev lo")));
    shell(&format!("ip route add 10.244.2.0/24 via {OTHER_NODE}"));
    Town {
        client,
        other,
        site,
        _program: program,
    }
}

type Named = (ObjectName, Vec<ServicePort>);

/// With one backend.
fn node_port(protocol: Protocol, to: SocketAddr) -> Named {
    let target = Target {
        cluster: vec![backend(to)],
        serving: vec![backend(to)],
        ..Target::default()
    };
    service(&[("0.0.0.0:30053", EXTERNAL)], protocol, target)
}

fn serve<const N: usize>(daemon: &mut Daemon, services: [Named; N]) {
    let own = [(NODE.parse().unwrap(), addresses::NODE)];
    daemon.proxy.set_node_addresses(own.into()).unwrap();
    let uplinks = daemon.follow.uplinks();
    daemon.proxy.set_uplinks(&uplinks).unwrap();
    assert_eq!(daemon.proxy.sync_all(&services.into()), []);
}

/// A server in another namespace, which it takes to end it.
struct Away<'a> {
    namespace: &'a Namespace,
    address: SocketAddr,
    server: Option<Server>,
}

impl<'a> Away<'a> {
    fn new(namespace: &'a Namespace, start: impl FnOnce() -> Server + Send) -> Self {
        let server = namespace.run(start);
        Self {
            namespace,
            address: server.address,
            server: Some(server),
        }
    }
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        self.namespace.run(|| drop(self.server.take()));
    }
}

impl Town {
    /// A virtual link leaves checksums to its other end, unless it is told not
    /// to: then its frames are like those of a wire.
    fn like_a_wire(&self, yes: bool) {
        for end in [&self.client, &self.other] {
            end.run(|| set_checksum_offload("eth0", !yes));
        }
    }

    /// Much there and back over new connections, and datagrams.
    fn ask(&self, daemon: &mut Daemon) {
        let far = FAR.parse().unwrap();
        let listener = self.other.run(|| TcpListener::bind((FAR, 0)).unwrap());
        // Of `accept` too.
        let limit = TimeVal::seconds(TIMEOUT.as_secs().cast_signed());
        setsockopt(&listener, sockopt::ReceiveTimeout, &limit).unwrap();
        let udp = Away::new(&self.other, || Server::udp_at(far, 9));
        let tcp = node_port(Tcp, listener.local_addr().unwrap());
        serve(daemon, [tcp, node_port(Udp, udp.address)]);
        for _ in 0..3 {
            self.exchange(&listener);
        }
        self.client.run(|| {
            let socket = udp_client();
            socket.connect((NODE, 30053)).unwrap();
            for _ in 0..50 {
                socket.send(b"?").unwrap();
                let mut id = [0];
                socket.recv(&mut id).unwrap();
                assert_eq!(id, [9]);
            }
        });
    }

    fn exchange(&self, listener: &TcpListener) {
        let node = format!("{NODE}:30053").parse().unwrap();
        let mut stream = self
            .client
            .run(|| TcpStream::connect_timeout(&node, TIMEOUT))
            .unwrap();
        let (mut accepted, from) = listener.accept().unwrap();
        assert_eq!(from.ip().to_string(), NODE);
        for end in [&stream, &accepted] {
            end.set_read_timeout(Some(TIMEOUT)).unwrap();
            end.set_write_timeout(Some(TIMEOUT)).unwrap();
        }
        there_and_back(&mut stream, &mut accepted);
    }
}

/// The number of the program at a hook.
fn program(daemon: &Daemon, hook: &str) -> Option<u32> {
    let loaded = vetch_proxy::loaded(&daemon.pin_dir).unwrap();
    let found = loaded.iter().find(|one| one.hook == hook)?;
    Some(found.id)
}

/// How often programs have run while statistics were kept.
fn runs<const N: usize>(daemon: &Daemon, hooks: [&str; N]) -> [u64; N] {
    hooks.map(|hook| {
        let id = program(daemon, hook).unwrap();
        let mut all = loaded_programs().filter_map(Result::ok);
        all.find(|info| info.id() == id).unwrap().run_count()
    })
}

#[test]
fn packets_for_other_nodes_skip_the_stack() {
    let town = town();
    let _statistics = enable_stats(Stats::RunTime).unwrap();
    // And the next daemon's.
    for _ in 0..2 {
        let mut daemon = town.site.daemon_with("a", Tcx, Xdp::Native);
        daemon.follow.act();
        town.like_a_wire(true);
        town.ask(&mut daemon);
        let [wire, net] = runs(&daemon, ["from_wire", "from_net"]);
        println!("{wire} frames, {net} packets left to the stack");
        assert!(wire > 1000 && net < wire / 4, "{net} of {wire}");
        town.like_a_wire(false);
        town.ask(&mut daemon);
    }
}

/// The program in the driver, as `ip` shows it.
fn at_uplink() -> Option<u32> {
    let shown = shell(&format!("ip -d link show {UPLINK}"));
    let words: Vec<&str> = shown.split_whitespace().collect();
    let mode = words.iter().find(|word| word.starts_with("xdp"))?;
    assert_eq!(*mode, "xdp", "not generic");
    let at = words.iter().position(|word| *word == "prog/xdp").unwrap();
    assert_eq!(words[at + 1], "id");
    Some(words[at + 2].parse().unwrap())
}

#[test]
fn each_daemon_has_the_driver_as_it_is_told() {
    let site = Site::new();
    let start = |xdp| {
        let mut daemon = site.daemon_with("a", Tcx, xdp);
        daemon.follow.look();
        daemon.follow.act();
        daemon
    };
    for (xdp, is_there) in [
        (Xdp::Off, false),
        (Xdp::Native, true),
        (Xdp::Native, true),
        (Xdp::Off, false),
        // Not at virtual links.
        (Xdp::Auto, false),
        (Xdp::Native, true),
        (Xdp::Auto, false),
    ] {
        let mut daemon = start(xdp);
        let expected = is_there.then(|| program(&daemon, "from_wire").expect("the daemon's own"));
        assert_eq!(at_uplink(), expected, "{xdp:?}");
        let pins = if is_there { 3 } else { 2 };
        assert_eq!(daemon.pins().len(), pins, "{xdp:?}");
        daemon.follow.audit();
        assert_eq!(at_uplink(), expected, "{xdp:?}: once more");
    }
    let daemon = start(Xdp::Native);
    shell(&format!("ip link del {UPLINK}"));
    let next = start(Xdp::Native);
    assert_eq!(next.pins(), [""; 0], "of a link that went");
    drop(daemon);
}

#[test]
fn a_program_of_others_at_the_driver_is_left_alone() {
    let town = town();
    town.like_a_wire(true);
    let mut other = town.site.daemon_with("other", Tcx, Xdp::Native);
    other.follow.act();
    let theirs = at_uplink();
    assert!(theirs.is_some());
    let mut daemon = town.site.daemon_with("a", Tcx, Xdp::Native);
    daemon.follow.act();
    assert_eq!(at_uplink(), theirs);
    assert_eq!(daemon.pins(), ["from_net", "to_net"]);
    // Theirs knows no service of ours.
    town.ask(&mut daemon);
    daemon.follow.audit();
    assert_eq!(at_uplink(), theirs);
    let mut other = town.site.daemon_with("other", Tcx, Xdp::Off);
    other.follow.act();
    assert_eq!(at_uplink(), None);
    daemon.follow.audit();
    assert_eq!(at_uplink(), program(&daemon, "from_wire"));
}

/// Datagrams from one client through a NodePort to a backend on another node, as
/// many as it can send, and how many arrived; virtual links copy each for the
/// program, a wire's driver does not.
#[test]
#[ignore = "measures"]
fn datagrams_a_second() {
    const ROUNDS: usize = 5;
    let town = town();
    town.like_a_wire(true);
    let _statistics = enable_stats(Stats::RunTime).unwrap();
    for round in 0..ROUNDS {
        for xdp in [Xdp::Off, Xdp::Native] {
            let mut daemon = town.site.daemon_with("a", Tcx, xdp);
            daemon.follow.act();
            let (sent, arrived) = town.flood(&mut daemon);
            println!("round {round}, {xdp:?}: {sent} sent, {arrived} arrived in a second");
            for hook in ["from_wire", "from_net", "to_net"] {
                let Some(id) = program(&daemon, hook) else {
                    continue;
                };
                let mut all = loaded_programs().filter_map(Result::ok);
                let info = all.find(|info| info.id() == id).unwrap();
                let (runs, time) = (info.run_count(), info.run_time());
                let each = time.as_nanos() / u128::from(runs.max(1));
                println!("    {hook}: {runs} runs, {each} ns each");
            }
        }
    }
}

impl Town {
    fn flood(&self, daemon: &mut Daemon) -> (u64, u64) {
        let sink = self.other.run(|| UdpSocket::bind((FAR, 0)).unwrap());
        serve(daemon, [node_port(Udp, sink.local_addr().unwrap())]);
        let second = Duration::from_secs(1);
        sink.set_read_timeout(Some(second)).unwrap();
        thread::scope(|scope| {
            let arrived = scope.spawn(|| {
                let mut bytes = [0; 64];
                let mut arrived = 0;
                while sink.recv(&mut bytes).is_ok() {
                    arrived += 1;
                }
                arrived
            });
            let sent = self.client.run(|| {
                let socket = udp_client();
                socket.connect((NODE, 30053)).unwrap();
                let (started, mut sent) = (Instant::now(), 0);
                while started.elapsed() < second {
                    // Refused while queues are full.
                    sent += u64::from(socket.send(&[7; 18]).is_ok());
                }
                sent
            });
            (sent, arrived.join().unwrap())
        })
    }
}
