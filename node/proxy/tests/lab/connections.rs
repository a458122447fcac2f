//! What is counted of TCP connections that are balanced at the socket.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    time::Instant,
};

use vetch_proxy::{
    Protocol::Tcp,
    Proxy,
    inspect::{self, ServiceDetail},
};

use crate::{
    cell::{Cell, Services, services, wait_for},
    servers::{Server, TIMEOUT, ask},
};

const VIP: &str = "10.96.0.10:80";
const VIP6: &str = "[fd00::10]:80";

/// Attached, and told of connections.
fn proxy(cell: &Cell, services: &Services) -> Proxy {
    let mut config = cell.config("a");
    config.connection_metrics = true;
    let mut proxy = Proxy::open(&config).unwrap();
    assert_eq!(proxy.sync_all(services), []);
    proxy.programs().attach().unwrap();
    proxy
}

fn shown(cell: &Cell, vip: &str) -> ServiceDetail {
    let frontend = format!("{vip}/TCP").parse().unwrap();
    let detail = inspect::service(&cell.config("a").pin_dir, frontend).unwrap();
    detail.unwrap_or_else(|| panic!("nobody serves {vip}"))
}

fn bytes(cell: &Cell, vip: &str) -> (u64, u64) {
    let service = shown(cell, vip).service;
    (service.bytes_in, service.bytes_out)
}

/// Who is done first, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Client,
    Backend,
    /// The client has nothing more to say, and listens on.
    ClientHalf,
    /// The client has not read all, and so resets.
    Reset,
}

const QUESTION: usize = 5_000;
const ANSWER: usize = 70_000;

fn converse(listener: &TcpListener, vip: &str, end: End) {
    let mut client = TcpStream::connect(vip).unwrap();
    let (mut backend, _) = listener.accept().unwrap();
    for stream in [&client, &backend] {
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    }
    client.write_all(&[1; QUESTION]).unwrap();
    backend.read_exact(&mut [0; QUESTION]).unwrap();
    if end == End::ClientHalf {
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(backend.read(&mut [0]).unwrap(), 0);
    }
    std::thread::scope(|scope| {
        scope.spawn(|| backend.write_all(&[2; ANSWER]).unwrap());
        let read = if end == End::Reset {
            ANSWER - 10
        } else {
            ANSWER
        };
        client.read_exact(&mut vec![0; read]).unwrap();
    });
    match end {
        End::Client | End::Reset => {
            if end == End::Reset {
                // All is here, or the reset would be for what comes.
                wait_for("the rest of the answer", || {
                    client.peek(&mut [0; 20]).unwrap() == 10
                });
            }
            drop(client);
            let _ = backend.read(&mut [0]);
        }
        End::Backend | End::ClientHalf => {
            drop(backend);
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
        }
    }
}

#[test]
fn bytes_are_what_the_two_ends_said() {
    let cell = Cell::enter();
    let hosts: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let listeners = hosts.map(|host| TcpListener::bind((host, 0)).unwrap());
    let addresses = listeners.each_ref().map(|one| one.local_addr().unwrap());
    let _proxy = proxy(
        &cell,
        &services(&[
            (VIP, Tcp, &addresses[..1]),
            (VIP6, Tcp, &addresses[1..]),
            ("10.96.0.11:80", Tcp, &addresses[..1]),
        ]),
    );
    for (vip, listener) in [(VIP, &listeners[0]), (VIP6, &listeners[1])] {
        let mut expected = (0, 0);
        for end in [End::Client, End::Backend, End::ClientHalf, End::Reset] {
            converse(listener, vip, end);
            expected.0 += QUESTION as u64;
            expected.1 += ANSWER as u64;
            wait_for(
                &format!(
                    "{expected:?} bytes after {vip} {end:?}, not {:?}",
                    bytes(&cell, vip)
                ),
                || bytes(&cell, vip) == expected,
            );
        }
        assert_eq!(shown(&cell, vip).service.connections, 4);
    }
    assert_eq!(bytes(&cell, "10.96.0.11:80"), (0, 0));
    // A socket of IPv6 that dials an IPv4 service.
    converse(&listeners[0], "[::ffff:10.96.0.10]:80", End::Client);
    let expected = (5 * QUESTION as u64, 5 * ANSWER as u64);
    wait_for("the mapped one's bytes", || bytes(&cell, VIP) == expected);
}

#[test]
fn latency_is_that_of_connections_that_were_established() {
    let cell = Cell::enter();
    let server = Server::tcp(1);
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let closed = "10.96.0.11:80";
    let _proxy = proxy(
        &cell,
        &services(&[(VIP, Tcp, &[server.address]), (closed, Tcp, &[nobody])]),
    );
    assert_eq!(shown(&cell, VIP).connect_latency, None);
    let mut slowest = std::time::Duration::ZERO;
    for _ in 0..50 {
        let started = Instant::now();
        let stream = TcpStream::connect(VIP).unwrap();
        slowest = slowest.max(started.elapsed());
        drop(stream);
        // Straight to the backend, which is no service's business.
        drop(TcpStream::connect(server.address).unwrap());
    }
    let latency = shown(&cell, VIP).connect_latency.unwrap();
    assert_eq!(latency.connections, 50);
    assert!(latency.p50_microseconds <= latency.p90_microseconds);
    assert!(latency.p90_microseconds <= latency.p99_microseconds);
    // Bounds are powers of two.
    let bound = 2 * slowest.as_micros() as u64 + 2;
    assert!(latency.p99_microseconds <= bound, "{latency:?} {slowest:?}");
    assert!(
        (1..=bound).contains(&latency.mean_microseconds),
        "{latency:?} {slowest:?}"
    );
    ask(closed).expect_err("nobody listens there");
    let refused = shown(&cell, closed);
    assert_eq!(refused.connect_latency, None);
    assert_eq!(refused.service.connections, 1, "it was sent to a backend");
    assert_eq!(
        (refused.service.bytes_in, refused.service.bytes_out),
        (0, 0)
    );
}

/// A socket that failed may be used for another address.
#[test]
fn a_socket_that_dials_another_address_is_not_the_services() {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, socket};
    use std::os::fd::AsRawFd as _;
    let cell = Cell::enter();
    let server = Server::tcp(1);
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let _proxy = proxy(&cell, &services(&[(VIP, Tcp, &[nobody])]));
    let socket = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::empty(),
        None,
    )
    .unwrap();
    let dial = |to: SocketAddr| {
        let SocketAddr::V4(to) = to else {
            panic!("{to} is not of IPv4");
        };
        connect(socket.as_raw_fd(), &SockaddrIn::from(to))
    };
    dial(VIP.parse().unwrap()).expect_err("nobody listens there");
    dial(server.address).unwrap();
    let mut stream = TcpStream::from(socket.try_clone().unwrap());
    assert_eq!(stream.peer_addr().unwrap(), server.address);
    assert_eq!(crate::servers::ask_stream(&mut stream).unwrap(), 1);
    drop((stream, socket));
    let shown = shown(&cell, VIP);
    assert_eq!(shown.connect_latency, None);
    assert_eq!((shown.service.bytes_in, shown.service.bytes_out), (0, 0));
}

/// Numbers rest for two seconds and are given away again then.
#[test]
fn a_connection_that_outlives_its_service_is_not_counted_for_the_next() {
    let cell = Cell::enter();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let one = services(&[(VIP, Tcp, &[address])]);
    let mut proxy = proxy(&cell, &one);
    let number = shown(&cell, VIP).service.service;
    let mut client = TcpStream::connect(VIP).unwrap();
    let (backend, _) = listener.accept().unwrap();
    client.write_all(b"of another service").unwrap();
    let gone = one.keys().map(|name| (name.clone(), Vec::new())).collect();
    assert_eq!(proxy.sync(&gone), []);
    let other = "10.96.0.11:80";
    let next = services(&[(other, Tcp, &[address])]);
    wait_for("the number to be free", || {
        assert_eq!(proxy.sync(&next), []);
        if shown(&cell, other).service.service == number {
            return true;
        }
        let gone = next.keys().map(|name| (name.clone(), Vec::new())).collect();
        assert_eq!(proxy.sync(&gone), []);
        false
    });
    // And one of its own, so that there are counters to add to.
    let mut own = TcpStream::connect(other).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    own.write_all(b"own").unwrap();
    drop((client, backend));
    drop((own, accepted));
    wait_for("the end of its own connection", || {
        bytes(&cell, other) != (0, 0)
    });
    assert_eq!(bytes(&cell, other), (3, 0));
    assert_eq!(shown(&cell, other).service.connections, 1);
}
