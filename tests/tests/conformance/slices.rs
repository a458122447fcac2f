//! EndpointSlices made by hand, several for one Service.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use vetch_tests::{Cluster, Namespace, Node};

use crate::fixture::{
    all_ports, answered, apply, cluster_ip, idle, ready, server, service, text, url,
};

/// A slice of the Service `web`: one address, one named port.
fn slice(name: &str, address: &str, port: &Value) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "endpoints": [{"addresses": [address]}], "ports": [port],
    })
}

/// Two ports without a selector, and pods that nobody selects.
fn unselected<'a>(
    cluster: &'a Cluster,
    prefix: &str,
    pods: &[Value],
) -> Result<(Namespace<'a>, Node)> {
    let namespace = Namespace::create(cluster, prefix)?;
    let spec = json!({"ports": [
        {"name": "first", "port": 80, "protocol": "TCP"},
        {"name": "second", "port": 81, "protocol": "TCP"},
    ]});
    let mut objects = pods.to_vec();
    objects.extend([service("web", &spec), idle("client")]);
    apply(&namespace, &objects)?;
    let names = pods
        .iter()
        .filter_map(|pod| pod["metadata"]["name"].as_str());
    ready(&namespace, &names.chain(["client"]).collect::<Vec<_>>())?;
    let client = namespace.inside("client")?;
    Ok((namespace, client))
}

/// The Service's two ports lead to these two.
fn assert_answered(namespace: &Namespace<'_>, client: &Node, wanted: [&str; 2]) -> Result<()> {
    let ip = cluster_ip(namespace, "web")?;
    for (port, wanted) in [80, 81].into_iter().zip(wanted) {
        let pod = answered(client, &url("http", &ip, port))?;
        ensure!(pod == wanted, "{pod} answered at port {port}");
    }
    Ok(())
}

/// An echo server that is a pod's second container.
fn second_container() -> Value {
    let mut container = server("two", "none", json!([]))["spec"]["containers"][0].clone();
    container["name"] = "two".into();
    if let Some(env) = container["env"].as_array_mut() {
        for (name, port) in [("HTTP", "9080"), ("TCP", "9081"), ("UDP", "9082")] {
            env.push(json!({"name": format!("LISTEN_{name}"), "value": port}));
        }
    }
    container["readinessProbe"]["httpGet"]["port"] = 9080.into();
    container
}

/// `[sig-network] EndpointSlice should support a Service with multiple ports specified in multiple EndpointSlices`
#[test]
fn endpoint_slice_should_support_a_service_with_multiple_ports_specified_in_multiple_endpoint_slices()
-> Result<()> {
    let cluster = Cluster::shared()?;
    let mut pod = server("one", "none", json!([]));
    if let Some(containers) = pod["spec"]["containers"].as_array_mut() {
        containers.push(second_container());
    }
    let (namespace, client) = unselected(&cluster, "slice-ports", &[pod])?;
    let ip = text(&namespace, "pod/one", "/status/podIP")?;
    apply(
        &namespace,
        &[
            slice("a", &ip, &json!({"name": "first", "port": 8080})),
            slice("b", &ip, &json!({"name": "second", "port": 9080})),
        ],
    )?;
    assert_answered(&namespace, &client, ["one", "two"])
}

/// `[sig-network] EndpointSlice should support a Service with multiple endpoint IPs specified in multiple
/// EndpointSlices`
#[test]
fn endpoint_slice_should_support_a_service_with_multiple_endpoint_ips_specified_in_multiple_endpoint_slices()
-> Result<()> {
    let cluster = Cluster::shared()?;
    let mut two = server("two", "none", json!([]));
    two["spec"]["containers"][0] = second_container();
    let one = server("one", "none", all_ports());
    let (namespace, client) = unselected(&cluster, "slice-ips", &[one, two])?;
    let address = |pod: &str| text(&namespace, &format!("pod/{pod}"), "/status/podIP");
    apply(
        &namespace,
        &[
            slice(
                "a",
                &address("one")?,
                &json!({"name": "first", "port": 8080}),
            ),
            slice(
                "b",
                &address("two")?,
                &json!({"name": "second", "port": 9080}),
            ),
        ],
    )?;
    assert_answered(&namespace, &client, ["one", "two"])
}
