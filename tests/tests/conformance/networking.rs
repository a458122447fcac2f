//! Pods reached at their own addresses, from pods and from nodes.

use anyhow::{Context as _, Result, ensure};
use vetch_tests::{Cluster, Namespace, Node};

use crate::fixture::{ECHO, apply, asked, idle, ready, url};

/// Every pod of the example, one a node, is reached at its own address and answers with its own name.
fn every_pod_answers(prefix: &str, scheme: &str, port: u64, from_pod: bool) -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, prefix)?;
    namespace.apply_example("echo.yaml")?;
    let mut from: Vec<Node> = cluster.nodes.clone();
    if from_pod {
        apply(&namespace, &[idle("client")])?;
        ready(&namespace, &["client"])?;
        from = vec![namespace.inside("client")?];
    }
    namespace.rolled_out("deployment/echo")?;
    let pods = namespace.pods(&format!("app={ECHO}"))?;
    ensure!(pods.len() == 3, "{} pods", pods.len());
    for pod in &pods {
        let text = |pointer: &str| pod.pointer(pointer).and_then(|value| value.as_str());
        let name = text("/metadata/name").context("a name")?;
        let url = url(scheme, text("/status/podIP").context("an address")?, port);
        for from in &from {
            asked(from, &url, 3, |report| {
                ensure!(report.only_pod()? == name, "{url}: {:?}", report.by_pod);
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// `[sig-network] Networking Granular Checks: Pods should function for intra-pod communication: http`
#[test]
fn networking_granular_checks_pods_should_function_for_intra_pod_communication_http() -> Result<()>
{
    every_pod_answers("intra-http", "http", 8080, true)
}

/// `[sig-network] Networking Granular Checks: Pods should function for intra-pod communication: udp`
#[test]
fn networking_granular_checks_pods_should_function_for_intra_pod_communication_udp() -> Result<()> {
    every_pod_answers("intra-udp", "udp", 8082, true)
}

/// `[sig-network] Networking Granular Checks: Pods should function for node-pod communication: http`
#[test]
fn networking_granular_checks_pods_should_function_for_node_pod_communication_http() -> Result<()> {
    every_pod_answers("node-http", "http", 8080, false)
}

/// `[sig-network] Networking Granular Checks: Pods should function for node-pod communication: udp`
#[test]
fn networking_granular_checks_pods_should_function_for_node_pod_communication_udp() -> Result<()> {
    every_pod_answers("node-udp", "udp", 8082, false)
}
