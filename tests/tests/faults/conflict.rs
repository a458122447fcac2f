//! Two that claim one address. Expected: what is a load balancer's is not announced while another host on the link
//! answers for it, the Service says so, and it is announced when that host is gone; a Node that claims the pods or the
//! address of one that was there first gets a warning, and no traffic.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use vetch_tests::{Cluster, Namespace, Node, eventually};

use crate::{MINUTE, apply, server, text};

/// Who answers from outside.
fn said(place: SocketAddr) -> Result<String> {
    let limit = Duration::from_secs(1);
    let mut stream = TcpStream::connect_timeout(&place, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}

/// A host on the nodes' link with an address of its own: what joins the nodes is one.
struct Stranger<'a> {
    cluster: &'a Cluster,
    address: String,
}

impl<'a> Stranger<'a> {
    fn new(cluster: &'a Cluster, ip: IpAddr) -> Result<Stranger<'a>> {
        let length = if ip.is_ipv4() { 32 } else { 128 };
        let address = format!("{ip}/{length}");
        cluster.hub(&format!("address add {address} dev br0"))?;
        Ok(Stranger { cluster, address })
    }
}

impl Drop for Stranger<'_> {
    fn drop(&mut self) {
        let _ = self
            .cluster
            .hub(&format!("address delete {} dev br0", self.address));
    }
}

/// The last of what load balancers have, which they are given last.
fn last_of_pool(node: &Node) -> Result<IpAddr> {
    let IpAddr::V4(ip) = node.address.parse()? else {
        bail!("the main family of the suite's cluster is IPv4");
    };
    let [a, b, c, _] = ip.octets();
    Ok([a, b, c, 254].into())
}

fn events(namespace: &Namespace<'_>, kind: &str, name: &str) -> Result<Vec<Value>> {
    let selector =
        format!("involvedObject.kind={kind},involvedObject.name={name},reason=AddressConflict");
    let args = [
        "get",
        "events",
        "-A",
        "-o",
        "json",
        "--field-selector",
        &selector,
    ];
    let list: Value = serde_json::from_str(&namespace.cluster.kubectl(&args)?.ok()?)?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

#[test]
fn a_load_balancers_address_that_another_host_has_is_announced_when_that_is_gone() -> Result<()> {
    let cluster = Cluster::exclusive()?;
    let namespace = Namespace::create(&cluster, "conflict")?;
    let node = cluster.nodes.first().context("a node")?;
    let ip = last_of_pool(node)?;
    let stranger = Stranger::new(&cluster, ip)?;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"type": "LoadBalancer", "loadBalancerIP": ip.to_string(), "selector": {"app": "echo"},
                 "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    });
    apply(&namespace, &[server("web", &node.name), service])?;
    namespace.wait_endpoints("web", 1)?;
    let ingress = "/status/loadBalancer/ingress/0/ip";
    namespace.wait_field("service/web", ingress, &json!(ip.to_string()), MINUTE)?;

    let note = eventually(MINUTE, "the Service says that its address is taken", || {
        let found = events(&namespace, "Service", "web")?;
        Ok(found.first().context("no event")?["message"].to_string())
    })?;
    let words = format!("{ip} is in use by another host on the link");
    ensure!(note.contains(&words), "{note}");
    let by = text(
        &namespace,
        "service/web",
        "/metadata/annotations/vetch.dev~1announced-by",
    )?;
    let metrics = cluster
        .node(&by)?
        .run("curl", &["-sf", "http://127.0.0.1:10249/metrics"])?;
    ensure!(
        metrics.contains("vetch_proxy_address_conflicts 1\n"),
        "{by} counts another number"
    );
    // It is the stranger's: who dials it gets there, and nobody listens.
    let place = SocketAddr::new(ip, 80);
    ensure!(said(place).is_err(), "{place} answers");

    drop(stranger);
    eventually(MINUTE, "the Service has its address", || {
        let said = said(place)?;
        ensure!(said.contains("pod: web\n"), "{said}");
        Ok(())
    })?;
    eventually(MINUTE, "no conflict is counted", || {
        let node = cluster.node(&by)?;
        let metrics = node.run("curl", &["-sf", "http://127.0.0.1:10249/metrics"])?;
        ensure!(
            metrics.contains("vetch_proxy_address_conflicts 0\n"),
            "still"
        );
        Ok(())
    })
}

/// Deleted with the value.
struct Ghost<'a>(&'a Cluster);

impl Drop for Ghost<'_> {
    fn drop(&mut self) {
        let _ = self.0.kubectl(&["delete", "node", "ghost"]);
    }
}

#[test]
fn a_node_that_claims_anothers_pods_and_address_is_warned_and_gets_no_traffic() -> Result<()> {
    let cluster = Cluster::exclusive()?;
    let [asking, first, ..] = &cluster.nodes[..] else {
        bail!("two nodes are needed");
    };
    let namespace = Namespace::create(&cluster, "ghost")?;
    apply(&namespace, &[server("real", &first.name)])?;
    let ready = [
        "wait",
        "pod",
        "real",
        "--for=condition=Ready",
        "--timeout=90s",
    ];
    namespace.kubectl(&ready)?.ok()?;
    let url = format!(
        "http://{}:8080/",
        text(&namespace, "pod/real", "/status/podIP")?
    );
    let ask = || asking.run("curl", &["-sf", "--max-time", "2", &url]);
    eventually(MINUTE, "the pod answers before", ask)?;

    let cidrs = namespace.field(&format!("node/{}", first.name), "/spec/podCIDRs")?;
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "ghost"},
        "spec": {"podCIDR": cidrs[0], "podCIDRs": cidrs},
    });
    let ghost = Ghost(&cluster);
    cluster
        .kubectl_stdin(&["create"], &node.to_string())?
        .ok()?;
    // An address of nobody's, and the other's own.
    let nobody = last_of_pool(first)?.to_string();
    let addresses = [nobody.as_str(), &first.address];
    let addresses = addresses.map(|ip| json!({"type": "InternalIP", "address": ip}));
    let status = json!({"status": {"addresses": addresses}}).to_string();
    let patch = [
        "patch",
        "node",
        "ghost",
        "--subresource=status",
        "--type=merge",
        "-p",
        &status,
    ];
    cluster.kubectl(&patch)?.ok()?;

    for words in [
        format!(
            "overlaps with {} of node {}",
            cidrs[0].as_str().context("podCIDR")?,
            first.name
        ),
        format!(
            "has the address {}, and so has node {}",
            first.address, first.name
        ),
    ] {
        eventually(MINUTE, &format!("a warning that it {words}"), || {
            let found = events(&namespace, "Node", "ghost")?;
            let says = |event: &Value| {
                event["message"]
                    .as_str()
                    .unwrap_or_default()
                    .contains(&words)
            };
            ensure!(found.iter().any(says), "{found:?}");
            Ok(())
        })?;
    }
    // Who heard of it last has heard of it by now, and has changed nothing.
    let routes = asking.run("ip", &["route", "show"])?;
    let via = format!(" via {} ", first.address);
    let cidr = cidrs[0].as_str().context("podCIDR")?;
    let route = routes.lines().find(|line| line.starts_with(cidr));
    ensure!(route.is_some_and(|route| route.contains(&via)), "{routes}");
    ask()?;
    drop(ghost);
    ask().map(drop)
}
