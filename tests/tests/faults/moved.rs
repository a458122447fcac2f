//! A node comes back with other addresses, as one whose DHCP lease is over. Expected: its Node says so, the other nodes
//! reach its pods there, its pods' traffic has the new one, and no route leads to the old one.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::{Value, json};
use vetch_tests::{Namespace, Node, Own, eventually};

use crate::{MINUTE, apply, server, text};

/// Fifty further on in its network, where nobody is.
fn moved(ip: IpAddr) -> IpAddr {
    const BY: u8 = 50;
    match ip {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() + u32::from(BY)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() + u128::from(BY)).into(),
    }
}

fn list(ips: &[IpAddr]) -> String {
    let texts: Vec<String> = ips.iter().map(IpAddr::to_string).collect();
    texts.join(",")
}

/// As whoever manages the node's network would.
fn readdress(node: &Node, from: IpAddr, to: IpAddr) -> Result<()> {
    let (length, now) = match from {
        IpAddr::V4(_) => (24, None),
        IpAddr::V6(_) => (80, Some("nodad")),
    };
    let [old, new] = [from, to].map(|ip| format!("{ip}/{length}"));
    node.run("ip", &["address", "delete", &old, "dev", "eth0"])?;
    let add = ["address", "add", &new, "dev", "eth0"];
    let add: Vec<&str> = add.into_iter().chain(now).collect();
    node.run("ip", &add).map(drop)
}

/// A pod that has the node's network, on a port of its own.
fn host(node: &Node) -> Value {
    let mut pod = server("host", &node.name);
    pod["metadata"]["labels"] = json!({"app": "host"});
    pod["spec"]["hostNetwork"] = true.into();
    let container = &mut pod["spec"]["containers"][0];
    container["env"] = json!([{"name": "POD_NAME", "value": "host"}]);
    pod
}

fn addresses(
    namespace: &Namespace<'_>,
    object: &str,
    pointer: &str,
    key: &str,
) -> Result<Vec<IpAddr>> {
    let found = namespace.field(object, pointer)?;
    let all = found.as_array().context("no list")?.iter();
    // Of a Node's one is a name.
    Ok(all
        .filter_map(|one| one[key].as_str()?.parse().ok())
        .collect())
}

fn said(from: &Node, place: SocketAddr) -> Result<String> {
    from.run(
        "curl",
        &["-sf", "--max-time", "2", &format!("http://{place}/")],
    )
}

/// Whom this machine takes the pod for.
fn seen_as(pod: &Node, machine: IpAddr) -> Result<IpAddr> {
    let listener = TcpListener::bind((machine, 0))?;
    let url = format!("http://{}/", listener.local_addr()?);
    let server = std::thread::spawn(move || -> Result<IpAddr> {
        let (mut stream, peer) = listener.accept()?;
        ensure!(stream.read(&mut [0; 1024])? > 0, "nothing was asked");
        stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        Ok(peer.ip())
    });
    let said = pod.run("curl", &["-sS", "--max-time", "10", &url])?;
    ensure!(said == "ok", "{said}");
    server.join().map_err(|_| anyhow!("the server died"))?
}

#[test]
fn a_node_that_comes_back_with_another_address_is_reached_there_and_nowhere_else() -> Result<()> {
    moves("vtmoved", &["--nodes", "2"], "via")
}

#[test]
fn so_it_is_in_vxlan() -> Result<()> {
    let always = "--node-arg=--vxlan-mode=always";
    moves("vtmovedvx", &["--nodes", "2", always], "dst")
}

/// `word` goes before a node's address in routes to its pods.
fn moves(name: &str, up: &[&str], word: &str) -> Result<()> {
    let cluster = Own::up(name, up)?;
    let (near, far) = (cluster.node("node-1")?, cluster.node("node-2")?);
    let namespace = Namespace::create(&cluster, "moved")?;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "far"},
        "spec": {"type": "NodePort", "ipFamilyPolicy": "PreferDualStack", "selector": {"pod": "far"},
                 "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    });
    let items = [
        server("near", &near.name),
        server("far", &far.name),
        host(far),
        service,
    ];
    apply(&namespace, &items)?;
    let limit = "--timeout=90s";
    let ready = [
        "wait",
        "pod",
        "--for=condition=Ready",
        limit,
        "near",
        "far",
        "host",
    ];
    namespace.kubectl(&ready)?.ok()?;
    let inside = namespace.inside("near")?;
    let pod_ips = addresses(&namespace, "pod/far", "/status/podIPs", "ip")?;
    for ip in &pod_ips {
        let place = SocketAddr::new(*ip, 8080);
        eventually(MINUTE, "the pod answers before", || said(&inside, place))?;
    }

    let old = far.ips()?;
    let new: Vec<IpAddr> = old.iter().copied().map(moved).collect();
    cluster.xtask(&["node", "stop", &far.name])?;
    for (from, to) in old.iter().zip(&new) {
        readdress(far, *from, *to)?;
    }
    cluster.xtask(&["node", "start", &far.name, "--node-ip", &list(&new)])?;

    // All that says where it is.
    for (object, pointer, key) in [
        ("node/node-2", "/status/addresses", "address"),
        ("pod/far", "/status/hostIPs", "ip"),
        ("pod/host", "/status/podIPs", "ip"),
    ] {
        eventually(MINUTE, &format!("{object} has {new:?}"), || {
            let found = addresses(&namespace, object, pointer, key)?;
            ensure!(found == new, "{found:?}");
            Ok(())
        })?;
    }
    cluster.wait_node(&far.name, "Ready", MINUTE)?;
    let found = addresses(&namespace, "pod/far", "/status/podIPs", "ip")?;
    ensure!(found == pod_ips, "pods keep their addresses: {found:?}");

    // All that leads there, from a pod of the other node, from that node, and from outside.
    let port = namespace.field("service/far", "/spec/ports/0/nodePort")?;
    let port: u16 = port.as_u64().context("no node port")?.try_into()?;
    let cluster_ip = text(&namespace, "service/far", "/spec/clusterIP")?.parse()?;
    let mut places = vec![(SocketAddr::new(cluster_ip, 80), "far")];
    places.extend(pod_ips.iter().map(|ip| (SocketAddr::new(*ip, 8080), "far")));
    places.extend(new.iter().map(|ip| (SocketAddr::new(*ip, 8080), "host")));
    for (place, pod) in &places {
        for from in [&inside, near] {
            eventually(MINUTE, &format!("{pod} answers at {place}"), || {
                let said = said(from, *place)?;
                ensure!(said.contains(&format!("pod: {pod}\n")), "{said}");
                Ok(())
            })?;
        }
    }
    for ip in &new {
        let place = SocketAddr::new(*ip, port);
        eventually(MINUTE, &format!("the node port answers at {place}"), || {
            let stream = std::net::TcpStream::connect_timeout(&place, Duration::from_secs(2))?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            (&stream).write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            let mut said = String::new();
            (&stream).read_to_string(&mut said)?;
            ensure!(said.contains("pod: far\n"), "{said}");
            Ok(())
        })?;
    }
    // The API server finds the node's own server, and its pods the names.
    let name = "kubernetes.default.svc.cluster.local";
    eventually(MINUTE, "a name is found on the node", || {
        namespace
            .kubectl(&["exec", "far", "--", "nslookup", "-type=a", name])?
            .ok()
    })?;
    let outside = seen_as(&namespace.inside("far")?, cluster.machine_ips[0])?;
    ensure!(outside == new[0], "{outside}, not {}", new[0]);

    // Nothing leads to where it was.
    let routes = [
        near.run("ip", &["-4", "route", "show", "table", "all"])?,
        near.run("ip", &["-6", "route", "show", "table", "all"])?,
    ];
    let leads = |word: &str, ip: &IpAddr| {
        let words = format!("{word} {ip} ");
        let mut lines = routes.iter().flat_map(|all| all.lines());
        lines.find(|line| format!("{line} ").contains(&words))
    };
    for (from, to) in old.iter().zip(&new) {
        for word in ["via", "dst"] {
            let stale = leads(word, from);
            ensure!(stale.is_none(), "{stale:?}");
        }
        ensure!(leads(word, to).is_some(), "no {word} {to} in {routes:?}");
    }
    Ok(())
}
