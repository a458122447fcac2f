use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use vetch_proxy::{
    Protocol::{Tcp, Udp},
    Proxy,
};

use crate::{
    cell::{Cell, exists, services, wait_for},
    servers::{Server, ask, ask_stream, udp_client},
};

const VIP: &str = "10.96.0.10:80";

#[test]
fn tcp_connections_are_spread_evenly() {
    let cell = Cell::enter();
    let servers = [0, 1, 2].map(Server::tcp);
    let backends = servers.each_ref().map(|server| server.address);
    let _proxy = cell.proxy("a", &services(&[(VIP, Tcp, &backends)]));
    let mut answers = [0_u32; 3];
    for _ in 0..3000 {
        answers[usize::from(ask(VIP).unwrap())] += 1;
    }
    assert!(
        answers.iter().all(|n| (700..=1300).contains(n)),
        "{answers:?}"
    );
}

#[test]
fn the_application_sees_the_service_address() {
    let cell = Cell::enter();
    let tcp = Server::tcp(7);
    let udp = Server::udp(8);
    let _proxy = cell.proxy(
        "a",
        &services(&[(VIP, Tcp, &[tcp.address]), (VIP, Udp, &[udp.address])]),
    );
    let vip: SocketAddr = VIP.parse().unwrap();

    let mut stream = TcpStream::connect(VIP).unwrap();
    assert_eq!(stream.peer_addr().unwrap(), vip);
    assert_eq!(ask_stream(&mut stream).unwrap(), 7);

    let connected = udp_client();
    connected.connect(VIP).unwrap();
    assert_eq!(connected.peer_addr().unwrap(), vip);
    let mut bytes = [0; 8];
    for _ in 0..3 {
        connected.send(b"?").unwrap();
        assert_eq!(connected.recv_from(&mut bytes).unwrap(), (1, vip));
        connected.send(b"?").unwrap();
        assert_eq!((connected.recv(&mut bytes).unwrap(), bytes[0]), (1, 8));
    }
}

#[test]
fn unconnected_datagrams_are_spread_and_answered_by_the_service() {
    let cell = Cell::enter();
    let servers = [0, 1, 2].map(Server::udp);
    let backends = servers.each_ref().map(|server| server.address);
    let other = "10.96.0.11:53";
    let _proxy = cell.proxy(
        "a",
        &services(&[(VIP, Udp, &backends), (other, Udp, &backends[..1])]),
    );
    let mut answers = [0_u32; 3];
    let mut bytes = [0; 8];
    for _ in 0..600 {
        let socket = udp_client();
        let mut first = None;
        for _ in 0..3 {
            socket.send_to(b"?", VIP).unwrap();
            assert_eq!(
                socket.recv_from(&mut bytes).unwrap(),
                (1, VIP.parse().unwrap())
            );
            // A conversation stays with its backend.
            assert_eq!(*first.get_or_insert(bytes[0]), bytes[0]);
        }
        answers[usize::from(bytes[0])] += 1;
    }
    assert!(
        answers.iter().all(|n| (140..=260).contains(n)),
        "{answers:?}"
    );
    // One socket, two services: each answer from the one that was asked.
    let socket = udp_client();
    for _ in 0..3 {
        socket.send_to(b"?", other).unwrap();
        assert_eq!(
            socket.recv_from(&mut bytes).unwrap(),
            (1, other.parse().unwrap())
        );
    }
    // And a plain address stays plain.
    socket.send_to(b"?", servers[1].address).unwrap();
    assert_eq!(
        socket.recv_from(&mut bytes).unwrap(),
        (1, servers[1].address.into())
    );
}

#[test]
fn without_endpoints_calls_are_refused_at_once() {
    let cell = Cell::enter();
    let _proxy = cell.proxy("a", &services(&[(VIP, Tcp, &[]), (VIP, Udp, &[])]));
    let started = Instant::now();
    assert_eq!(ask(VIP).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let socket = udp_client();
    assert_eq!(
        socket.send_to(b"?", VIP).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    assert_eq!(
        socket.connect(VIP).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    assert!(
        started.elapsed() < Duration::from_millis(100),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn what_is_no_service_is_left_alone() {
    let cell = Cell::enter();
    let server = Server::tcp(1);
    let _proxy = cell.proxy("a", &services(&[(VIP, Tcp, &[server.address])]));
    assert_eq!(ask(&server.address.to_string()).unwrap(), 1);
    // Another address: no route leads there.
    assert_eq!(
        ask("10.96.0.11:80").unwrap_err().kind(),
        ErrorKind::NetworkUnreachable
    );
}

#[test]
fn what_a_service_does_not_serve_is_refused_not_leaked() {
    let cell = Cell::enter();
    let server = Server::tcp(1);
    let mut proxy = cell.proxy("a", &services(&[(VIP, Tcp, &[server.address])]));
    // Another port, another protocol.
    assert_eq!(
        ask("10.96.0.10:81").unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    assert_eq!(
        udp_client().send_to(b"?", VIP).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
    // Until the address is nobody's.
    let gone = services(&[(VIP, Tcp, &[])])
        .into_keys()
        .map(|name| (name, Vec::new()));
    assert_eq!(proxy.sync(&gone.collect()), []);
    assert_eq!(
        ask("10.96.0.10:81").unwrap_err().kind(),
        ErrorKind::NetworkUnreachable
    );
}

#[test]
fn two_proxies_share_a_cgroup_and_removing_one_leaves_the_other() {
    let cell = Cell::enter();
    let servers = [1, 2].map(Server::tcp);
    let other = "10.97.0.10:80";
    let _a = cell.proxy("a", &services(&[(VIP, Tcp, &[servers[0].address])]));
    let _b = cell.proxy("b", &services(&[(other, Tcp, &[servers[1].address])]));
    assert_eq!((ask(VIP).unwrap(), ask(other).unwrap()), (1, 2));
    vetch_proxy::remove(&cell.config("a").pin_dir).unwrap();
    assert!(!exists(&cell.config("a").pin_dir));
    // The kernel lets go of a link that lost its pin a moment later.
    wait_for("the programs to be detached", || ask(VIP).is_err());
    assert_eq!(ask(VIP).unwrap_err().kind(), ErrorKind::NetworkUnreachable);
    assert_eq!(ask(other).unwrap(), 2);
    vetch_proxy::remove(&cell.config("a").pin_dir).unwrap();
}

#[test]
fn what_somebody_else_changed_is_put_right() {
    let cell = Cell::enter();
    let server = Server::tcp(1);
    let wanted = services(&[(VIP, Tcp, &[server.address]), ("10.96.0.11:80", Tcp, &[])]);
    let mut proxy = cell.proxy("a", &wanted);
    assert!(!proxy.drifted().unwrap());
    let before = vetch_proxy::dump(&cell.config("a").pin_dir).unwrap();
    let mut vandal = Proxy::open(&cell.config("a")).unwrap();
    vandal.sync_all(&services(&[("10.96.0.99:80", Tcp, &[server.address])]));
    assert!(proxy.drifted().unwrap());
    proxy.sync_all(&wanted);
    assert!(!proxy.drifted().unwrap());
    assert_eq!(
        vetch_proxy::dump(&cell.config("a").pin_dir).unwrap(),
        before
    );
    assert_eq!(ask(VIP).unwrap(), 1);
}

#[test]
fn pins_need_a_bpf_file_system() {
    let cell = Cell::enter();
    let mut config = cell.config("a");
    let elsewhere = tempfile::tempdir().unwrap();
    config.pin_dir = elsewhere.path().join("pins");
    let error = Proxy::open(&config).err().unwrap().to_string();
    assert!(error.contains("is not on a BPF file system"), "{error}");
}
