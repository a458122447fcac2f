//! What containers reach of a machine, and what confines them.

use anyhow::{Result, ensure};
use serde_json::json;
use vetch_tests::{Cluster, Namespace, Node, eventually};

use super::{MINUTE, output, pod};

#[test]
fn a_container_reaches_no_disk_of_the_machine() -> Result<()> {
    let cluster = Cluster::machines()?;
    let namespace = Namespace::create(&cluster, "disk")?;
    // The disk's numbers differ from kernel to kernel.
    let script = "mknod /tmp/disk b $(tr : ' ' </sys/class/block/vda/dev) && head -c 512 /tmp/disk 2>&1 >/tmp/read \
                  && wc -c </tmp/read";
    namespace.apply(&pod("plain", script).to_string())?;
    namespace.wait_field("pod/plain", "/status/phase", &json!("Failed"), MINUTE)?;
    let said = namespace.kubectl(&["logs", "plain"])?.ok()?;
    ensure!(
        said.contains("/tmp/disk: Operation not permitted"),
        "it failed otherwise: {said:?}"
    );
    let mut manifest = pod("privileged", script);
    manifest["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    let said = output(&namespace, manifest)?;
    ensure!(said == "512\n", "a privileged one read {said:?}");
    let condition = cluster
        .kubectl(&[
            "get",
            "nodes",
            "-o",
            "jsonpath={.items[*].status.conditions[?(@.type==\"DeviceCgroupMissing\")].status}",
        ])?
        .ok()?;
    ensure!(
        condition.contains("False") && !condition.contains("True"),
        "DeviceCgroupMissing: {condition:?}"
    );
    Ok(())
}

/// What confines it, whether it may mount, and whether it may write.
const CONFINED: &str = "cat /proc/self/attr/current; mount -t tmpfs none /tmp 2>/dev/null && echo mounted; \
                        touch /tmp/x 2>/dev/null && echo written; true";
const NO_WRITES: &str =
    "profile vetch-test-no-writes flags=(attach_disconnected, mediate_deleted) {
  network, capability, file, signal, ptrace,
  deny /tmp/** w,
}";

fn load_profile(node: &Node, text: &str) -> Result<()> {
    let script = r#"printf '%s\n' "$1" | apparmor_parser --replace --skip-cache --quiet"#;
    node.run("sh", &["-c", script, "load", text]).map(drop)
}

#[test]
fn apparmor_profiles_confine_containers() -> Result<()> {
    let cluster = Cluster::machines()?;
    let namespace = Namespace::create(&cluster, "armor")?;
    for node in &cluster.nodes {
        load_profile(node, NO_WRITES)?;
    }
    let profile = |kind: &str| json!({"appArmorProfile": {"type": kind}});
    let ours = "vetch-default (enforce)\nwritten\n";
    let free = "unconfined\nmounted\nwritten\n";
    for (name, context, wanted) in [
        ("unsaid", json!({}), ours),
        ("default", profile("RuntimeDefault"), ours),
        ("free", profile("Unconfined"), free),
        ("privileged", json!({"privileged": true}), free),
        (
            "own",
            json!({"appArmorProfile": {"type": "Localhost", "localhostProfile": "vetch-test-no-writes"}}),
            "vetch-test-no-writes (enforce)\n",
        ),
    ] {
        let mut manifest = pod(name, CONFINED);
        let security = &mut manifest["spec"]["containers"][0]["securityContext"];
        *security = context;
        security["capabilities"] = json!({"add": ["SYS_ADMIN"]});
        let said = output(&namespace, manifest)?;
        ensure!(said == wanted, "{name}: {said:?}, not {wanted:?}");
    }

    // A process of an exec is no less confined.
    namespace.apply(&pod("runs", "exec sleep 3600").to_string())?;
    namespace.wait_field("pod/runs", "/status/phase", &json!("Running"), MINUTE)?;
    let exec = ["exec", "runs", "--", "cat", "/proc/self/attr/current"];
    let said = namespace.kubectl(&exec)?.ok()?;
    ensure!(said == "vetch-default (enforce)\n", "exec: {said:?}");

    let mut manifest = pod("missing", "true");
    manifest["spec"]["securityContext"] =
        json!({"appArmorProfile": {"type": "Localhost", "localhostProfile": "vetch-test-none"}});
    namespace.apply(&manifest.to_string())?;
    eventually(MINUTE, "the missing profile is told", || {
        let at = "/status/containerStatuses/0/state/waiting";
        let waiting = namespace.field("pod/missing", at)?;
        ensure!(waiting["reason"] == "CreateContainerError", "{waiting}");
        let words = waiting["message"].as_str().unwrap_or_default();
        ensure!(
            words == "apparmor profile not found vetch-test-none",
            "{words}"
        );
        Ok(())
    })
}
