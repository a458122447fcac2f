//! Nodes on two links with a router in between, which knows no pods: node-1 and node-3 reach each other's pods
//! directly, and node-2's in VXLAN.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use vetch_tests::cluster::repository;
use vetch_tests::{Namespace, Node, Own, eventually};

use crate::{MINUTE, TIMEOUT, get};

/// An echo server that does not move.
fn server(name: &str, node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "nodeName": node, "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "echo", "image": "vetch.local/echo:v1", "imagePullPolicy": "IfNotPresent",
                "env": [{"name": "POD_NAME", "value": name}],
                "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1},
            }],
        },
    })
}

/// A pod's address, and a node whose commands run in the pod.
struct Pod {
    name: &'static str,
    ip: String,
    inside: Node,
}

fn pod(namespace: &Namespace<'_>, name: &'static str) -> Result<Pod> {
    let ready = json!("True");
    eventually(MINUTE, &format!("{name} is ready"), || {
        let conditions = namespace.field(&format!("pod/{name}"), "/status/conditions")?;
        let mut conditions = conditions.as_array().into_iter().flatten();
        ensure!(
            conditions.any(|one| one["type"] == "Ready" && one["status"] == ready),
            "not yet"
        );
        Ok(())
    })?;
    let ip = namespace.field(&format!("pod/{name}"), "/status/podIP")?;
    Ok(Pod {
        name,
        ip: ip.as_str().context("no address")?.to_owned(),
        inside: namespace.inside(name)?,
    })
}

/// That the server sees `expected` as who asks.
fn seen_as(from: &Node, place: &str, expected: &str) -> Result<()> {
    eventually(MINUTE, &format!("http://{place}/ sees {expected}"), || {
        let said = from.run(
            "curl",
            &["-s", "--max-time", "3", &format!("http://{place}/")],
        )?;
        ensure!(said.contains(&format!("remote: {expected}:")), "{said}");
        Ok(())
    })
}

/// Sends a datagram of `$3` bytes, and takes the answer, which has the pod's name before it.
const DATAGRAM: &str = r#"exec 3<>/dev/udp/$1/$2 && head -c "$3" /dev/zero | tr '\0' x |
dd bs="$3" count=1 iflag=fullblock >&3 2>/dev/null && timeout 1 dd bs=65536 count=1 <&3 2>/dev/null | wc -c"#;

/// The first that is too long is lost: its sender has been told then.
fn datagram(from: &Node, to: &Pod, ip: &str, port: u16, length: usize) -> Result<()> {
    let (port, words) = (port.to_string(), length.to_string());
    eventually(MINUTE, &format!("{length} bytes to {ip}"), || {
        let args = ["-c", DATAGRAM, "datagram", ip, &port, &words];
        let came = from.run("bash", &args)?;
        let expected = to.name.len() + 2 + length;
        ensure!(came.trim() == expected.to_string(), "{came}");
        Ok(())
    })
}

/// A body of 3 MB, and an answer.
fn bulk(from: &Node, place: &str) -> Result<()> {
    let script =
        r#"head -c 3000000 /dev/zero | curl -sf --max-time 20 --data-binary @- "http://$1/""#;
    from.run("bash", &["-c", script, "bulk", place]).map(drop)
}

/// What a command of the node's daemon says in JSON.
fn said(cluster: &Own, node: &str, command: &[&str]) -> Result<Value> {
    let built = std::env::var("VETCH_PREBUILT").unwrap_or_else(|_| "release".into());
    let program = repository().join("target").join(built).join("vetch-node");
    let program = program.to_string_lossy();
    let args = ["--mounts", node, "--", &*program];
    let args = [&args, command, &["--output", "json"]].concat();
    Ok(serde_json::from_str(&exec(cluster, &args)?)?)
}

fn status(cluster: &Own, node: &str) -> Result<Value> {
    said(cluster, node, &["status"])
}

/// A pod's way to its Service, asked for by their names.
fn traced(cluster: &Own, namespace: &Namespace<'_>, from: &Pod, to: &Pod, ip: &str) -> Result<()> {
    // The node's own: the people's has an address of the machine's, which the node does not see.
    let kubeconfig = cluster
        .kubeconfig
        .with_file_name("kubeconfigs")
        .join("node-1.kubeconfig");
    let kubeconfig = kubeconfig.to_string_lossy();
    let trace = |src: &str, dst: &str| {
        let namespace = &namespace.name;
        let more = ["--kubeconfig", &*kubeconfig, "--namespace", namespace];
        said(
            cluster,
            "node-1",
            &[&["trace", src, dst], &more[..]].concat(),
        )
    };
    let src = format!("{}/{}", namespace.name, from.name);
    let traced = trace(&src, "svc/far:http")?;
    ensure!(traced["source"] == from.ip.as_str(), "{traced}");
    ensure!(
        traced["destination"] == ip && traced["port"] == 80,
        "{traced}"
    );
    let backend = format!("{}:8080", to.ip);
    ensure!(traced["ways"][0]["backend"] == backend, "{traced}");
    for (src, dst, words) in [
        ("pod/nobody", "svc/far:http", "there is no pod "),
        (src.as_str(), "svc/far", "say which port of the service "),
        (src.as_str(), "svc/none:80", "there is no Service "),
    ] {
        let refused = trace(src, dst).unwrap_err();
        ensure!(format!("{refused:#}").contains(words), "{dst}: {refused:#}");
    }
    Ok(())
}

/// The cluster's name goes before what is run.
fn exec(cluster: &Own, args: &[&str]) -> Result<String> {
    let program = std::env::var_os("VETCH_XTASK").context("VETCH_XTASK names no program")?;
    let output = std::process::Command::new(program)
        .args(["exec", "--name", &cluster.name])
        .args(args)
        .output()?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "exec {args:?}: {error}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Of the peer with this address: the way to its pods, and how long packets may be.
fn way(status: &Value, peer: &Node) -> Result<(String, u64)> {
    let mut peers = status["peers"].as_array().into_iter().flatten();
    let found = peers.find(|one| one["node"] == peer.address);
    let found = found.with_context(|| format!("no way to {}: {status}", peer.name))?;
    let way = found["way"].as_str().context("no way")?;
    Ok((way.to_owned(), found["mtu"].as_u64().context("no length")?))
}

#[test]
fn nodes_behind_a_router_are_reached_in_vxlan_and_neighbours_directly() -> Result<()> {
    let links = ["--nodes", "3", "--subnets", "2", "--ip-family", "ipv4"];
    let cluster = Own::up("vtvxlan", &links)?;
    let nodes = [
        cluster.node("node-1")?,
        cluster.node("node-2")?,
        cluster.node("node-3")?,
    ];
    let namespace = Namespace::create(&cluster, "vxlan")?;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "far"},
        "spec": {"type": "NodePort", "selector": {"app": "two"}, "ports": [
            {"name": "http", "port": 80, "targetPort": 8080},
            {"name": "udp", "protocol": "UDP", "port": 82, "targetPort": 8082},
        ]},
    });
    let items = [
        server("one", "node-1"),
        server("two", "node-2"),
        server("three", "node-3"),
        service,
    ];
    namespace.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())?;
    let pods = [
        pod(&namespace, "one")?,
        pod(&namespace, "two")?,
        pod(&namespace, "three")?,
    ];
    let [one, two, three] = &pods;

    // Which way each takes, as the kernel has it.
    eventually(MINUTE, "every peer has its way", || {
        let status = status(&cluster, "node-1")?;
        ensure!(
            way(&status, nodes[1])? == ("vxlan".into(), 1450),
            "{status}"
        );
        ensure!(
            way(&status, nodes[2])? == ("direct".into(), 1500),
            "{status}"
        );
        let links = status["links"].as_array().context("links")?;
        let tunnel = links.iter().find(|link| link["role"] == "tunnel");
        let programs = &tunnel.context("no tunnel")?["programs"];
        ensure!(programs.to_string().contains("from_tunnel"), "{status}");
        Ok(())
    })?;

    // Everybody is seen as who they are.
    for from in &pods {
        for to in pods.iter().filter(|to| to.name != from.name) {
            seen_as(&from.inside, &format!("{}:8080", to.ip), &from.ip)?;
            eventually(MINUTE, &format!("{} pings {}", from.name, to.name), || {
                from.inside.run("busybox", &["ping", "-c1", "-W2", &to.ip])
            })?;
        }
    }
    for node in nodes {
        for to in &pods {
            seen_as(node, &format!("{}:8080", to.ip), &node.address)?;
        }
    }
    let outside: SocketAddr = (two.ip.parse::<IpAddr>()?, 8080).into();
    let (said, own) = eventually(MINUTE, "a pod answers from outside", || get(outside))?;
    ensure!(said.contains(&format!("remote: {own}\n")), "{own}: {said}");

    // Of every length: just so, too long for the tunnel, in fragments.
    for to in [two, three] {
        for length in [100, 1422 - to.name.len() - 2, 1422, 1472, 8000] {
            datagram(&one.inside, to, &to.ip, 8082, length)?;
        }
        bulk(&one.inside, &format!("{}:8080", to.ip))?;
        bulk(nodes[0], &format!("{}:8080", to.ip))?;
    }

    // Through the Service, whose backend is behind the tunnel.
    let ip = namespace.field("service/far", "/spec/clusterIP")?;
    let ip = ip.as_str().context("clusterIP")?;
    seen_as(&one.inside, ip, &one.ip)?;
    seen_as(nodes[2], ip, &nodes[2].address)?;
    bulk(&three.inside, ip)?;
    traced(&cluster, &namespace, one, two, ip)?;
    for length in [100, 1472, 8000] {
        datagram(&one.inside, two, ip, 82, length)?;
    }
    // By node ports, from outside: the node that was dialled is seen.
    for node in [nodes[0], nodes[2]] {
        let at = |place: usize| -> Result<SocketAddr> {
            let pointer = format!("/spec/ports/{place}/nodePort");
            let port = namespace.field("service/far", &pointer)?;
            let port = port.as_u64().context("no node port")?.try_into()?;
            Ok((node.address.parse::<IpAddr>()?, port).into())
        };
        let (said, _) = eventually(MINUTE, "the node port answers", || get(at(0)?))?;
        let seen = format!("remote: {}:", node.address);
        ensure!(said.contains(&seen), "{seen} {said}");
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(at(1)?)?;
        socket.set_read_timeout(Some(TIMEOUT.min(Duration::from_millis(500))))?;
        for length in [100, 1472] {
            eventually(MINUTE, &format!("{length} bytes are answered"), || {
                socket.send(&vec![b'x'; length])?;
                let mut answer = [0; 2000];
                let count = socket.recv(&mut answer)?;
                ensure!(count == length + "two: ".len(), "{count} bytes");
                Ok(())
            })?;
        }
    }

    link_is_lost_and_returns(nodes[1], one, two)
}

/// As a cable that is pulled: with the link go the routes over it, and whoever manages the node's
/// network brings back those that are theirs.
fn link_is_lost_and_returns(node: &Node, near: &Pod, far: &Pod) -> Result<()> {
    let place = format!("http://{}:8080/", far.ip);
    let ask = || near.inside.run("curl", &["-sf", "--max-time", "1", &place]);
    ask()?;
    let routes = node.run("ip", &["route", "show"])?;
    let routed: Vec<&str> = routes
        .lines()
        .filter(|line| {
            line.contains(" via ") && line.contains("dev eth0") && !line.contains("proto 86")
        })
        .collect();
    ensure!(!routed.is_empty(), "{routes}");
    node.run("ip", &["link", "set", "eth0", "down"])?;
    ensure!(ask().is_err(), "{place} answers without a link");
    node.run("ip", &["link", "set", "eth0", "up"])?;
    for route in routed {
        let words: Vec<&str> = ["route", "replace"]
            .into_iter()
            .chain(route.split_whitespace())
            .collect();
        node.run("ip", &words)?;
    }
    eventually(MINUTE, "the pod behind the link answers again", || {
        ask().map(drop)
    })
}
