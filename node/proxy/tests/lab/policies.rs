//! What a Service may ask of its clients' way, at sockets.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    net::{IpAddr, Ipv6Addr, TcpStream},
};

use vetch_ebpf_common::addresses;
use vetch_proxy::{
    Exposure,
    Protocol::{Tcp, Udp},
    Target,
};

use crate::{
    cell::{Cell, Services, backend, service, services},
    servers::{Server, ask, ask_stream},
};

const VIP: &str = "10.96.0.10:80";
const NODE_PORT: &str = "0.0.0.0:30080";
const SOURCE_RANGES: Exposure = Exposure {
    external: true,
    source_ranges: true,
};

#[test]
fn ipv6_services_and_mapped_addresses() {
    let cell = Cell::enter();
    let localhost = IpAddr::from(Ipv6Addr::LOCALHOST);
    let (tcp, udp, v4) = (
        Server::tcp_at(localhost, 6),
        Server::udp_at(localhost, 7),
        Server::tcp(4),
    );
    let vip = "[fd00::10]:80";
    let _proxy = cell.proxy(
        "a",
        &services(&[
            (vip, Tcp, &[tcp.address]),
            (vip, Udp, &[udp.address]),
            (VIP, Tcp, &[v4.address]),
        ]),
    );
    let mut stream = TcpStream::connect(vip).unwrap();
    assert_eq!(stream.peer_addr().unwrap(), vip.parse().unwrap());
    assert_eq!(ask_stream(&mut stream).unwrap(), 6);
    assert_eq!(
        ask("[fd00::10]:81").unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    let socket = std::net::UdpSocket::bind("[::]:0").unwrap();
    socket
        .set_read_timeout(Some(crate::servers::TIMEOUT))
        .unwrap();
    let mut bytes = [0; 8];
    socket.send_to(b"?", vip).unwrap();
    assert_eq!(
        socket.recv_from(&mut bytes).unwrap(),
        (1, vip.parse().unwrap())
    );
    assert_eq!(bytes[0], 7);
    // A socket of IPv6 that dials an IPv4 service.
    let mapped = "[::ffff:10.96.0.10]:80";
    let mut stream = TcpStream::connect(mapped).unwrap();
    assert_eq!(stream.peer_addr().unwrap(), mapped.parse().unwrap());
    assert_eq!(ask_stream(&mut stream).unwrap(), 4);
}

#[test]
fn node_ports_answer_at_the_nodes_addresses_and_at_loopback() {
    let cell = Cell::enter();
    let server = Server::tcp(1);
    let target = Target {
        cluster: vec![backend(server.address)],
        ..Target::default()
    };
    let frontends = [(VIP, Exposure::CLUSTER), (NODE_PORT, Exposure::EXTERNAL)];
    let mut proxy = cell.proxy("a", &[service(&frontends, Tcp, target)].into());
    assert_eq!(ask("127.0.0.1:30080").unwrap(), 1);
    assert_eq!(
        ask("192.0.2.7:30080").unwrap_err().kind(),
        ErrorKind::NetworkUnreachable
    );
    let node = BTreeMap::from([("192.0.2.7".parse().unwrap(), addresses::NODE)]);
    proxy.set_node_addresses(node).unwrap();
    assert_eq!(ask("192.0.2.7:30080").unwrap(), 1);
    // Another port of the node is its own business.
    assert_eq!(
        ask("127.0.0.1:30081").unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    assert_eq!(
        ask("192.0.2.7:30081").unwrap_err().kind(),
        ErrorKind::NetworkUnreachable
    );
    assert!(!proxy.drifted().unwrap());
    proxy.set_node_addresses(BTreeMap::new()).unwrap();
    assert_eq!(
        ask("192.0.2.7:30080").unwrap_err().kind(),
        ErrorKind::NetworkUnreachable
    );
}

#[test]
fn policy_local_takes_the_nodes_own_and_leaves_the_rest_to_the_packet() {
    let cell = Cell::enter();
    let servers = [1, 2].map(Server::tcp);
    let [near, far] = servers.each_ref().map(|server| backend(server.address));
    let target = |internal_local, cluster: &[_], local: &[_]| Target {
        internal_local,
        external_local: true,
        cluster: cluster.to_vec(),
        local: local.to_vec(),
        ..Target::default()
    };
    let frontends = [(VIP, Exposure::CLUSTER), (NODE_PORT, Exposure::EXTERNAL)];
    let as_services =
        |target| -> Services { [service(&frontends, Tcp, target)].into_iter().collect() };
    let mut proxy = cell.proxy("a", &as_services(target(true, &[near, far], &[near])));
    for _ in 0..20 {
        assert_eq!(ask(VIP).unwrap(), 1);
    }
    // From inside an external address reaches every endpoint.
    let mut seen = [false; 3];
    for _ in 0..100 {
        seen[usize::from(ask("127.0.0.1:30080").unwrap())] = true;
    }
    assert_eq!(seen, [false, true, true]);
    // None here, some elsewhere: not refused, and no route leads to the address.
    assert_eq!(proxy.sync(&as_services(target(true, &[far], &[]))), []);
    assert_eq!(ask(VIP).unwrap_err().kind(), ErrorKind::NetworkUnreachable);
    assert_eq!(proxy.sync(&as_services(target(true, &[], &[]))), []);
    assert_eq!(ask(VIP).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(proxy.sync(&as_services(target(false, &[far], &[]))), []);
    assert_eq!(ask(VIP).unwrap(), 2);
}

#[test]
fn session_affinity_lasts_its_time_and_leaves_a_backend_that_drains() {
    let cell = Cell::enter();
    let servers = [0, 1, 2, 3].map(Server::tcp);
    let all = servers.each_ref().map(|server| backend(server.address));
    let target = |affinity, ready: &[_]| Target {
        affinity: Some(affinity),
        cluster: ready.to_vec(),
        serving: all.to_vec(),
        ..Target::default()
    };
    let as_services = |target| -> Services {
        [service(&[(VIP, Exposure::CLUSTER)], Tcp, target)]
            .into_iter()
            .collect()
    };
    let mut proxy = cell.proxy("a", &as_services(target(10_800, &all)));
    let first = ask(VIP).unwrap();
    for _ in 0..50 {
        assert_eq!(ask(VIP).unwrap(), first);
    }
    // Others come and go; the client stays.
    let others: Vec<_> = (0..4).filter(|id| *id != first).collect();
    let rest = others.iter().map(|id| all[usize::from(*id)]);
    let kept: Vec<_> = rest
        .clone()
        .take(1)
        .chain([all[usize::from(first)]])
        .collect();
    assert_eq!(proxy.sync(&as_services(target(10_800, &kept))), []);
    for _ in 0..50 {
        assert_eq!(ask(VIP).unwrap(), first);
    }
    // It drains: it serves what it has, and gets nobody new.
    let rest: Vec<_> = rest.collect();
    assert_eq!(proxy.sync(&as_services(target(10_800, &rest))), []);
    let second = ask(VIP).unwrap();
    assert_ne!(second, first);
    for _ in 0..50 {
        assert_eq!(ask(VIP).unwrap(), second);
    }
    assert!(!proxy.drifted().unwrap());
    // A time of zero: no connection is recent enough.
    assert_eq!(proxy.sync(&as_services(target(0, &all))), []);
    let answers: Vec<u8> = (0..50).map(|_| ask(VIP).unwrap()).collect();
    assert!(answers.iter().any(|id| *id != answers[0]));
}

#[test]
fn source_ranges_hold_for_the_node_by_its_address() {
    let cell = Cell::enter();
    let server = Server::tcp(1);
    let open = |ranges: &[&str]| {
        let target = Target {
            cluster: vec![backend(server.address)],
            source_ranges: ranges.iter().map(|range| range.parse().unwrap()).collect(),
            ..Target::default()
        };
        Services::from([service(&[(VIP, SOURCE_RANGES)], Tcp, target)])
    };
    let mut config = cell.config("a");
    config.node_ips = vec!["192.0.2.7".parse().unwrap()];
    let mut proxy = vetch_proxy::Proxy::open(&config).unwrap();
    assert_eq!(proxy.sync_all(&open(&["192.0.2.0/24", "fd00::/64"])), []);
    proxy.programs().attach().unwrap();
    assert_eq!(ask(VIP).unwrap(), 1);
    assert!(!proxy.drifted().unwrap());
    assert_eq!(proxy.sync(&open(&["198.51.100.0/24"])), []);
    // Not refused: the packet is dropped, and counted, on its way.
    assert_eq!(ask(VIP).unwrap_err().kind(), ErrorKind::NetworkUnreachable);
    assert!(!proxy.drifted().unwrap());
}
