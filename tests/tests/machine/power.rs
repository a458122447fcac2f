//! Machines that boot again, lose their power, or have their clocks moved.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use vetch_tests::{Cluster, Namespace, Node, eventually};

use super::{MINUTE, Settings, output, pod};

fn boot_id(node: &Node) -> Result<String> {
    node.run("cat", &["/proc/sys/kernel/random/boot_id"])
}

/// One replica of the example behind its Service, and the Service's URL.
fn deploy<'a>(cluster: &'a Cluster, prefix: &str) -> Result<(Namespace<'a>, String)> {
    let namespace = Namespace::create(cluster, prefix)?;
    namespace.apply_example("echo.yaml")?;
    namespace.rolled_out("deployment/echo")?;
    let ip = namespace.field("service/echo", "/spec/clusterIP")?;
    let url = format!("http://{}/", ip.as_str().context("clusterIP")?);
    answered(&cluster.nodes[0], &url)?;
    Ok((namespace, url))
}

fn answered(node: &Node, url: &str) -> Result<()> {
    eventually(MINUTE, "the Service answers", || {
        node.run("curl", &["-sf", "--max-time", "5", url]).map(drop)
    })
}

#[test]
fn a_reboot_brings_the_pods_back() -> Result<()> {
    let cluster = Cluster::machines_exclusive()?;
    let node = &cluster.nodes[0];
    let (namespace, url) = deploy(&cluster, "reboot")?;
    let before = boot_id(node)?;
    let pods = names(&namespace)?;
    // The connection ends with the machine.
    let _ = node.run("systemctl", &["reboot"]);
    eventually(3 * MINUTE, "the machine boots again", || {
        let now = boot_id(node)?;
        ensure!(now != before, "it has not gone down yet");
        Ok(())
    })?;
    cluster.wait_node(&node.name, "Ready", 2 * MINUTE)?;
    answered(node, &url)?;
    namespace.rolled_out("deployment/echo")?;
    ensure!(
        names(&namespace)? == pods,
        "the pods are others: {pods:?} before"
    );
    for pod in namespace.pods("app=echo")? {
        let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
        let here = pod["spec"]["nodeName"] == node.name.as_str();
        ensure!(
            !here || *restarts == 1,
            "{} was restarted {restarts} times by one reboot",
            pod["metadata"]["name"]
        );
    }
    Ok(())
}

#[test]
fn pods_end_in_peace_before_a_reboot() -> Result<()> {
    let cluster = Cluster::machines_exclusive()?;
    let node = &cluster.nodes[0];
    let namespace = Namespace::create(&cluster, "goodbye")?;
    let _settings = Settings::add(node, "VETCH_SHUTDOWN_GRACE_PERIOD=20s")?;
    eventually(MINUTE, "the node would hold the machine", || {
        let locks = node.run("systemd-inhibit", &["--list", "--no-legend"])?;
        ensure!(locks.contains("vetch-node"), "locks: {locks}");
        Ok(())
    })?;
    let said = "/var/lib/goodbye";
    let script = "trap 'sleep 1; echo heard >/said/word; sync; exit 0' TERM; echo >/said/ready; \
                  while :; do sleep 1; done";
    let mut manifest = pod("hears", script);
    manifest["spec"]["nodeName"] = json!(node.name);
    manifest["spec"]["terminationGracePeriodSeconds"] = json!(15);
    manifest["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "said", "mountPath": "/said"}]);
    manifest["spec"]["volumes"] =
        json!([{"name": "said", "hostPath": {"path": said, "type": "DirectoryOrCreate"}}]);
    namespace.apply(&manifest.to_string())?;
    eventually(MINUTE, "it listens", || {
        node.run("cat", &[&format!("{said}/ready")])
    })?;
    let before = boot_id(node)?;
    // The connection ends with the machine.
    let _ = node.run("systemctl", &["reboot"]);
    eventually(3 * MINUTE, "the machine boots again", || {
        let now = boot_id(node)?;
        ensure!(now != before, "it has not gone down yet");
        Ok(())
    })?;
    cluster.wait_node(&node.name, "Ready", 2 * MINUTE)?;
    let word = node.run("cat", &[&format!("{said}/word")])?;
    ensure!(word == "heard\n", "{word:?}");
    namespace.wait_field("pod/hears", "/status/reason", &json!("Terminated"), MINUTE)?;
    node.run("rm", &["-r", said]).map(drop)
}

fn names(namespace: &Namespace<'_>) -> Result<Vec<String>> {
    let mut names: Vec<String> = namespace
        .pods("app=echo")?
        .iter()
        .filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}

#[test]
fn power_loss_in_the_middle_of_writes_loses_nothing_acknowledged() -> Result<()> {
    let cluster = Cluster::machines_exclusive()?;
    let control = &cluster.nodes[0];
    let (namespace, url) = deploy(&cluster, "power")?;
    let (acknowledged, refused) = std::thread::scope(|scope| -> Result<_> {
        let writer = scope.spawn(|| {
            let mut acknowledged = Vec::new();
            loop {
                let name = format!("kept-{}", acknowledged.len());
                let made =
                    namespace.kubectl(&["create", "configmap", &name, "--request-timeout=5s"]);
                match made {
                    Ok(output) if output.success => acknowledged.push(name),
                    Ok(output) => return (acknowledged, output.stderr),
                    Err(error) => return (acknowledged, error.to_string()),
                }
            }
        });
        eventually(MINUTE, "some writes are acknowledged", || {
            let made = namespace
                .kubectl(&["get", "configmaps", "-o", "name"])?
                .ok()?;
            ensure!(made.contains("kept-5"), "{made}");
            Ok(())
        })?;
        cluster.xtask(&["machine", "power-off", &control.name])?;
        writer
            .join()
            .map_err(|_| anyhow::anyhow!("the writer panicked"))
    })?;
    ensure!(!refused.is_empty(), "the writer went on without a machine");
    cluster.xtask(&["machine", "power-on", &control.name])?;
    eventually(2 * MINUTE, "the API answers again", || {
        cluster.kubectl(&["get", "--raw", "/readyz"])?.ok()
    })?;
    namespace.assert_kept(&acknowledged)?;
    cluster.wait_node(&control.name, "Ready", 2 * MINUTE)?;
    namespace.rolled_out("deployment/echo")?;
    answered(control, &url)
}

#[test]
fn a_clock_that_jumps_disturbs_nobody() -> Result<()> {
    let cluster = Cluster::machines_exclusive()?;
    let (namespace, url) = deploy(&cluster, "clock")?;
    let before = namespace.pods("app=echo")?;
    for (jump, round) in [("+2 hours", "ahead"), ("-2 hours", "back")] {
        for node in &cluster.nodes {
            node.run("date", &["--set", &format!("now {jump}")])?;
        }
        // A pod that starts now passes the scheduler, the node, its probes and its token's dates.
        let said = output(&namespace, pod(round, "echo here"))?;
        ensure!(said == "here\n", "{round}: {said:?}");
        answered(&cluster.nodes[0], &url)?;
        for node in &cluster.nodes {
            cluster.wait_node(&node.name, "Ready", MINUTE)?;
        }
    }
    let after = namespace.pods("app=echo")?;
    let identity = |pods: &[Value]| -> Vec<(Value, Value)> {
        let mut all: Vec<_> = pods
            .iter()
            .map(|pod| {
                (
                    pod["metadata"]["uid"].clone(),
                    pod["status"]["containerStatuses"][0]["containerID"].clone(),
                )
            })
            .collect();
        all.sort_by_key(|(uid, _)| uid.to_string());
        all
    };
    if identity(&before) != identity(&after) {
        bail!("pods were disturbed: {before:?}\n{after:?}");
    }
    Ok(())
}
