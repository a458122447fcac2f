//! Daemons killed with SIGKILL under load: nothing acknowledged is lost, no request fails.
//!
//! Each scenario holds the cluster alone, because it stops parts that others stand on. Beside it what becomes of a
//! network whose links, addresses or ports fail, each with the outcome that is expected.

#[path = "faults/conflict.rs"]
mod conflict;
#[path = "faults/exhausted.rs"]
mod exhausted;
#[path = "faults/link.rs"]
mod link;
#[path = "faults/moved.rs"]
mod moved;

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use vetch_tests::{Cluster, Namespace, eventually};

const MINUTE: Duration = Duration::from_secs(60);

fn deploy<'a>(cluster: &'a Cluster, prefix: &str) -> Result<(Namespace<'a>, String)> {
    let namespace = Namespace::create(cluster, prefix)?;
    namespace.apply_example("echo.yaml")?;
    namespace.wait_endpoints("echo", 3)?;
    let ip = namespace.field("service/echo", "/spec/clusterIP")?;
    let url = format!("http://{}/", ip.as_str().context("clusterIP")?);
    Ok((namespace, url))
}

/// Restart counts and container ids: what changes when a pod is disturbed.
fn containers(namespace: &Namespace<'_>) -> Result<Vec<(String, Value, Value)>> {
    Ok(namespace
        .pods("app=echo")?
        .iter()
        .map(|pod| {
            let status = &pod["status"]["containerStatuses"][0];
            (
                pod["metadata"]["name"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
                status["containerID"].clone(),
                status["restartCount"].clone(),
            )
        })
        .collect())
}

/// An echo server that does not move.
fn server(name: &str, node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "echo", "pod": name}},
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

fn apply(namespace: &Namespace<'_>, items: &[Value]) -> Result<String> {
    namespace.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())
}

fn text(namespace: &Namespace<'_>, object: &str, pointer: &str) -> Result<String> {
    let value = namespace.field(object, pointer)?;
    Ok(value.as_str().context("no text")?.to_owned())
}

#[test]
fn node_daemons_die_and_pods_do_not_notice() -> Result<()> {
    let cluster = Cluster::exclusive()?;
    let (namespace, url) = deploy(&cluster, "nodekill")?;
    namespace.apply(
        &json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "counter"},
            "spec": {"nodeName": cluster.nodes[0].name, "containers": [{
                "name": "app", "image": "vetch.local/echo:v1", "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-c", "i=0; while true; do echo $i; i=$((i+1)); sleep 0.05; done"],
            }]},
        })
        .to_string(),
    )?;
    namespace.wait_field("pod/counter", "/status/phase", &json!("Running"), MINUTE)?;
    let before = containers(&namespace)?;
    let load = cluster.nodes[0].start_load(&url, 120)?;

    for node in &cluster.nodes {
        cluster.xtask(&["node", "kill", &node.name])?;
    }
    for node in &cluster.nodes {
        cluster.xtask(&["node", "start", &node.name])?;
    }
    for node in &cluster.nodes {
        cluster.wait_node(&node.name, "Ready", MINUTE)?;
    }
    let logs = eventually(MINUTE, "logs are served again", || {
        namespace.kubectl(&["logs", "counter"])?.ok()
    })?;
    load.stop()?.assert_lossless()?;

    ensure!(
        containers(&namespace)? == before,
        "pods were disturbed: {before:?}"
    );
    let numbers: Vec<u64> = logs.lines().map(str::parse).collect::<Result<_, _>>()?;
    ensure!(numbers.len() > 20, "only {} lines", numbers.len());
    ensure!(
        numbers
            .iter()
            .enumerate()
            .all(|(index, number)| *number == index as u64),
        "a log line is missing"
    );
    // A replacement still works: the daemons adopted what they found.
    namespace.kubectl(&["delete", "pod", &before[0].0])?.ok()?;
    namespace.wait_endpoints("echo", 3)?;
    // kubectl returns when the API server has forgotten the pod, which a node may hear a moment later.
    eventually(MINUTE, "the replacement answers beside the others", || {
        cluster.nodes[0].requests(&url, 300)?.assert_balanced(3)
    })
}

#[test]
fn control_plane_and_etcd_die_and_nothing_acknowledged_is_lost() -> Result<()> {
    let cluster = Cluster::exclusive()?;
    let (namespace, url) = deploy(&cluster, "ctlkill")?;
    let before = containers(&namespace)?;
    let load = cluster.nodes[0].start_load(&url, 180)?;

    let mut acknowledged = Vec::new();
    for (round, part) in ["control", "etcd"].iter().enumerate() {
        for number in 0..20 {
            let name = format!("kept-{round}-{number}");
            // Killed in the middle of the writes: a refused one is not counted, an acknowledged one is.
            if number == 10 {
                cluster.xtask(&[part, "kill"])?;
            }
            if namespace.kubectl(&["create", "configmap", &name])?.success {
                acknowledged.push(name);
            } else if number < 10 {
                bail!("{name} was refused before the kill");
            }
        }
        cluster.xtask(&[part, "start"])?;
        eventually(MINUTE, "the API answers again", || {
            cluster.kubectl(&["get", "--raw", "/readyz"])?.ok()
        })?;
    }
    namespace.assert_kept(&acknowledged)?;
    // The controllers work again.
    namespace.kubectl(&["delete", "pod", &before[0].0])?.ok()?;
    namespace.wait_endpoints("echo", 3)?;
    let after = containers(&namespace)?;
    for pod in &before[1..] {
        ensure!(after.contains(pod), "{pod:?} was disturbed: {after:?}");
    }
    load.stop()?.assert_lossless()
}

#[test]
fn a_lost_node_turns_not_ready_and_its_pods_start_elsewhere() -> Result<()> {
    let cluster = Cluster::exclusive()?;
    let namespace = Namespace::create(&cluster, "lostnode")?;
    let toleration = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1});
    namespace.apply(
        &json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "mover"},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {"app": "mover"}},
                "template": {
                    "metadata": {"labels": {"app": "mover"}},
                    "spec": {
                        "tolerations": [toleration("node.kubernetes.io/not-ready"), toleration("node.kubernetes.io/unreachable")],
                        "containers": [{"name": "app", "image": "vetch.local/echo:v1", "imagePullPolicy": "IfNotPresent"}],
                    },
                },
            },
        })
        .to_string(),
    )?;
    namespace.rolled_out("deployment/mover")?;
    let lost = namespace.pods("app=mover")?[0]["spec"]["nodeName"]
        .as_str()
        .context("nodeName")?
        .to_owned();
    cluster.xtask(&["node", "kill", &lost])?;
    let outcome = (|| {
        cluster.wait_node(&lost, "NotReady", 2 * MINUTE)?;
        eventually(2 * MINUTE, "a replacement runs elsewhere", || {
            let pods = namespace.pods("app=mover")?;
            pods.iter()
                .find(|pod| {
                    pod["spec"]["nodeName"] != lost.as_str() && pod["status"]["phase"] == "Running"
                })
                .map(drop)
                .with_context(|| format!("{} pods, none running elsewhere", pods.len()))
        })
    })();
    cluster.xtask(&["node", "start", &lost])?;
    outcome?;
    cluster.wait_node(&lost, "Ready", MINUTE)
}

#[test]
fn a_node_is_drained_removed_and_comes_back() -> Result<()> {
    let cluster = Cluster::exclusive()?;
    let (namespace, url) = deploy(&cluster, "drain")?;
    ensure!(
        cluster.nodes.len() > 1,
        "pods of a single node have nowhere to go"
    );
    let node = cluster.nodes.last().context("a node")?;
    let here = |pods: &[Value]| {
        let on = |pod: &&Value| pod["spec"]["nodeName"] == node.name.as_str();
        pods.iter().filter(on).count()
    };
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "echo"},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "echo"}}},
    });
    namespace.apply(&budget.to_string())?;
    let allowed = "/status/disruptionsAllowed";
    namespace.wait_field("poddisruptionbudget/echo", allowed, &json!(1), MINUTE)?;
    let load = cluster.nodes[0].start_load(&url, 120)?;

    cluster.kubectl(&["cordon", &node.name])?.ok()?;
    cluster.wait_node(&node.name, "Ready,SchedulingDisabled", MINUTE)?;
    // By the eviction API: nothing is deleted behind a controller's back. What others left there is left there.
    let args = [
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        "--timeout=120s",
    ];
    let drain = [&["drain", &node.name, "--pod-selector=app=echo"], &args[..]].concat();
    cluster.kubectl(&drain)?.ok()?;
    ensure!(
        here(&namespace.pods("app=echo")?) == 0,
        "drained, and not empty"
    );
    namespace.wait_endpoints("echo", 3)?;
    load.stop()?.assert_lossless()?;

    cluster.kubectl(&["delete", "node", &node.name])?.ok()?;
    let uid = || namespace.field(&format!("node/{}", node.name), "/metadata/uid");
    ensure!(uid().is_err(), "the node is still there");
    cluster.xtask(&["node", "stop", &node.name])?;
    cluster.xtask(&["node", "start", &node.name])?;
    eventually(MINUTE, "the node registers anew", || uid().map(drop))?;
    cluster.wait_node(&node.name, "Ready", MINUTE)?;

    // It takes pods, and they are reached from elsewhere: a new Node, maybe with another range.
    let back = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "back"},
        "spec": {"nodeSelector": {"kubernetes.io/hostname": node.name}, "containers": [{
            "name": "app", "image": "vetch.local/echo:v1", "imagePullPolicy": "IfNotPresent",
        }]},
    });
    namespace.apply(&back.to_string())?;
    namespace.wait_field("pod/back", "/status/phase", &json!("Running"), MINUTE)?;
    let ip = namespace.field("pod/back", "/status/podIP")?;
    let own = format!("http://{}:8080/", ip.as_str().context("podIP")?);
    eventually(MINUTE, "its pod is reached from another node", || {
        cluster.nodes[0]
            .run("curl", &["-sf", "--max-time", "5", &own])
            .map(drop)
    })
}
