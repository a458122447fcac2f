//! A host outside the cluster: what pods ask it as their node, and what it asks them.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpStream},
};

use vetch_ebpf_common::Protocol::{Tcp, Udp};
use vetch_ebpf_tests::{Lab, NODE_V4, NODE_V6, Options, ip_command};

use super::{
    Hosts, PATIENCE, SIZES, add_address, each_way_of, host, hosts_of, no_drops, tcp_ask, tcp_echo,
    udp_ask, udp_echo, udp_socket,
};

/// A host outside, and what it is by either family.
const OUTSIDE: [&str; 2] = ["203.0.113.7", "2001:db8:7::7"];

/// With a host that has no route to pods.
fn border() -> Hosts {
    let lab = Lab::with(Options {
        masquerade: true,
        ..Options::default()
    });
    let mut hosts = hosts_of(lab);
    for (range, prefix) in [("10.0.0.0", 104), ("fd00::", 16), (NODE_V4, 120)] {
        hosts.lab.non_masquerade(range, prefix);
    }
    hosts.far.run(|| {
        ip_command(&format!("route del 10.1.0.0/24 via {NODE_V4}"));
        ip_command(&format!("-6 route del fd00::/64 via {NODE_V6}"));
        for (address, length) in OUTSIDE.into_iter().zip([32, 128]) {
            add_address(&format!("{address}/{length}"), "up0-in");
        }
    });
    let [v4, v6] = OUTSIDE;
    ip_command(&format!("route add {v4} via 192.168.0.1"));
    ip_command(&format!("-6 route add {v6} via fd00:ff::1"));
    hosts
}

fn at(address: &str, port: u16) -> String {
    SocketAddr::new(host(address), port).to_string()
}

#[test]
fn from_a_pod_out_of_the_cluster() {
    each_way_of(border(), |hosts| {
        for (to, node) in OUTSIDE.into_iter().zip([NODE_V4, NODE_V6]) {
            let to = at(to, 8080);
            let server = tcp_echo(&hosts.far, &to);
            tcp_ask(&hosts.one, &to);
            let client = server.join().unwrap();
            assert!(
                client.ip() == host(node) && client.port() >= 61000,
                "{client}"
            );
            let server = udp_echo(&hosts.far, &to, SIZES.len());
            udp_ask(&hosts.one, &to, SIZES);
            let client = server.join().unwrap();
            assert!(
                client.ip() == host(node) && client.port() >= 61000,
                "{client}"
            );
        }
    });
}

#[test]
fn from_a_pod_to_a_service_outside() {
    each_way_of(border(), |hosts| {
        for ((vip, to), node) in ["10.96.0.1:80", "[fd96::1]:80"]
            .into_iter()
            .zip(OUTSIDE)
            .zip([NODE_V4, NODE_V6])
        {
            let backend = at(to, 8080);
            hosts.lab.simple_service(1, vip, Tcp, &backend);
            hosts.lab.frontend(vip, Udp, 1, 0);
            let server = tcp_echo(&hosts.far, &backend);
            tcp_ask(&hosts.one, vip);
            assert_eq!(server.join().unwrap().ip(), host(node));
            let server = udp_echo(&hosts.far, &backend, SIZES.len());
            udp_ask(&hosts.one, vip, SIZES);
            assert_eq!(server.join().unwrap().ip(), host(node));
        }
    });
}

#[test]
fn what_is_said_outside_comes_to_the_pod() {
    let hosts = border();
    for to in OUTSIDE {
        let nobody = at(to, 9);
        let (tcp, udp) = hosts.one.run(move || {
            let place: SocketAddr = nobody.parse().unwrap();
            let tcp = TcpStream::connect_timeout(&place, PATIENCE).unwrap_err();
            let socket = udp_socket(place);
            socket.send(b"?").unwrap();
            (tcp, socket.recv(&mut [0; 8]).unwrap_err())
        });
        for error in [tcp, udp] {
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}");
        }
        for number in [[0x12, 0x34], [0xff, 0x34]] {
            let to = host(to);
            assert!(hosts.one.run(move || echoes(to, number)), "{to}");
        }
    }
    no_drops(&hosts.lab);
}

/// A host that has a route to pods and dials one; its sockets take the word of nobody else.
#[test]
fn from_outside_to_a_pod() {
    let hosts = border();
    hosts.far.run(|| {
        let [v4, v6] = OUTSIDE;
        ip_command(&format!("route add 10.1.0.0/24 via {NODE_V4} src {v4}"));
        ip_command(&format!("-6 route add fd00::/64 via {NODE_V6} src {v6}"));
    });
    for (pod, from) in ["10.1.0.2:8080", "[fd00::2]:8080"].into_iter().zip(OUTSIDE) {
        let server = tcp_echo(&hosts.two, pod);
        let client = tcp_ask(&hosts.far, pod);
        assert_eq!(server.join().unwrap(), client);
        assert_eq!(client.ip(), host(from));
        let server = udp_echo(&hosts.two, pod, SIZES.len());
        udp_ask(&hosts.far, pod, SIZES);
        assert_eq!(server.join().unwrap().ip(), host(from));
    }
    no_drops(&hosts.lab);
}

/// Whether an echo of this number is answered.
fn echoes(to: IpAddr, number: [u8; 2]) -> bool {
    use nix::sys::{
        socket::{
            AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, recv,
            sendto, setsockopt, socket, sockopt,
        },
        time::{TimeVal, TimeValLike as _},
    };
    use std::os::fd::AsRawFd as _;
    let (family, protocol, request, reply) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, 8, 0),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128, 129),
    };
    let raw = socket(family, SockType::Raw, SockFlag::empty(), protocol).unwrap();
    let patience = TimeVal::seconds(PATIENCE.as_secs().cast_signed());
    setsockopt(&raw, sockopt::ReceiveTimeout, &patience).unwrap();
    let [a, b] = number;
    // Of IPv6 the kernel makes it.
    let sum = u32::from(request) * 256 + u32::from(u16::from_be_bytes(number));
    let [high, low] = (!(sum % 65536 + sum / 65536) as u16).to_be_bytes();
    let packet = [request, 0, high, low, a, b, 0, 0];
    let place = SockaddrStorage::from(SocketAddr::new(to, 0));
    sendto(raw.as_raw_fd(), &packet, &place, MsgFlags::empty()).unwrap();
    let mut bytes = [0; 256];
    // Of IPv4 the header comes along.
    let skip = if to.is_ipv4() { 20 } else { 0 };
    while let Ok(count) = recv(raw.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
        if count >= skip + 6 && bytes[skip] == reply && bytes[skip + 4..skip + 6] == number {
            return true;
        }
    }
    false
}
