//! Pods behind a Service: balanced, lossless through a rolling update, no netfilter rule anywhere.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use vetch_tests::load::Report;
use vetch_tests::{Cluster, Namespace, eventually};

const MINUTE: Duration = Duration::from_secs(60);

fn service_url(namespace: &Namespace<'_>) -> Result<String> {
    let ip = namespace.field("service/echo", "/spec/clusterIP")?;
    Ok(format!(
        "http://{}/",
        ip.as_str().context("clusterIP is no string")?
    ))
}

/// The example people apply first, ready on every node.
fn deploy<'a>(cluster: &'a Cluster, prefix: &str) -> Result<Namespace<'a>> {
    let namespace = Namespace::create(cluster, prefix)?;
    namespace.apply_example("echo.yaml")?;
    namespace.rolled_out("deployment/echo")?;
    namespace.wait_endpoints("echo", 3)?;
    Ok(namespace)
}

#[test]
fn every_replica_answers_from_a_node_and_from_a_pod() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = deploy(&cluster, "balance")?;
    let nodes: std::collections::BTreeSet<String> = namespace
        .pods("app=echo")?
        .iter()
        .map(|pod| {
            pod["spec"]["nodeName"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        })
        .collect();
    ensure!(
        nodes.len() == cluster.nodes.len().min(3),
        "replicas are on {nodes:?} only"
    );

    let url = service_url(&namespace)?;
    cluster.nodes[0].requests(&url, 3000)?.assert_balanced(3)?;

    namespace.apply(
        &json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "client"},
            "spec": {
                "restartPolicy": "Never",
                "containers": [{
                    "name": "client", "image": "vetch.local/echo:v1", "imagePullPolicy": "IfNotPresent",
                    "args": ["load", "--url", url, "--count", "3000"],
                }],
            },
        })
        .to_string(),
    )?;
    namespace.wait_field(
        "pod/client",
        "/status/phase",
        &json!("Succeeded"),
        2 * MINUTE,
    )?;
    let logs = namespace.kubectl(&["logs", "client"])?.ok()?;
    Report::parse(&logs)?.assert_balanced(3)
}

#[test]
fn no_netfilter_rule_in_any_node() -> Result<()> {
    let cluster = Cluster::shared()?;
    let _namespace = deploy(&cluster, "netfilter")?;
    for node in &cluster.nodes {
        let rules = node.command("nft", &["list", "ruleset"]).output()?;
        ensure!(
            rules.status.success(),
            "nft: {}",
            String::from_utf8_lossy(&rules.stderr)
        );
        ensure!(
            rules.stdout.is_empty(),
            "{}: {}",
            node.name,
            String::from_utf8_lossy(&rules.stdout)
        );
    }
    Ok(())
}

#[test]
fn a_rolling_update_loses_no_request() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = deploy(&cluster, "rolling")?;
    let load = cluster.nodes[0].start_load(&service_url(&namespace)?, 120)?;

    namespace
        .kubectl(&[
            "set",
            "image",
            "deployment/echo",
            "echo=vetch.local/echo:v2",
        ])?
        .ok()?;
    namespace.rolled_out("deployment/echo")?;
    let image = namespace.field("deployment/echo", "/spec/template/spec/containers/0/image")?;
    ensure!(image == "vetch.local/echo:v2", "image is {image}");
    for pod in namespace.pods("app=echo")? {
        if pod["metadata"]["deletionTimestamp"].is_null() {
            let image = &pod["spec"]["containers"][0]["image"];
            ensure!(*image == "vetch.local/echo:v2", "a pod still runs {image}");
        }
    }

    let history = namespace
        .kubectl(&["rollout", "history", "deployment/echo"])?
        .ok()?;
    ensure!(
        history.lines().any(|line| line.starts_with('1'))
            && history.lines().any(|line| line.starts_with('2')),
        "history: {history}"
    );
    let undone = namespace
        .kubectl(&["rollout", "undo", "deployment/echo"])?
        .ok()?;
    ensure!(
        undone.contains("deployment.apps/echo rolled back"),
        "{undone}"
    );
    namespace.rolled_out("deployment/echo")?;
    let image = namespace.field("deployment/echo", "/spec/template/spec/containers/0/image")?;
    ensure!(
        image == "vetch.local/echo:v1",
        "image after undo is {image}"
    );

    namespace
        .kubectl(&["scale", "deployment/echo", "--replicas=2"])?
        .ok()?;
    namespace.wait_field("deployment/echo", "/status/replicas", &json!(2), MINUTE)?;
    namespace.wait_endpoints("echo", 2)?;
    load.stop()?.assert_lossless()
}

#[test]
fn no_endpoints_is_refused_at_once() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = deploy(&cluster, "empty")?;
    let url = service_url(&namespace)?;
    namespace
        .kubectl(&["scale", "deployment/echo", "--replicas=0"])?
        .ok()?;
    namespace.wait_endpoints("echo", 0)?;
    eventually(MINUTE, "the connection is refused", || {
        let output = cluster.nodes[0]
            .command("curl", &["-s", "--max-time", "5", &url])
            .output()?;
        match output.status.code() {
            // curl(1): 7 is "failed to connect", 28 is a timeout.
            Some(7) => Ok(()),
            code => bail!("curl ended with {code:?}"),
        }
    })
}

#[test]
fn a_deleted_pod_is_replaced_and_endpoints_follow() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = deploy(&cluster, "replace")?;
    let pods = namespace.pods("app=echo")?;
    let victim = pods[0]["metadata"]["name"]
        .as_str()
        .context("a pod name")?
        .to_owned();
    let address = pods[0]["status"]["podIP"]
        .as_str()
        .context("a pod address")?
        .to_owned();
    namespace.kubectl(&["delete", "pod", &victim])?.ok()?;
    eventually(
        MINUTE,
        "the pod is replaced and its address left the service",
        || {
            let ready = namespace.wait_endpoints("echo", 3)?;
            let names: Vec<_> = namespace
                .pods("app=echo")?
                .iter()
                .map(|pod| {
                    pod["metadata"]["name"]
                        .as_str()
                        .unwrap_or_default()
                        .to_owned()
                })
                .collect();
            // The address itself may be handed out again; the name may not.
            if names.contains(&victim) || names.len() != 3 {
                bail!("pods {names:?}, ready {ready:?}, gone {address}");
            }
            Ok(())
        },
    )?;
    cluster.nodes[0]
        .requests(&service_url(&namespace)?, 300)?
        .assert_balanced(3)
}

#[test]
fn an_unready_pod_leaves_the_service_and_comes_back() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = deploy(&cluster, "readiness")?;
    let address = namespace.wait_endpoints("echo", 3)?[0].clone();
    let turn = |state: &str| -> Result<()> {
        let url = format!("http://{address}:8080/ready?{state}");
        let done = cluster.nodes[0]
            .command("curl", &["-sf", "--max-time", "5", &url])
            .status()?;
        ensure!(done.success(), "curl {url}: {done}");
        Ok(())
    };
    turn("off")?;
    let ready = namespace.wait_endpoints("echo", 2)?;
    ensure!(!ready.contains(&address), "the unready pod is still listed");
    let events = namespace.kubectl(&["get", "events"])?.ok()?;
    ensure!(
        events.contains("Readiness probe failed: HTTP probe failed with statuscode: 503"),
        "events: {events}"
    );
    turn("on")?;
    namespace.wait_endpoints("echo", 3)?;
    Ok(())
}
