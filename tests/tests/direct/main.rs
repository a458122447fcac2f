//! Direct server return on a cluster: `vetch-node --load-balancer-mode dsr`, and a client outside, which is the machine
//! that the nodes stand on. Beside it where packets get as they are, IPv6, and nodes that share no link.

mod connectivity;
mod ipv6;
mod vxlan;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::{Value, json};
use vetch_tests::{Namespace, Node, Own, eventually};

const MINUTE: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(5);

/// An echo server on this node, and a Service of node ports for it.
fn objects(node: &Node) -> [Value; 2] {
    let container = json!({
        "name": "echo", "image": "vetch.local/echo:v1", "imagePullPolicy": "IfNotPresent",
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1},
    });
    [
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "far", "labels": {"app": "far"}},
            "spec": {
                "nodeName": node.name, "terminationGracePeriodSeconds": 1, "containers": [container],
            },
        }),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "far"},
            "spec": {"type": "NodePort", "ipFamilyPolicy": "PreferDualStack", "selector": {"app": "far"}, "ports": [
                {"name": "http", "port": 80, "targetPort": 8080},
                {"name": "udp", "protocol": "UDP", "port": 82, "targetPort": 8082},
            ]},
        }),
    ]
}

fn node_port(namespace: &Namespace<'_>, place: usize) -> Result<u16> {
    let pointer = format!("/spec/ports/{place}/nodePort");
    let port = namespace.field("service/far", &pointer)?;
    Ok(port.as_u64().context("no node port")?.try_into()?)
}

/// What the server says of a request, and the address that it was sent from.
fn get(place: SocketAddr) -> Result<(String, SocketAddr)> {
    let mut stream = TcpStream::connect_timeout(&place, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let own = stream.local_addr()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok((said, own))
}

#[test]
fn a_client_outside_is_answered_by_the_pods_own_node() -> Result<()> {
    let flag = "--node-arg=--load-balancer-mode=dsr";
    // The machine knows the way to pods, so that they need no other address there.
    let seen = "--node-arg=--non-masquerade-cidr=0.0.0.0/0,::/0";
    let cluster = Own::up("vtdsr", &["--nodes", "2", flag, seen])?;
    let (dialled, far) = (cluster.node("node-1")?, cluster.node("node-2")?);
    let namespace = Namespace::create(&cluster, "direct")?;
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects(far)});
    namespace.apply(&list.to_string())?;
    for ip in dialled.ips()? {
        let http = SocketAddr::new(ip, node_port(&namespace, 0)?);
        let (said, own) = eventually(MINUTE, "the node port answers", || get(http))?;
        // By way of the dialled node, and no node put its own address in the client's place.
        ensure!(said.contains(&format!("remote: {own}\n")), "{own}: {said}");

        // A connected socket takes datagrams from whom it has dialled alone.
        let any = if ip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        socket.connect((ip, node_port(&namespace, 1)?))?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        eventually(MINUTE, "a datagram is answered", || {
            socket.send(b"word")?;
            let mut answer = [0; 64];
            let count = socket.recv(&mut answer)?;
            ensure!(&answer[..count] == b"far: word", "{:?}", &answer[..count]);
            Ok(())
        })?;
        pods_are_seen_as_they_are(&namespace, own.ip())?;
    }
    Ok(())
}

/// Whom `--non-masquerade-cidr` names.
fn pods_are_seen_as_they_are(namespace: &Namespace<'_>, machine: IpAddr) -> Result<()> {
    let listener = TcpListener::bind((machine, 0))?;
    let url = format!("http://{}/", listener.local_addr()?);
    let server = thread::spawn(move || -> Result<SocketAddr> {
        let (mut stream, peer) = listener.accept()?;
        ensure!(stream.read(&mut [0; 1024])? > 0, "nothing was asked");
        stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        Ok(peer)
    });
    let said = namespace
        .inside("far")?
        .run("curl", &["-sS", "--max-time", "10", &url])?;
    ensure!(said == "ok", "{said}");
    let peer = server.join().map_err(|_| anyhow!("the server died"))??;
    let ips = namespace.field("pod/far", "/status/podIPs")?;
    let mut own = ips.as_array().into_iter().flatten();
    let seen = peer.ip().to_string();
    ensure!(
        own.any(|ip| ip["ip"] == seen.as_str()),
        "{peer}, not of {ips}"
    );
    Ok(())
}
