//! Ports of a node that lead to pods.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use vetch_tests::{Cluster, Namespace};

use crate::fixture::{answered, apply, idle, ready, server, silent, url};

/// Of every pod; no NodePort.
const PORT: u64 = 54_321;

/// An echo server on a node, which a port of that node's leads to.
fn on_node(name: &str, node: &str, port: Value) -> Value {
    let mut pod = server(name, name, json!([port]));
    pod["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": node});
    pod
}

/// `[sig-network] HostPort validates that there is no conflict between pods with same hostPort but different hostIP and protocol`
#[test]
fn host_port_validates_that_there_is_no_conflict_between_pods_with_same_host_port_but_different_host_ip_and_protocol()
-> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "host-port")?;
    let [node, elsewhere] = cluster.nodes.first_chunk().context("two nodes")?;
    let address = node.address.as_str();
    let tcp = |ip: &str| json!({"containerPort": 8080, "hostPort": PORT, "hostIP": ip});
    let udp =
        json!({"containerPort": 8082, "hostPort": PORT, "hostIP": address, "protocol": "UDP"});
    let pods = ["loopback", "tcp", "udp"];
    apply(
        &namespace,
        &[
            on_node(pods[0], &node.name, tcp("127.0.0.1")),
            on_node(pods[1], &node.name, tcp(address)),
            on_node(pods[2], &node.name, udp),
            idle("client"),
        ],
    )?;
    ready(&namespace, &[&pods[..], &["client"]].concat())?;
    let client = namespace.inside("client")?;
    let (at_tcp, at_udp) = (url("http", address, PORT), url("udp", address, PORT));
    for from in [node, elsewhere, &client] {
        for (url, pod) in [(&at_tcp, "tcp"), (&at_udp, "udp")] {
            let answer = answered(from, url)?;
            ensure!(answer == pod, "{answer} answered at {url}");
        }
    }
    let at_loopback = url("http", "127.0.0.1", PORT);
    let answer = answered(node, &at_loopback)?;
    ensure!(answer == "loopback", "{answer} answered at {at_loopback}");
    for from in [elsewhere, &client] {
        silent(from, &at_loopback)?;
    }
    // A port ends with its pod, and with no other.
    namespace.kubectl(&["delete", "pod", "tcp"])?.ok()?;
    silent(elsewhere, &at_tcp)?;
    let answer = answered(elsewhere, &at_udp)?;
    ensure!(answer == "udp", "{answer} answered at {at_udp}");
    Ok(())
}
