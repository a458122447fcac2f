//! Which packets get from where to where, and as whom: every pair of places × family × protocol × length, with the
//! address that the other side sees. No name, Service or policy is in the way.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use serde_json::{Value, json};
use vetch_tests::wait::patient;
use vetch_tests::{Cluster, Namespace, Node, Own};

const TIMEOUT: Duration = Duration::from_secs(2);

/// What the network between the nodes asks for.
#[derive(Clone, Copy)]
struct Terms {
    /// The longest packet that gets everywhere.
    mtu: usize,
    /// How often a datagram is sent before it counts as lost: more than once where a sender is told on the way what
    /// fits.
    tries: usize,
}

/// Where packets begin and end.
struct Place {
    name: &'static str,
    /// None: this machine, which is outside of the cluster.
    node: Option<Node>,
    ips: Vec<IpAddr>,
}

impl Place {
    fn run<T: Send>(&self, job: impl FnOnce() -> T + Send) -> Result<T> {
        match &self.node {
            Some(node) => node.in_network(job),
            None => Ok(job()),
        }
    }

    fn ip(&self, is_v4: bool) -> Option<IpAddr> {
        let mut own = self.ips.iter().copied();
        own.find(|ip| ip.is_ipv4() == is_v4)
    }
}

#[derive(Clone, Copy, Debug)]
enum Protocol {
    Tcp,
    Udp,
    Icmp,
}

#[derive(Clone, Copy, Debug)]
enum Length {
    Small,
    /// As much as fits one packet.
    Mtu,
    /// Datagrams in fragments, streams in segments.
    Cut,
}

impl Length {
    fn bytes(self, protocol: Protocol, is_v4: bool, mtu: usize) -> usize {
        let ip = if is_v4 { 20 } else { 40 };
        // With TCP's timestamps; ICMP's echo has a header of UDP's length.
        let transport = match protocol {
            Protocol::Tcp => 32,
            Protocol::Udp | Protocol::Icmp => 8,
        };
        match (self, protocol) {
            (Self::Small, _) => 4,
            (Self::Mtu, _) => mtu - ip - transport,
            (Self::Cut, Protocol::Tcp) => 1 << 18,
            (Self::Cut, _) => 2 * mtu + 100,
        }
    }
}

/// There and back; answers with the address that the server saw.
fn exchange(
    client: &Place,
    server: &Place,
    to: IpAddr,
    protocol: Protocol,
    len: usize,
    tries: usize,
) -> Result<IpAddr> {
    let try_once = || match protocol {
        Protocol::Tcp => stream(client, server, to, len),
        Protocol::Udp => datagram(client, server, to, len),
        Protocol::Icmp => echo(client, server, to, len),
    };
    for _ in 1..tries {
        if let Ok(seen) = try_once() {
            return Ok(seen);
        }
    }
    try_once()
}

fn stream(client: &Place, server: &Place, to: IpAddr, len: usize) -> Result<IpAddr> {
    let listener = server.run(|| TcpListener::bind((to, 0)))??;
    let place = listener.local_addr()?;
    let mut client = client.run(|| TcpStream::connect_timeout(&place, TIMEOUT))??;
    // It was connected, so it is there.
    let (mut served, from) = listener.accept()?;
    for stream in [&client, &served] {
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
    }
    std::thread::scope(|scope| -> Result<()> {
        let answering = scope.spawn(move || {
            let mut bytes = vec![0; len];
            served.read_exact(&mut bytes)?;
            served.write_all(&bytes)
        });
        client.write_all(&vec![7; len])?;
        let mut bytes = vec![0; len];
        client.read_exact(&mut bytes)?;
        ensure!(bytes.iter().all(|byte| *byte == 7), "other bytes came back");
        answering
            .join()
            .map_err(|_| anyhow::anyhow!("panicked"))??;
        Ok(())
    })?;
    Ok(from.ip())
}

fn datagram(client: &Place, server: &Place, to: IpAddr, len: usize) -> Result<IpAddr> {
    let server = server.run(|| UdpSocket::bind((to, 0)))??;
    let client = client.run(|| UdpSocket::bind(any(to)))??;
    for socket in [&client, &server] {
        socket.set_read_timeout(Some(TIMEOUT))?;
    }
    client.send_to(&vec![7; len], server.local_addr()?)?;
    let mut bytes = vec![0; len + 1];
    let (count, from) = server.recv_from(&mut bytes).context("the question")?;
    ensure!(count == len, "{count} bytes arrived");
    server.send_to(&bytes[..count], from)?;
    let answer = client.recv_from(&mut bytes).context("the answer")?;
    ensure!(answer == (len, server.local_addr()?), "answered {answer:?}");
    Ok(from.ip())
}

fn any(like: IpAddr) -> SocketAddr {
    match like {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// An echo request, which the server's kernel answers.
fn echo(client: &Place, server: &Place, to: IpAddr, len: usize) -> Result<IpAddr> {
    const ID: [u8; 2] = [0x76, 0x74];
    let (request, reply) = match to {
        IpAddr::V4(_) => (8, 0),
        IpAddr::V6(_) => (128, 129),
    };
    let heard = server.run(|| raw(to))??;
    let client = client.run(|| raw(to))??;
    let mut message = vec![7; 8 + len];
    message[..8].copy_from_slice(&[request, 0, 0, 0, ID[0], ID[1], 0, 1]);
    if to.is_ipv4() {
        // Of IPv6's the kernel makes the sum itself.
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum);
    }
    client.send_to(&message, (to, 0))?;
    // Outside of the cluster it may have another.
    let seen = wait(&heard, request, None, len).context("the request")?;
    let from = wait(&client, reply, Some(ID), len).context("the reply")?;
    ensure!(from == to, "answered by {from}");
    Ok(seen)
}

/// Of a raw socket the calls are a datagram socket's.
fn raw(like: IpAddr) -> Result<UdpSocket> {
    let (family, protocol) = match like {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let made = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    let socket = UdpSocket::from(made);
    socket.set_read_timeout(Some(TIMEOUT))?;
    Ok(socket)
}

/// Until a message of this kind comes; from whom. Others may be about.
fn wait(socket: &UdpSocket, kind: u8, id: Option<[u8; 2]>, len: usize) -> Result<IpAddr> {
    let mut bytes = vec![0; 1 << 16];
    loop {
        let (count, from) = socket.recv_from(&mut bytes)?;
        // IPv4's come with their header, of so many words.
        let header = match from {
            SocketAddr::V4(_) => usize::from(bytes[0] & 0xf) * 4,
            SocketAddr::V6(_) => 0,
        };
        let message = &bytes[header.min(count)..count];
        if message.len() == 8 + len
            && message[0] == kind
            && id.is_none_or(|id| message[4..6] == id)
            && message[8..].iter().all(|byte| *byte == 7)
        {
            return Ok(from.ip());
        }
    }
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks(2);
    let sum: u32 = words
        .map(|word| u32::from(word[0]) << 8 | word.get(1).map_or(0, |low| u32::from(*low)))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    (!(sum as u16)).to_be_bytes()
}

fn idle(name: &str, node: &Node) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "nodeName": node.name, "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "idle", "image": "vetch.local/echo:v1", "imagePullPolicy": "IfNotPresent",
                "command": ["sleep", "3600"],
            }],
        },
    })
}

fn addresses(of: &Value, pointer: &str) -> Result<Vec<IpAddr>> {
    let list = of.pointer(pointer).and_then(Value::as_array);
    let list = list.with_context(|| format!("no {pointer}: {}", of["status"]))?;
    list.iter()
        .map(|one| Ok(one["ip"].as_str().context("no text")?.parse()?))
        .collect()
}

/// Pods of two nodes, the nodes, and this machine.
fn places(cluster: &Cluster, namespace: &Namespace<'_>) -> Result<Vec<Place>> {
    let [one, two, ..] = &cluster.nodes[..] else {
        anyhow::bail!("the cluster has one node alone");
    };
    let pods = [("pod", one), ("near", one), ("far", two)];
    let items = pods.map(|(name, node)| idle(name, node));
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    namespace.apply(&list.to_string())?;
    let limit = format!("--timeout={}s", patient(Duration::from_secs(60)).as_secs());
    let names = pods.map(|(name, _)| name);
    let wait = ["wait", "pod", "--for=condition=Ready", &limit];
    namespace.kubectl(&[&wait[..], &names].concat())?.ok()?;
    let mut places = Vec::new();
    for name in names {
        let object = namespace.get(&[&format!("pod/{name}")])?;
        let ips = addresses(&object, "/status/podIPs")?;
        let hosts = addresses(&object, "/status/hostIPs")?;
        ensure!(
            ips.len() == hosts.len() && !ips.is_empty(),
            "{name} has {ips:?} on {hosts:?}"
        );
        places.push(Place {
            name,
            node: Some(namespace.inside(name)?),
            ips,
        });
    }
    for (name, node) in [("node", one), ("other node", two)] {
        places.push(Place {
            name,
            node: Some(node.clone()),
            ips: node.ips()?,
        });
    }
    places.push(Place {
        name: "outside",
        node: None,
        ips: cluster.machine_ips.clone(),
    });
    Ok(places)
}

/// Client, server, and whose address the server sees: the client's own, and outside of the cluster a pod's node's.
const PAIRS: [(&str, &str, &str); 15] = [
    ("pod", "pod", "pod"),
    ("pod", "near", "pod"),
    ("pod", "far", "pod"),
    ("far", "pod", "far"),
    ("pod", "node", "pod"),
    ("pod", "other node", "pod"),
    ("far", "node", "far"),
    ("pod", "outside", "node"),
    ("far", "outside", "other node"),
    ("node", "pod", "node"),
    ("node", "far", "node"),
    ("other node", "pod", "other node"),
    ("node", "other node", "node"),
    ("outside", "pod", "outside"),
    ("outside", "far", "outside"),
];

#[test]
fn packets_of_every_kind_get_everywhere_as_whom_they_are() -> Result<()> {
    let terms = Terms {
        mtu: 1500,
        tries: 1,
    };
    everywhere(&Cluster::shared()?, terms)
}

/// The nodes share no link, and are in VXLAN to each other by both families.
#[test]
fn packets_of_every_kind_get_to_nodes_behind_a_router() -> Result<()> {
    let cluster = Own::up("vtmatrix", &["--nodes", "2", "--subnets", "2"])?;
    let terms = Terms {
        mtu: 1430,
        tries: 4,
    };
    everywhere(&cluster, terms)
}

fn everywhere(cluster: &Cluster, terms: Terms) -> Result<()> {
    let namespace = Namespace::create(cluster, "connectivity")?;
    let places = places(cluster, &namespace)?;
    let place = |name: &str| {
        let found = places.iter().find(|place| place.name == name);
        found.with_context(|| format!("no place {name}"))
    };
    let mut tried = 0;
    let mut wrong = Vec::new();
    for (client, server, seen_as) in PAIRS {
        let (client, server, seen_as) = (place(client)?, place(server)?, place(seen_as)?);
        for is_v4 in [true, false] {
            let (Some(from), Some(to)) = (seen_as.ip(is_v4), server.ip(is_v4)) else {
                continue;
            };
            for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Icmp] {
                for length in [Length::Small, Length::Mtu, Length::Cut] {
                    let bytes = length.bytes(protocol, is_v4, terms.mtu);
                    let seen = exchange(client, server, to, protocol, bytes, terms.tries);
                    let cell = format!(
                        "{} to {}, {protocol:?}, {length:?}, {to}",
                        client.name, server.name
                    );
                    tried += 1;
                    match seen {
                        Ok(seen) if seen == from => {}
                        Ok(seen) => wrong.push(format!("{cell}: from {seen}, not {from}")),
                        Err(error) => wrong.push(format!("{cell}: {error:#}")),
                    }
                }
            }
        }
    }
    let families = cluster.machine_ips.len();
    ensure!(tried == PAIRS.len() * families * 9, "{tried} were tried");
    ensure!(wrong.is_empty(), "of {tried}:\n{}", wrong.join("\n"));
    Ok(())
}
