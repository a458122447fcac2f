//! Tables and ranges of ports that are far too small: what must not fail does
//! not, and what may is counted and told of.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use vetch_proxy::{
    Exposure, Kind::Tcx, Protocol::Tcp, Proxy, ProxyConfig, TableSizes, Target, inspect,
};

use crate::{
    cell::{Cell, Services, backend, service, services, wait_for},
    servers::{Server, TIMEOUT, ask},
    site::{NODE, OUTSIDE, Site, shell},
};

const VIP: &str = "10.96.0.10:80";
const NODE_PORT: (&str, Exposure) = ("0.0.0.0:30080", Exposure::EXTERNAL);
const TINY: TableSizes = TableSizes {
    flows: 128,
    fragments: 128,
    reverse: 128,
    affinity: 128,
    conversations: 128,
};

fn reason(config: &ProxyConfig, reason: &str) -> u64 {
    inspect::memory(&config.pin_dir).unwrap().reasons[reason]
}

/// None but those of the named reason.
fn assert_no_other_reason(config: &ProxyConfig, but: &str) {
    let mut reasons = inspect::memory(&config.pin_dir).unwrap().reasons;
    reasons.retain(|reason, count| *reason != but && *count > 0);
    assert!(reasons.is_empty(), "{reasons:?}");
}

fn node_port_to(address: SocketAddr) -> Services {
    let target = Target {
        cluster: vec![backend(address)],
        ..Target::default()
    };
    [service(&[NODE_PORT], Tcp, target)].into()
}

/// Both ends of a connection through the node port, after a byte each way.
struct Connection {
    client: TcpStream,
    server: TcpStream,
}

impl Connection {
    fn open(site: &Site, listener: &TcpListener, limit: Duration) -> std::io::Result<Self> {
        let to = format!("{NODE}:30080").parse().unwrap();
        let client = site
            .outside
            .run(|| TcpStream::connect_timeout(&to, limit))?;
        let (server, from) = listener.accept()?;
        assert_eq!(from.ip().to_string(), NODE, "the node's address as source");
        let mut connection = Self { client, server };
        connection.talk()?;
        Ok(connection)
    }

    fn talk(&mut self) -> std::io::Result<()> {
        say(&mut self.client, &mut self.server)?;
        say(&mut self.server, &mut self.client)
    }
}

fn say(from: &mut TcpStream, to: &mut TcpStream) -> std::io::Result<()> {
    to.set_read_timeout(Some(TIMEOUT))?;
    from.write_all(b"?")?;
    to.read_exact(&mut [0])
}

/// A backend on another node sees the node's address, from a range of eight
/// ports.
#[test]
fn eight_source_ports_are_eight_connections_at_a_time() {
    const FAR: &str = "10.244.2.7";
    let site = Site::new();
    shell(&format!("ip route add 10.244.2.0/24 via {OUTSIDE}"));
    let listener = site.outside.run(|| {
        shell(&format!("ip address add {FAR}/32 dev up1"));
        TcpListener::bind((FAR, 0)).unwrap()
    });
    let config = ProxyConfig {
        source_ports: 61000..=61007,
        ..site.config("a")
    };
    let far = listener.local_addr().unwrap();
    let _daemon = site.serving(config.clone(), Tcx, &node_port_to(far));
    let open = |limit| Connection::open(&site, &listener, limit);
    let mut held: Vec<Connection> = (0..8).map(|_| open(TIMEOUT).unwrap()).collect();

    open(Duration::from_millis(300)).err().expect("a ninth");
    let dropped = reason(&config, "source-ports");
    assert!(dropped >= 1, "{dropped}");
    let mut drops = inspect::drops(&config.pin_dir).unwrap();
    let told = drops.read();
    assert_eq!(told.len() as u64 + drops.missed().unwrap(), dropped);
    for drop in &told {
        assert_eq!((drop.outcome, drop.hook), ("drop", "from_net"));
        assert_eq!(drop.reason, "source-ports");
        assert_eq!(drop.source.unwrap().to_string(), OUTSIDE);
        assert_eq!(drop.destination.unwrap().to_string(), NODE);
        assert_eq!(drop.destination_port, Some(30080));
        assert!(drop.service.is_some() && drop.ifindex.is_some());
    }

    for round in 0..50 {
        let mut gone = held.remove(round % held.len());
        gone.talk().unwrap();
        drop(gone);
        // The port is free when the client's last word has come by: a SYN that
        // was faster comes again.
        held.push(open(TIMEOUT).unwrap_or_else(|error| panic!("{round}: {error}")));
    }
    for connection in &mut held {
        connection.talk().unwrap();
    }
    assert_no_other_reason(&config, "source-ports");
}

/// Clients of a node port, in tables of 64 conversations.
#[test]
fn tiny_tables_lose_no_connection_by_packet() {
    const EACH: usize = 150;
    let site = Site::new();
    let pod = site.pod("server");
    let server = pod.namespace.run(|| Server::tcp_at(pod.ip, 9));
    let config = ProxyConfig {
        tables: TINY,
        ..site.config("a")
    };
    let mut daemon = site.serving(config.clone(), Tcx, &node_port_to(server.address));
    let node_port = format!("{NODE}:30080");
    let connect = || -> Vec<String> {
        let failed = (0..EACH).filter_map(|_| ask(&node_port).err());
        failed.map(|error| error.to_string()).collect()
    };
    let outside = &site.outside;
    let failures: Vec<String> = std::thread::scope(|scope| {
        let clients = [(); 4].map(|()| scope.spawn(move || outside.run(connect)));
        clients
            .into_iter()
            .flat_map(|client| client.join().unwrap())
            .collect()
    });
    assert_eq!(failures, Vec::<String>::new(), "of {}", 4 * EACH);
    assert_no_other_reason(&config, "none");
    let swept = daemon.proxy.sweeper().unwrap().run().unwrap().found;
    assert!(swept.flows() <= 128, "{swept:?}");
    let tables = daemon.proxy.tables(&swept).unwrap();
    let flows = tables.iter().find(|table| table.name == "FLOWS").unwrap();
    assert_eq!((flows.entries, flows.capacity), (swept.flows(), 128));
    pod.namespace.run(|| drop(server));
}

/// Sockets that were pointed at their backends, of which 128 are remembered.
#[test]
fn tiny_tables_lose_no_connection_of_sockets() {
    let cell = Cell::enter();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server::tcp(1);
    let kept = "10.96.0.11:80";
    let config = ProxyConfig {
        tables: TINY,
        ..cell.config("a")
    };
    let mut proxy = Proxy::open(&config).unwrap();
    let addresses = [listener.local_addr().unwrap(), server.address];
    let mut wanted = services(&[(kept, Tcp, &addresses[..1]), (VIP, Tcp, &addresses[1..])]);
    for port in wanted.values_mut().flatten() {
        port.target.affinity = Some(3600);
        port.target.serving = port.target.cluster.clone();
    }
    assert_eq!(proxy.sync_all(&wanted), []);
    proxy.programs().attach().unwrap();
    let mut held: Vec<Connection> = (0..8)
        .map(|_| {
            let client = TcpStream::connect(kept).unwrap();
            let (server, _) = listener.accept().unwrap();
            Connection { client, server }
        })
        .collect();
    for n in 0..2000 {
        assert_eq!(ask(VIP).unwrap(), 1, "{n}");
    }
    for connection in &mut held {
        connection.talk().unwrap();
    }
    assert_no_other_reason(&config, "none");
    let found = proxy.sweeper().unwrap().run().unwrap().found;
    assert!(found.reverse <= 128 && found.affinity == 2, "{found:?}");
}

/// What is told of calls that are refused at the socket, while no daemon runs.
#[test]
fn refused_calls_are_told_of() {
    let cell = Cell::enter();
    let config = cell.config("a");
    drop(cell.proxy("a", &services(&[(VIP, Tcp, &[])])));
    let mut drops = inspect::drops(&config.pin_dir).unwrap();
    let mut other = inspect::drops(&config.pin_dir).unwrap();
    assert_eq!(drops.read(), []);
    ask(VIP).unwrap_err();
    ask("10.96.0.10:81").unwrap_err();
    // Every reader sees all.
    for reader in [&mut drops, &mut other] {
        let told = reader.read();
        let shown: Vec<_> = told
            .iter()
            .map(|drop| (drop.outcome, drop.hook, drop.reason, drop.destination_port))
            .collect();
        assert_eq!(
            shown,
            [
                ("refusal", "connect", "no-endpoints", Some(80)),
                ("refusal", "connect", "unknown-port", Some(81)),
            ]
        );
        assert_eq!(told[0].service, Some(0));
        assert!(told.is_sorted_by_key(|drop| drop.time));
        assert_eq!(reader.read(), []);
    }

    // More than the buffer has room for, had nobody made any.
    let mut seen = 0;
    let (before, rounds) = (drops.missed().unwrap(), 10_000);
    for _ in 0..rounds {
        ask(VIP).unwrap_err();
        seen += drops.read().len() as u64;
    }
    wait_for("the budget to be there again", || {
        ask("10.96.0.10:82").unwrap_err();
        drops
            .read()
            .iter()
            .any(|drop| drop.destination_port == Some(82))
    });
    assert!(seen >= 100, "{seen}");
    assert!(seen + drops.missed().unwrap() - before >= rounds);
}
