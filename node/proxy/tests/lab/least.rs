//! Balancing by live connections, with real sockets.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpStream},
    os::fd::OwnedFd,
    process::{Command, Stdio},
};

use vetch_ebpf_common::{BackendKey, maps};
use vetch_network::PodOptions;
use vetch_proxy::{Balance, Exposure, Kind, Protocol::Tcp, Proxy, Target, inspect};

use crate::{
    cell::{Cell, Services, backend, service, wait_for},
    servers::{Server, ask_stream},
    site::Site,
};

const VIP: &str = "10.96.0.10:80";

fn least(backends: &[SocketAddr]) -> Services {
    let backends: Vec<_> = backends.iter().copied().map(backend).collect();
    let target = Target {
        balance: Balance::Least,
        cluster: backends.clone(),
        serving: backends,
        ..Target::default()
    };
    [service(&[(VIP, Exposure::CLUSTER)], Tcp, target)].into()
}

/// Holds a connection, and knows who has it.
fn hold() -> (TcpStream, u8) {
    let mut stream = TcpStream::connect(VIP).unwrap();
    let id = ask_stream(&mut stream).unwrap();
    (stream, id)
}

fn live(pin_dir: &std::path::Path) -> BTreeMap<SocketAddr, u64> {
    let frontend = format!("{VIP}/TCP").parse().unwrap();
    let detail = inspect::service(pin_dir, frontend).unwrap().unwrap();
    let backends = detail.backends.into_iter();
    backends
        .map(|backend| (backend.address, backend.live_connections.unwrap()))
        .collect()
}

#[test]
fn new_connections_go_where_fewer_are_held() {
    let cell = Cell::enter();
    let pin_dir = cell.config("a").pin_dir;
    // Keeps what it accepts.
    let servers = [1, 2].map(Server::tcp_held);
    let [a, b] = servers.each_ref().map(|server| server.address);
    let mut proxy = cell.proxy("a", &least(&[a]));
    let held: Vec<_> = (0..10).map(|_| hold()).collect();
    assert_eq!(live(&pin_dir), [(a, 10)].into());
    assert_eq!(proxy.sync(&least(&[a, b])), []);
    let more: Vec<_> = (0..10).map(|_| hold()).collect();
    assert!(more.iter().all(|(_, id)| *id == 2), "{more:?}");
    assert_eq!(live(&pin_dir), [(a, 10), (b, 10)].into());
    // Evenly from there on.
    let pairs: Vec<_> = (0..20).map(|_| hold()).collect();
    assert_eq!(live(&pin_dir), [(a, 20), (b, 20)].into());
    drop(held);
    wait_for("the first ones' end", || live(&pin_dir)[&a] == 10);
    let again: Vec<_> = (0..10).map(|_| hold()).collect();
    assert!(again.iter().all(|(_, id)| *id == 1), "{again:?}");
    // One that is refused leaves nothing behind.
    drop((more, pairs, again));
    wait_for("every end", || {
        live(&pin_dir).values().all(|live| *live == 0)
    });
    drop(servers);
    for _ in 0..10 {
        TcpStream::connect(VIP).expect_err("nobody listens any more");
    }
    assert_eq!(live(&pin_dir), [(a, 0), (b, 0)].into());
    assert!(!proxy.drifted().unwrap());
}

#[test]
fn a_process_that_is_killed_holds_nothing() {
    let cell = Cell::enter();
    let pin_dir = cell.config("a").pin_dir;
    let server = Server::tcp_held(1);
    let _proxy = cell.proxy("a", &least(&[server.address]));
    let (stream, _) = hold();
    let mut child = Command::new("sleep")
        .arg("60")
        .stdin(Stdio::from(OwnedFd::from(stream)))
        .spawn()
        .unwrap();
    assert_eq!(live(&pin_dir)[&server.address], 1);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("its connection to end", || {
        live(&pin_dir)[&server.address] == 0
    });
}

#[test]
fn counts_outlive_a_daemon_and_never_count_what_was_missed() {
    let cell = Cell::enter();
    let config = cell.config("a");
    let pin_dir = config.pin_dir.clone();
    let servers = [1, 2].map(Server::tcp_held);
    let all = servers.each_ref().map(|server| server.address);
    let wanted = least(&all[..1]);
    drop(cell.proxy("a", &wanted));
    let held: Vec<_> = (0..4).map(|_| hold()).collect();
    // Another daemon, other programs: an end that came while they were
    // replaced is told to the next.
    let mut proxy = Proxy::open(&config).unwrap();
    assert_eq!(proxy.sync_all(&wanted), []);
    proxy.programs().attach().unwrap();
    assert_eq!(live(&pin_dir)[&all[0]], 4);
    let (first, rest) = {
        let mut held = held;
        let rest = held.split_off(1);
        (held, rest)
    };
    drop(first);
    wait_for("the end of one", || live(&pin_dir)[&all[0]] == 3);
    // Nobody is told: what was counted means nothing any more.
    std::fs::remove_file(pin_dir.join("links/sock_ops")).unwrap();
    wait_for("the program to be gone", || {
        let before = live(&pin_dir);
        let _probe = hold();
        live(&pin_dir) == before
    });
    drop(rest);
    proxy.programs().attach().unwrap();
    assert_eq!(live(&pin_dir)[&all[0]], 0);
    let (one, _) = hold();
    assert_eq!(live(&pin_dir)[&all[0]], 1);
    drop(one);
    wait_for("its end", || live(&pin_dir)[&all[0]] == 0);
    // A backend that left and comes back starts anew, and old ends are not its.
    let (old, _) = hold();
    assert_eq!(proxy.sync(&least(&all[1..])), []);
    assert_eq!(proxy.sync(&least(&all[..1])), []);
    assert_eq!(live(&pin_dir)[&all[0]], 0);
    let (new, _) = hold();
    drop(old);
    let (last, _) = hold();
    wait_for("two to be counted", || live(&pin_dir)[&all[0]] == 2);
    drop((new, last));
    wait_for("no one to be left", || live(&pin_dir)[&all[0]] == 0);
}

/// Of a pod whose TCP is balanced by the packet; what the programs did not see
/// of it, the daemon counts anew.
#[test]
fn flows_by_packet_are_counted_and_counted_anew() {
    let site = Site::new();
    let options = PodOptions {
        tcp_by_packet: true,
        ..PodOptions::default()
    };
    let (client, server) = (site.pod_with("client", options), site.pod("server"));
    let backend = server.namespace.run(|| Server::tcp_held_at(server.ip, 1));
    let mut daemon = site.started("a", Kind::Clsact);
    assert_eq!(daemon.proxy.sync_all(&least(&[backend.address])), []);
    let count = || live(&daemon.pin_dir)[&backend.address];
    let (one, two) = client.namespace.run(|| (hold(), hold()));
    assert_eq!(count(), 2);
    let forge = |to: i64| {
        let dir = std::fs::read_dir(&daemon.pin_dir).unwrap();
        let maps_dir = dir
            .map(|entry| entry.unwrap().path())
            .find(|path| path.to_string_lossy().contains("/maps-"))
            .unwrap();
        let data = aya::maps::MapData::from_pin(maps_dir.join(maps::LIVE_FLOWS)).unwrap();
        let map = aya::maps::Map::HashMap(data);
        let mut map: aya::maps::HashMap<_, BackendKey, i64> = map.try_into().unwrap();
        let keys: Vec<_> = map.keys().map(Result::unwrap).collect();
        assert_eq!(keys.len(), 1);
        map.insert(keys[0], to, 0).unwrap();
    };
    for forged in [1_000, -1_000] {
        forge(forged);
        assert_eq!(count(), forged.max(0).unsigned_abs());
        daemon.proxy.recount().unwrap();
        assert_eq!(count(), 2);
    }
    drop(one);
    wait_for("the end of one", || count() == 1);
    daemon.proxy.recount().unwrap();
    assert_eq!(count(), 1);
    drop(two);
    wait_for("the end of the other", || count() == 0);
    drop(backend);
}
