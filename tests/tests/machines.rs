//! Several whole machines: one that is cut off, one that joins. For `cargo xtask e2e` alone.

use std::fs::File;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use vetch_tests::{Cluster, Namespace, eventually};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_node_cut_off_is_left_out_and_finds_its_pods_as_they_were() -> Result<()> {
    let cluster = Cluster::machines_exclusive()?;
    let last = cluster.nodes.last().context("a node")?;
    ensure!(cluster.nodes.len() > 1, "one machine has nobody to lose");
    let namespace = Namespace::create(&cluster, "cut")?;
    namespace.apply_example("echo.yaml")?;
    namespace.rolled_out("deployment/echo")?;
    let replicas = namespace.pods("app=echo")?.len();
    let there = |pods: &[serde_json::Value]| -> Vec<(String, String)> {
        pods.iter()
            .filter(|pod| pod["spec"]["nodeName"] == last.name.as_str())
            .map(|pod| {
                (
                    pod["metadata"]["uid"].to_string(),
                    pod["status"]["containerStatuses"][0]["containerID"].to_string(),
                )
            })
            .collect()
    };
    let before = there(&namespace.pods("app=echo")?);
    ensure!(!before.is_empty(), "no replica is on {}", last.name);
    let ip = namespace.field("service/echo", "/spec/clusterIP")?;
    let url = format!("http://{}/", ip.as_str().context("clusterIP")?);

    cluster.xtask(&["machine", "cut", &last.name])?;
    let outcome = (|| {
        cluster.wait_node(&last.name, "NotReady", 2 * MINUTE)?;
        // Its replicas leave the Service, and then no request is lost to them.
        namespace.wait_endpoints("echo", replicas - before.len())?;
        cluster.nodes[0].requests(&url, 100)?.assert_lossless()
    })();
    cluster.xtask(&["machine", "join", &last.name])?;
    outcome?;
    cluster.wait_node(&last.name, "Ready", 2 * MINUTE)?;
    namespace.wait_endpoints("echo", replicas)?;
    ensure!(
        there(&namespace.pods("app=echo")?) == before,
        "the pods of {} were disturbed: {before:?} before",
        last.name
    );
    cluster.nodes[0]
        .requests(&url, 300)?
        .assert_balanced(replicas)
}

#[test]
fn a_machine_joins_by_the_package_and_a_token() -> Result<()> {
    let cluster = Cluster::machines_exclusive()?;
    let node = cluster.nodes.last().context("a node")?;
    ensure!(cluster.nodes.len() > 1, "the control plane's machine stays");
    let package = std::env::var_os("VETCH_NODE_PACKAGE")
        .context("VETCH_NODE_PACKAGE names no package: run `cargo xtask e2e`")?;
    let namespace = Namespace::create(&cluster, "join")?;

    // Removal ends its pods and takes what it made on the machine with it; the settings are people's.
    node.run("dpkg", &["--purge", "vetch-node"])?;
    node.run("rm", &["-rf", "/etc/vetch"])?;
    cluster.kubectl(&["delete", "node", &node.name])?.ok()?;
    let left = node.run(
        "sh",
        &[
            "-c",
            "ls -d /sys/fs/cgroup/kubepods /sys/fs/bpf/vetch 2>/dev/null; pgrep -l vetch- || true",
        ],
    )?;
    ensure!(left.is_empty(), "after the removal there is still {left}");

    let status = node
        .command("sh", &["-c", "cat > /root/vetch-node.deb"])
        .stdin(File::open(&package)?)
        .status()?;
    ensure!(status.success(), "the package did not reach {}", node.name);
    node.run("dpkg", &["--install", "/root/vetch-node.deb"])?;
    let unit = node.run("systemctl", &["show", "-p", "ActiveState", "vetch-node"])?;
    ensure!(
        unit.trim() == "ActiveState=inactive",
        "a daemon that knows no cluster is {unit}"
    );
    // On the control plane's machine, by the kubeconfig that is there.
    let command = cluster.nodes[0].run("vetch-control", &["token", "create", "--ttl", "10m"])?;
    let words: Vec<&str> = command.split_whitespace().collect();
    let (program, args) = words.split_first().context("a command to join")?;
    let told = node.run(program, args)?;
    ensure!(told.contains("vetch-node.service runs"), "{told}");
    cluster.wait_node(&node.name, "Ready", 2 * MINUTE)?;
    let own = "/etc/vetch/pki/node-client-current.pem";
    let mode = node.run("stat", &["-L", "-c", "%a", own])?;
    ensure!(mode.trim() == "600", "{own} has mode {mode}");
    // Once more is no other join.
    let before = node.run("readlink", &[own])?;
    let again = node.run(program, args)?;
    ensure!(
        again.contains("has its certificate already") && node.run("readlink", &[own])? == before,
        "{again}"
    );
    cluster.wait_node(&node.name, "Ready", 2 * MINUTE)?;

    // The images went with the removal.
    node.run(
        "vetch-node",
        &["image", "import", "/usr/share/vetch-echo.tar"],
    )?;
    namespace.apply(
        &json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "first"},
            "spec": {"nodeName": node.name, "containers": [{
                "name": "app", "image": "vetch.local/echo:v1", "imagePullPolicy": "Never",
            }]},
        })
        .to_string(),
    )?;
    namespace.wait_field("pod/first", "/status/phase", &json!("Running"), MINUTE)?;
    let ip = namespace.field("pod/first", "/status/podIP")?;
    let url = format!("http://{}:8080/", ip.as_str().context("podIP")?);
    // From another machine: the routes to the new one are there.
    eventually(MINUTE, "its pod is reached from another machine", || {
        cluster.nodes[0]
            .run("curl", &["-sf", "--max-time", "5", &url])
            .map(drop)
    })
}
