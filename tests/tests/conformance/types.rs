//! Services that change their type, and node ports.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use vetch_tests::{Cluster, Namespace, Node};

use crate::fixture::{answered, cluster_ip, fronts, patch, serve, service, silent, url};

fn of_type(kind: &str) -> Value {
    json!({"type": kind, "selector": {"app": "echo"}, "ports": [{"port": 80, "targetPort": "http"}]})
}

fn external_name() -> Value {
    json!({"type": "ExternalName", "externalName": "a.example"})
}

/// A mere name has neither address nor node port.
fn assert_only_a_name(namespace: &Namespace<'_>) -> Result<()> {
    let spec = namespace.field("service/web", "/spec")?;
    ensure!(spec["clusterIP"].is_null(), "{spec}");
    ensure!(spec["ports"][0]["nodePort"].is_null(), "{spec}");
    ensure!(spec["externalName"] == "a.example", "{spec}");
    Ok(())
}

/// From a pod and from every node, at every address of the Service.
fn assert_reachable(namespace: &Namespace<'_>, client: &Node) -> Result<Vec<String>> {
    let fronts = fronts(namespace, "web")?;
    for from in std::iter::once(client).chain(&namespace.cluster.nodes) {
        for url in &fronts {
            let pod = answered(from, url)?;
            ensure!(pod == "one", "{pod} answered at {url}");
        }
    }
    Ok(fronts)
}

/// `[sig-network] Services should be able to change the type from ClusterIP to ExternalName`
#[test]
fn services_should_be_able_to_change_the_type_from_cluster_ip_to_external_name() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "ip-to-name")?;
    let web = service("web", &of_type("ClusterIP"));
    let client = serve(&namespace, &["one"], &[web])?;
    let url = url("http", &cluster_ip(&namespace, "web")?, 80);
    answered(&client, &url)?;
    patch(&namespace, "web", &external_name())?;
    assert_only_a_name(&namespace)?;
    silent(&client, &url)
}

/// `[sig-network] Services should be able to change the type from NodePort to ExternalName`
#[test]
fn services_should_be_able_to_change_the_type_from_node_port_to_external_name() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "port-to-name")?;
    let web = service("web", &of_type("NodePort"));
    let client = serve(&namespace, &["one"], &[web])?;
    let fronts = assert_reachable(&namespace, &client)?;
    patch(&namespace, "web", &external_name())?;
    assert_only_a_name(&namespace)?;
    fronts.iter().try_for_each(|url| silent(&client, url))
}

/// `[sig-network] Services should be able to change the type from ExternalName to ClusterIP`
#[test]
fn services_should_be_able_to_change_the_type_from_external_name_to_cluster_ip() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "name-to-ip")?;
    let client = serve(&namespace, &["one"], &[service("web", &external_name())])?;
    assert_only_a_name(&namespace)?;
    let mut inside = of_type("ClusterIP");
    inside["externalName"] = Value::Null;
    patch(&namespace, "web", &inside)?;
    answered(&client, &url("http", &cluster_ip(&namespace, "web")?, 80)).map(drop)
}

/// `[sig-network] Services should be able to change the type from ExternalName to NodePort`
#[test]
fn services_should_be_able_to_change_the_type_from_external_name_to_node_port() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "name-to-port")?;
    let client = serve(&namespace, &["one"], &[service("web", &external_name())])?;
    assert_only_a_name(&namespace)?;
    let mut outside = of_type("NodePort");
    outside["externalName"] = Value::Null;
    patch(&namespace, "web", &outside)?;
    assert_reachable(&namespace, &client).map(drop)
}

/// `[sig-network] Services should be able to create a functioning NodePort service`
#[test]
fn services_should_be_able_to_create_a_functioning_node_port_service() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "node-port")?;
    let web = service("web", &of_type("NodePort"));
    let client = serve(&namespace, &["one"], &[web])?;
    assert_reachable(&namespace, &client).map(drop)
}
