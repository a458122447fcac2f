//! Endpoints that come and go with pods and ports.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use vetch_tests::{Cluster, Namespace};

use crate::fixture::{
    ECHO, all_ports, answered, apply, asked, cluster_ip, patch, ready, serve, server, service,
    silent, url, wait_endpoints,
};

fn delete(namespace: &Namespace<'_>, pod: &str) -> Result<()> {
    namespace
        .kubectl(&["delete", "pod", pod, "--wait=false"])?
        .ok()
        .map(drop)
}

/// `[sig-network] Services should serve a basic endpoint from pods`
#[test]
fn services_should_serve_a_basic_endpoint_from_pods() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "basic")?;
    let spec = json!({"selector": {"app": ECHO}, "ports": [{"port": 80, "targetPort": 8080}]});
    let client = serve(&namespace, &[], &[service("web", &spec)])?;
    let url = url("http", &cluster_ip(&namespace, "web")?, 80);
    wait_endpoints(&namespace, "web", &[])?;
    silent(&client, &url)?;

    apply(&namespace, &[server("one", ECHO, all_ports())])?;
    wait_endpoints(&namespace, "web", &[("one", 8080)])?;
    ensure!(answered(&client, &url)? == "one");
    apply(&namespace, &[server("two", ECHO, all_ports())])?;
    wait_endpoints(&namespace, "web", &[("one", 8080), ("two", 8080)])?;
    // By chance none of 30 on one of two: 2⁻²⁹.
    asked(&client, &url, 30, |report| {
        report.assert_lossless()?;
        ensure!(report.by_pod.len() == 2, "answered by {:?}", report.by_pod);
        Ok(())
    })?;

    delete(&namespace, "one")?;
    wait_endpoints(&namespace, "web", &[("two", 8080)])?;
    asked(&client, &url, 10, |report| {
        ensure!(report.only_pod()? == "two", "{:?}", report.by_pod);
        Ok(())
    })?;
    delete(&namespace, "two")?;
    wait_endpoints(&namespace, "web", &[])?;
    silent(&client, &url)
}

/// `[sig-network] Services should serve multiport endpoints from pods`
#[test]
fn services_should_serve_multiport_endpoints_from_pods() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "multiport")?;
    let spec = json!({"selector": {"app": ECHO}, "ports": [
        {"name": "one", "port": 80, "targetPort": "first"},
        {"name": "two", "protocol": "UDP", "port": 81, "targetPort": "second"},
    ]});
    let client = serve(&namespace, &[], &[service("web", &spec)])?;
    wait_endpoints(&namespace, "web", &[])?;
    let ip = cluster_ip(&namespace, "web")?;
    let (first, second) = (url("http", &ip, 80), url("udp", &ip, 81));

    let only = |name: &str, port: Value| server(name, ECHO, json!([port]));
    let one = only("one", json!({"name": "first", "containerPort": 8080}));
    apply(&namespace, &[one])?;
    wait_endpoints(&namespace, "web", &[("one", 8080)])?;
    ensure!(answered(&client, &first)? == "one");
    silent(&client, &second)?;
    let two = only(
        "two",
        json!({"name": "second", "protocol": "UDP", "containerPort": 8082}),
    );
    apply(&namespace, &[two])?;
    wait_endpoints(&namespace, "web", &[("one", 8080), ("two", 8082)])?;
    ensure!(answered(&client, &first)? == "one");
    ensure!(answered(&client, &second)? == "two");

    delete(&namespace, "one")?;
    wait_endpoints(&namespace, "web", &[("two", 8082)])?;
    silent(&client, &first)?;
    ensure!(answered(&client, &second)? == "two");
    delete(&namespace, "two")?;
    wait_endpoints(&namespace, "web", &[])?;
    silent(&client, &second)
}

/// `[sig-network] Services should serve endpoints on same port and different protocols`
#[test]
fn services_should_serve_endpoints_on_same_port_and_different_protocols() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "protocols")?;
    let ports = json!([
        {"name": "t", "protocol": "TCP", "port": 80, "targetPort": "http"},
        {"name": "u", "protocol": "UDP", "port": 80, "targetPort": "udp"},
    ]);
    let spec = json!({"selector": {"app": ECHO}, "ports": ports});
    let client = serve(&namespace, &["one"], &[service("web", &spec)])?;
    ready(&namespace, &["one"])?;
    let ip = cluster_ip(&namespace, "web")?;
    let (tcp, udp) = (url("http", &ip, 80), url("udp", &ip, 80));
    answered(&client, &tcp)?;
    answered(&client, &udp)?;

    patch(&namespace, "web", &json!({"ports": [ports[0]]}))?;
    silent(&client, &udp)?;
    answered(&client, &tcp)?;
    patch(&namespace, "web", &json!({"ports": [ports[1]]}))?;
    silent(&client, &tcp)?;
    answered(&client, &udp).map(drop)
}
