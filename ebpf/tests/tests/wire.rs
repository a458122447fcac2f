//! Real sockets through the programs: two pods and their node, and a host
//! beyond its uplink. What packets alone do not show: segments larger than a
//! link's frame, checksums that a device is still to finish, fragments of the
//! kernel's own making.

mod outside;

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use vetch_ebpf_common::{
    Frontend,
    Protocol::{Tcp, Udp},
    Reason, addresses,
};
use vetch_ebpf_tests::{
    Lab, NODE_V4, NODE_V6, Namespace, POD_1, POD_2, UPLINK, ip_command, mac, peer_mac,
    set_checksum_offload, set_receive_errors, sysctl,
};

/// No packet is to be lost: a try of the sender's again takes 200 ms and more,
/// an answer that does not come would take for ever.
const PATIENCE: Duration = Duration::from_secs(10);

struct Hosts {
    lab: Lab,
    one: Namespace,
    two: Namespace,
    far: Namespace,
}

const GATEWAY: &str = "169.254.1.1";
const GATEWAY6: &str = "fe80::1";

fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// A pod on its link, whose other end answers for every address.
fn pod(lab: &mut Lab, number: u8, ifindex: u32) -> Namespace {
    let namespace = Namespace::new();
    let (device, inside) = (format!("pod{number}"), format!("pod{number}-in"));
    namespace.adopt(&inside);
    let addresses = [format!("10.1.0.{number}"), format!("fd00::{number}")];
    for address in &addresses {
        lab.pod(address, ifindex, 0);
        let family = if address.contains(':') { "-6" } else { "-4" };
        ip_command(&format!("{family} route add {address} dev {device}"));
        ip_command(&format!(
            "neigh add {address} lladdr {} dev {device} nud permanent",
            text(peer_mac(ifindex))
        ));
    }
    let [v4, v6] = addresses;
    let gateway = text(mac(ifindex));
    namespace.run(move || {
        add_address(&format!("{v4}/32"), &inside);
        add_address(&format!("{v6}/128"), &inside);
        for (family, via) in [("-4", GATEWAY), ("-6", GATEWAY6)] {
            ip_command(&format!(
                "neigh add {via} lladdr {gateway} dev {inside} nud permanent"
            ));
            ip_command(&format!(
                "{family} route add default via {via} dev {inside} onlink"
            ));
        }
    });
    namespace
}

fn add_address(address: &str, device: &str) {
    let usable_now = if address.contains(':') { " nodad" } else { "" };
    ip_command(&format!("addr add {address} dev {device}{usable_now}"));
}

fn hosts() -> Hosts {
    hosts_of(Lab::new())
}

fn hosts_of(mut lab: Lab) -> Hosts {
    for name in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        sysctl(name, "1");
    }
    let one = pod(&mut lab, 1, POD_1);
    let two = pod(&mut lab, 2, POD_2);
    let far = Namespace::new();
    far.adopt("up0-in");
    for (node, length) in [(NODE_V4, 24), (NODE_V6, 64)] {
        lab.address(node, addresses::NODE);
        add_address(&format!("{node}/{length}"), "up0");
    }
    // The host is a client, and a pod of another node.
    far.run(|| {
        for address in [
            "192.168.0.1/24",
            "fd00:ff::1/64",
            "10.2.0.7/32",
            "fd01::7/128",
        ] {
            add_address(address, "up0-in");
        }
        ip_command(&format!("route add 10.1.0.0/24 via {NODE_V4}"));
        ip_command(&format!("-6 route add fd00::/64 via {NODE_V6}"));
    });
    ip_command("route add 10.2.0.0/24 via 192.168.0.1");
    ip_command("-6 route add fd01::/64 via fd00:ff::1");
    lab.attach();
    Hosts { lab, one, two, far }
}

/// Answers with everything that one client sends, and says who it was.
fn tcp_echo(at: &Namespace, address: &str) -> thread::JoinHandle<SocketAddr> {
    let address = address.to_owned();
    at.run(move || tcp_server(&address))
}

/// In the caller's namespace.
fn tcp_server(address: &str) -> thread::JoinHandle<SocketAddr> {
    let listener = TcpListener::bind(address).unwrap();
    thread::spawn(move || {
        let (mut stream, client) = listener.accept().unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
        client
    })
}

/// Sends much and gets it back; as whom.
fn tcp_ask(from: &Namespace, to: &str) -> SocketAddr {
    let to: SocketAddr = to.parse().unwrap();
    from.run(move || {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let sent: Vec<u8> = (0..2_000_000_u32).map(|at| (at % 251) as u8).collect();
        stream.write_all(&sent).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        assert!(sent == received, "{} bytes came back", received.len());
        stream.local_addr().unwrap()
    })
}

fn udp_echo(at: &Namespace, address: &str, datagrams: usize) -> thread::JoinHandle<SocketAddr> {
    let address = address.to_owned();
    at.run(move || {
        let socket = UdpSocket::bind(&*address).unwrap();
        thread::spawn(move || {
            let mut bytes = [0; 65_535];
            let mut last = None;
            for _ in 0..datagrams {
                let (length, client) = socket.recv_from(&mut bytes).unwrap();
                socket.send_to(&bytes[..length], client).unwrap();
                last = Some(client);
            }
            last.unwrap()
        })
    })
}

/// Datagrams of these sizes there and back, from whom was asked.
fn udp_ask(from: &Namespace, to: &str, sizes: &'static [usize]) -> SocketAddr {
    let to: SocketAddr = to.parse().unwrap();
    from.run(move || {
        let socket = udp_socket(to);
        for size in sizes {
            let sent = vec![7; *size];
            socket.send(&sent).unwrap();
            let mut bytes = [0; 65_535];
            let length = socket.recv(&mut bytes).unwrap();
            assert!(sent == bytes[..length], "{size}");
        }
        socket.local_addr().unwrap()
    })
}

/// The last three go in fragments.
const SIZES: &[usize] = &[1, 1400, 1999, 4001, 30_000];

fn offload(hosts: &Hosts, on: bool) {
    for (namespace, device) in [
        (&hosts.one, "pod1-in"),
        (&hosts.two, "pod2-in"),
        (&hosts.far, "up0-in"),
    ] {
        namespace.run(move || set_checksum_offload(device, on));
    }
}

fn no_drops(lab: &Lab) {
    for reason in Reason::ALL {
        assert_eq!(lab.reason(*reason), 0, "{reason:?}");
    }
}

fn host(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn each_way(check: impl FnMut(&mut Hosts)) {
    each_way_of(hosts(), check);
}

/// Each way with checksums left to the device, and without.
fn each_way_of(mut hosts: Hosts, mut check: impl FnMut(&mut Hosts)) {
    for on in [true, false] {
        offload(&hosts, on);
        check(&mut hosts);
    }
    no_drops(&hosts.lab);
}

#[test]
fn from_a_pod_to_a_pod() {
    each_way(|hosts| {
        for (vip, backend) in [
            ("10.96.0.1:80", "10.1.0.2:8080"),
            ("[fd96::1]:80", "[fd00::2]:8080"),
        ] {
            hosts.lab.simple_service(1, vip, Tcp, backend);
            hosts.lab.frontend(vip, Udp, 1, 0);
            for to in [vip, backend] {
                let server = tcp_echo(&hosts.two, backend);
                let client = tcp_ask(&hosts.one, to);
                assert_eq!(server.join().unwrap(), client, "{to}");
                let server = udp_echo(&hosts.two, backend, SIZES.len());
                let client = udp_ask(&hosts.one, to, SIZES);
                assert_eq!(server.join().unwrap().port(), client.port(), "{to}");
            }
        }
    });
}

#[test]
fn from_a_pod_to_itself() {
    each_way(|hosts| {
        for (vip, backend, node) in [
            ("10.96.0.1:80", "10.1.0.1:8080", NODE_V4),
            ("[fd96::1]:80", "[fd00::1]:8080", NODE_V6),
        ] {
            hosts.lab.simple_service(1, vip, Tcp, backend);
            let server = tcp_echo(&hosts.one, backend);
            tcp_ask(&hosts.one, vip);
            assert_eq!(server.join().unwrap().ip(), host(node));
        }
    });
}

#[test]
fn from_a_pod_to_another_node() {
    each_way(|hosts| {
        for (vip, backend) in [
            ("10.96.0.1:80", "10.2.0.7:8080"),
            ("[fd96::1]:80", "[fd01::7]:8080"),
        ] {
            hosts.lab.simple_service(1, vip, Tcp, backend);
            hosts.lab.frontend(vip, Udp, 1, 0);
            let server = tcp_echo(&hosts.far, backend);
            let client = tcp_ask(&hosts.one, vip);
            assert_eq!(server.join().unwrap(), client);
            let server = udp_echo(&hosts.far, backend, SIZES.len());
            let client = udp_ask(&hosts.one, vip, SIZES);
            assert_eq!(server.join().unwrap().port(), client.port());
        }
    });
}

#[test]
fn from_the_network_to_a_pod() {
    each_way(|hosts| {
        hosts.lab.uplink(UPLINK, 1500);
        for (any, at, backend) in [
            ("0.0.0.0:30080", "192.168.0.10:30080", "10.1.0.2:8080"),
            ("[::]:30080", "[fd00:ff::10]:30080", "[fd00::2]:8080"),
        ] {
            hosts.lab.simple_service(1, any, Tcp, backend);
            hosts.lab.frontend(any, Tcp, 1, Frontend::EXTERNAL);
            hosts.lab.frontend(any, Udp, 1, Frontend::EXTERNAL);
            let server = tcp_echo(&hosts.two, backend);
            let client = tcp_ask(&hosts.far, at);
            assert_eq!(server.join().unwrap(), client);
            let server = udp_echo(&hosts.two, backend, 2);
            let client = udp_ask(&hosts.far, at, &[1, 1400]);
            assert_eq!(server.join().unwrap().port(), client.port());
        }
    });
}

#[test]
fn from_the_network_to_another_node_by_the_stack() {
    // A packet that is to go on has the node's address as its source.
    let hosts = hosts();
    sysctl("ipv4/conf/up0/accept_local", "1");
    from_the_network_to_another_node(hosts);
}

#[test]
fn from_the_network_to_another_node_by_the_only_uplink() {
    from_the_network_to_another_node(hosts_of(Lab::with_one_uplink()));
}

fn from_the_network_to_another_node(hosts: Hosts) {
    each_way_of(hosts, |hosts| {
        for (any, at, backend, node) in [
            (
                "0.0.0.0:30080",
                "192.168.0.10:30080",
                "10.2.0.7:8080",
                NODE_V4,
            ),
            (
                "[::]:30080",
                "[fd00:ff::10]:30080",
                "[fd01::7]:8080",
                NODE_V6,
            ),
        ] {
            hosts.lab.simple_service(1, any, Tcp, backend);
            hosts.lab.frontend(any, Tcp, 1, Frontend::EXTERNAL);
            let server = tcp_echo(&hosts.far, backend);
            tcp_ask(&hosts.far, at);
            assert_eq!(server.join().unwrap().ip(), host(node));
        }
    });
}

/// A pod on the node's own network, as far as the programs see.
#[test]
fn to_a_process_of_the_node() {
    each_way(|hosts| {
        for (vip, any, at, backend) in [
            (
                "10.96.0.1:80",
                "0.0.0.0:30080",
                "192.168.0.10:30080",
                "192.168.0.10:10250",
            ),
            (
                "[fd96::1]:80",
                "[::]:30080",
                "[fd00:ff::10]:30080",
                "[fd00:ff::10]:10250",
            ),
        ] {
            hosts.lab.simple_service(1, vip, Tcp, backend);
            hosts.lab.frontend(any, Tcp, 1, Frontend::EXTERNAL);
            for (client, to) in [(&hosts.one, vip), (&hosts.one, at), (&hosts.far, at)] {
                let server = tcp_server(backend);
                let client = tcp_ask(client, to);
                assert_eq!(server.join().unwrap(), client, "{to}");
            }
        }
    });
}

/// Pods and the network, where nobody listens, with checksums left to the
/// devices at neither, either or both ends: an answer made of such a packet
/// has to be finished as well.
#[test]
fn where_nobody_is() {
    let mut hosts = hosts();
    for vip in ["10.96.0.1", "fd96::1"] {
        hosts.lab.address(vip, addresses::SERVICE);
    }
    hosts.far.run(|| {
        ip_command(&format!("route add 10.96.0.0/24 via {NODE_V4}"));
        ip_command(&format!("-6 route add fd96::/64 via {NODE_V6}"));
    });
    for (at_client, at_node) in [(true, true), (true, false), (false, true), (false, false)] {
        offload(&hosts, at_client);
        for device in ["pod1", "up0"] {
            set_checksum_offload(device, at_node);
        }
        for from in [&hosts.one, &hosts.far] {
            from.run(|| {
                ["10.96.0.1:9", "[fd96::1]:9"]
                    .into_iter()
                    .for_each(is_refused)
            });
        }
    }
}

fn is_refused(to: &str) {
    let to: SocketAddr = to.parse().unwrap();
    let error = TcpStream::connect_timeout(&to, PATIENCE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}");
    // The last one is quoted in part, of a first fragment.
    for size in [0, 1, 33, 512, 1400, 4000] {
        let socket = udp_socket(to);
        socket.send(&vec![7; size]).unwrap();
        let error = socket.recv(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{to}, {size}");
    }
}

/// A link that takes less than the pods' do, on the way out and on the way back.
#[test]
fn path_mtu() {
    let mut hosts = hosts();
    ip_command("link set up0 mtu 1400");
    hosts.far.run(|| ip_command("link set up0-in mtu 1400"));
    hosts.lab.uplink(UPLINK, 1400);
    for (vip, backend) in [
        ("10.96.0.1:80", "10.2.0.7:8080"),
        ("[fd96::1]:80", "[fd01::7]:8080"),
    ] {
        hosts.lab.simple_service(1, vip, Udp, backend);
        let server = udp_echo(&hosts.far, backend, 1);
        let to: SocketAddr = vip.parse().unwrap();
        hosts.one.run(move || {
            let socket = udp_socket(to);
            // Too long: the node says so, of the service.
            socket.send(&[7; 1450]).unwrap();
            let error = socket.recv(&mut [0; 1500]).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
            // Now the kernel knows and cuts it.
            socket.send(&[7; 1450]).unwrap();
            assert_eq!(socket.recv(&mut [0; 1500]).unwrap(), 1450);
        });
        server.join().unwrap();
    }
    for (any, at, backend) in [
        ("0.0.0.0:30080", "192.168.0.10:30080", "10.1.0.2:8080"),
        ("[::]:30080", "[fd00:ff::10]:30080", "[fd00::2]:8080"),
    ] {
        hosts.lab.simple_service(2, any, Udp, backend);
        hosts.lab.frontend(any, Udp, 2, Frontend::EXTERNAL);
        let to: SocketAddr = at.parse().unwrap();
        let backend: SocketAddr = backend.parse().unwrap();
        let pod = hosts.two.run(move || UdpSocket::bind(backend).unwrap());
        let client = hosts.far.run(move || {
            let socket = udp_socket(to);
            socket.send(&[7; 10]).unwrap();
            socket
        });
        hosts.two.run(move || {
            let (_, client) = pod.recv_from(&mut [0; 10]).unwrap();
            pod.connect(client).unwrap();
            pod.set_read_timeout(Some(PATIENCE)).unwrap();
            pod.send(&[7; 1450]).unwrap();
            let error = pod.recv(&mut [0; 10]).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
            pod.send(&[7; 1300]).unwrap();
        });
        assert_eq!(client.recv(&mut [0; 1500]).unwrap(), 1300);
    }
    no_drops(&hosts.lab);
}

fn udp_socket(to: SocketAddr) -> UdpSocket {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // The kernel is to hear of errors, and to tell.
    set_receive_errors(&socket, to.is_ipv6());
    socket
}

/// A port that nobody listens at: the backend's ICMP error, as the service's.
#[test]
fn a_closed_port() {
    each_way(|hosts| {
        for (vip, backend) in [
            ("10.96.0.1:80", "10.1.0.2:9"),
            ("[fd96::1]:80", "[fd00::2]:9"),
        ] {
            hosts.lab.simple_service(1, vip, Tcp, backend);
            hosts.lab.frontend(vip, Udp, 1, 0);
            let to: SocketAddr = vip.parse().unwrap();
            hosts.one.run(move || {
                let socket = udp_socket(to);
                socket.send(&[1]).unwrap();
                let error = socket.recv(&mut [0; 10]).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
                let error = TcpStream::connect_timeout(&to, PATIENCE).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
            });
        }
    });
}
