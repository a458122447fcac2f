//! Memory quality of service (KEP-2570): what the kernel is told of pods, and what it does.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use vetch_tests::{Cluster, Namespace, eventually};

use super::{MINUTE, Settings, pod};

const MIB: u64 = 1 << 20;

#[test]
fn memory_is_kept_by_class_and_who_takes_more_is_slowed_down() -> Result<()> {
    let cluster = Cluster::machines_exclusive()?;
    let node = &cluster.nodes[0];
    let namespace = Namespace::create(&cluster, "quality")?;
    let lines = "VETCH_MEMORY_QOS=true\nVETCH_MEMORY_RESERVATION_POLICY=TieredReservation";
    let _settings = Settings::add(node, lines)?;
    cluster.wait_node(&node.name, "Ready", MINUTE)?;

    let exact = json!({"cpu": "50m", "memory": "32Mi"});
    for (name, resources) in [
        ("guaranteed", json!({"requests": exact, "limits": exact})),
        (
            "burstable",
            json!({"requests": {"memory": "32Mi"}, "limits": {"memory": "64Mi"}}),
        ),
        ("besteffort", json!({})),
    ] {
        let mut manifest = pod(name, "exec sleep 3600");
        manifest["spec"]["nodeName"] = json!(node.name);
        let container = &mut manifest["spec"]["containers"][0];
        container["resources"] = resources;
        container["volumeMounts"] = json!([{"name": "mem", "mountPath": "/mem"}]);
        manifest["spec"]["volumes"] = json!([{"name": "mem", "emptyDir": {"medium": "Memory"}}]);
        namespace.apply(&manifest.to_string())?;
    }
    let run = |pod: &str, script: &str| -> Result<String> {
        namespace
            .kubectl(&["exec", pod, "--", "sh", "-c", script])?
            .ok()
    };
    let read = |pod: &str| -> Result<Vec<String>> {
        let place = format!("pod/{pod}");
        namespace.wait_field(&place, "/status/phase", &json!("Running"), MINUTE)?;
        let said = run(
            pod,
            "cd /sys/fs/cgroup && cat memory.min memory.low memory.high",
        )?;
        Ok(said.lines().map(str::to_owned).collect())
    };
    let request = (32 * MIB).to_string();
    let guaranteed = read("guaranteed")?;
    ensure!(
        guaranteed == [request.as_str(), "0", "max"],
        "{guaranteed:?}"
    );
    let burstable = read("burstable")?;
    // What is asked for and nine tenths of the other 32 Mi, in whole pages.
    let high = (32 * MIB + 32 * MIB * 9 / 10) / 4096 * 4096;
    let want = ["0".to_owned(), request.clone(), high.to_string()];
    ensure!(burstable == want, "{burstable:?}, not {want:?}");
    let best_effort = read("besteffort")?;
    ensure!(
        best_effort[..2] == ["0", "0"] && best_effort[2] != "max",
        "{best_effort:?}"
    );

    let uid = |pod: &str| -> Result<String> {
        let uid = namespace.field(&format!("pod/{pod}"), "/metadata/uid")?;
        Ok(uid.as_str().context("a uid")?.to_owned())
    };
    let (guaranteed, burstable) = (uid("guaranteed")?, uid("burstable")?);
    let number = |file: &str| -> Result<u64> {
        let text = node.run("cat", &[&format!("/sys/fs/cgroup/kubepods/{file}")])?;
        let text = text.trim();
        text.parse().with_context(|| format!("{file}: {text:?}"))
    };
    ensure!(number(&format!("pod{guaranteed}/memory.min"))? == 32 * MIB);
    ensure!(number(&format!("burstable/pod{burstable}/memory.low"))? == 32 * MIB);
    eventually(MINUTE, "the classes have what their pods have", || {
        let (all, own) = (number("memory.min")?, number("burstable/memory.low")?);
        ensure!(own >= 32 * MIB && all >= own + 32 * MIB, "{all} and {own}");
        Ok(())
    })?;

    let slowed = |pod: &str| -> Result<u64> {
        let said = run(pod, "grep '^high ' /sys/fs/cgroup/memory.events")?;
        let count = said.trim().strip_prefix("high ").context("a count")?;
        Ok(count.parse()?)
    };
    ensure!(slowed("burstable")? == 0, "it has taken nothing yet");
    // A little more than memory.high, and less than the limit.
    let taken = high + 256 * 1024;
    run(
        "burstable",
        &format!("head -c {taken} /dev/zero >/mem/taken"),
    )?;
    ensure!(slowed("burstable")? > 0, "nobody was slowed down");
    let restarts: Value =
        namespace.field("pod/burstable", "/status/containerStatuses/0/restartCount")?;
    ensure!(restarts == 0, "restarted {restarts} times");
    Ok(())
}

#[test]
fn an_empty_dir_of_huge_pages_is_one() -> Result<()> {
    let cluster = Cluster::machines_exclusive()?;
    let node = &cluster.nodes[0];
    let namespace = Namespace::create(&cluster, "huge")?;
    let pages = |count: u32| {
        let script = format!("echo {count} >/proc/sys/vm/nr_hugepages");
        node.run("sh", &["-c", &script])
    };
    pages(8)?;
    // The daemon counts them when it starts.
    let settings = Settings::add(node, "VETCH_MAX_PODS=109")?;
    let size = "jsonpath={.status.allocatable.hugepages-2Mi}";
    eventually(MINUTE, "the node has huge pages", || {
        let has = namespace
            .kubectl(&["get", "node", &node.name, "-o", size])?
            .ok()?;
        ensure!(has == "16Mi", "{has:?}");
        Ok(())
    })?;
    let script =
        "grep ' /huge ' /proc/mounts | cut -d' ' -f3; truncate -s 2M /huge/page && echo made";
    let mut manifest = pod("pages", script);
    manifest["spec"]["nodeName"] = json!(node.name);
    let container = &mut manifest["spec"]["containers"][0];
    container["resources"] = json!({"limits": {"hugepages-2Mi": "4Mi", "memory": "64Mi"}});
    container["volumeMounts"] = json!([{"name": "huge", "mountPath": "/huge"}]);
    manifest["spec"]["volumes"] = json!([{"name": "huge", "emptyDir": {"medium": "HugePages"}}]);
    let said = super::output(&namespace, manifest)?;
    ensure!(said == "hugetlbfs\nmade\n", "{said:?}");
    drop(settings);
    pages(0).map(drop)
}
