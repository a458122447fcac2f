//! Session affinity: one client, one pod.

use anyhow::{Result, ensure};
use serde_json::json;
use vetch_tests::load::Report;
use vetch_tests::{Cluster, Namespace, Node};

use crate::fixture::{
    ECHO, MINUTE, answered, apply, asked, cluster_ip, fronts, idle, patch, ready, service, url,
};

/// By chance all on one of three pods: 3⁻²⁹.
const REQUESTS: u64 = 30;

struct Affine<'a> {
    namespace: Namespace<'a>,
    client: Node,
    fronts: Vec<String>,
}

/// Three pods behind a Service with affinity, and every address they are asked at.
fn affine<'a>(cluster: &'a Cluster, prefix: &str, kind: &str) -> Result<Affine<'a>> {
    let namespace = Namespace::create(cluster, prefix)?;
    namespace.apply_example("echo.yaml")?;
    let spec = json!({
        "type": kind, "sessionAffinity": "ClientIP", "selector": {"app": ECHO},
        "ports": [{"port": 80, "targetPort": "http"}],
    });
    apply(&namespace, &[service("web", &spec), idle("client")])?;
    namespace.rolled_out("deployment/echo")?;
    ready(&namespace, &["client"])?;
    namespace.wait_endpoints("web", 3)?;
    let fronts = match kind {
        "NodePort" => fronts(&namespace, "web")?,
        _ => vec![url("http", &cluster_ip(&namespace, "web")?, 80)],
    };
    Ok(Affine {
        client: namespace.inside("client")?,
        namespace,
        fronts,
    })
}

impl Affine<'_> {
    fn set(&self, affinity: &str) -> Result<()> {
        patch(
            &self.namespace,
            "web",
            &json!({"sessionAffinity": affinity}),
        )
    }

    fn assert_one_pod(&self) -> Result<()> {
        self.everywhere(&|report| report.only_pod().map(drop))
    }

    fn assert_any_pod(&self) -> Result<()> {
        self.everywhere(&|report| {
            report.assert_lossless()?;
            ensure!(report.by_pod.len() > 1, "only {:?} answered", report.by_pod);
            Ok(())
        })
    }

    fn everywhere(&self, holds: &dyn Fn(&Report) -> Result<()>) -> Result<()> {
        self.fronts.iter().try_for_each(|url| {
            answered(&self.client, url)?;
            asked(&self.client, url, REQUESTS, holds)
        })
    }
}

fn works(prefix: &str, kind: &str) -> Result<()> {
    let cluster = Cluster::shared()?;
    affine(&cluster, prefix, kind)?.assert_one_pod()
}

fn switches(prefix: &str, kind: &str) -> Result<()> {
    let cluster = Cluster::shared()?;
    let affine = affine(&cluster, prefix, kind)?;
    affine.set("None")?;
    affine.assert_any_pod()?;
    affine.set("ClientIP")?;
    affine.namespace.wait_field(
        "service/web",
        "/spec/sessionAffinityConfig/clientIP/timeoutSeconds",
        &json!(10800),
        MINUTE,
    )?;
    affine.assert_one_pod()
}

/// `[sig-network] Services should have session affinity work for service with type clusterIP`
#[test]
fn services_should_have_session_affinity_work_for_service_with_type_cluster_ip() -> Result<()> {
    works("affinity-ip", "ClusterIP")
}

/// `[sig-network] Services should have session affinity work for NodePort service`
#[test]
fn services_should_have_session_affinity_work_for_node_port_service() -> Result<()> {
    works("affinity-port", "NodePort")
}

/// `[sig-network] Services should be able to switch session affinity for service with type clusterIP`
#[test]
fn services_should_be_able_to_switch_session_affinity_for_service_with_type_cluster_ip()
-> Result<()> {
    switches("switch-ip", "ClusterIP")
}

/// `[sig-network] Services should be able to switch session affinity for NodePort service`
#[test]
fn services_should_be_able_to_switch_session_affinity_for_node_port_service() -> Result<()> {
    switches("switch-port", "NodePort")
}
