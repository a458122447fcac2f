//! The kubelets' numbers and settings, through the API server: `/stats/summary`, `/metrics/resource`,
//! `/metrics/cadvisor`, `/metrics`, `/configz`, `/runningpods/`.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use vetch_tests::{Cluster, Namespace, eventually};

const MINUTE: Duration = Duration::from_secs(60);
const MEBIBYTE: u64 = 1 << 20;

/// A server whose kubelet asks it every second, and beside it what computes, writes and says something.
fn run(namespace: &Namespace<'_>) -> Result<Value> {
    let busy = "echo begun; dd if=/dev/zero of=/written bs=1024 count=2048; \
                cp /written /cache/; while :; do i=0; \
                while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 1; done";
    let image = "vetch.local/echo:v1";
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "echo", "image": image, "imagePullPolicy": "IfNotPresent",
                    "readinessProbe": {
                        "httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1,
                    },
                },
                {
                    "name": "busy", "image": image, "imagePullPolicy": "IfNotPresent",
                    "command": ["sh", "-c", busy],
                    "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
                },
            ],
            "volumes": [{"name": "cache", "emptyDir": {}}],
        },
    });
    namespace.apply(&pod.to_string())?;
    let ready = json!(["True", "True"]);
    eventually(MINUTE, "the pod is ready", || {
        let pod = namespace.get(&["pod/web"])?;
        let conditions = pod["status"]["conditions"].as_array();
        let conditions = conditions.context("no conditions yet")?;
        let told = |kind: &str| {
            let found = conditions.iter().find(|of| of["type"] == kind);
            found.map_or(Value::Null, |of| of["status"].clone())
        };
        let found = json!([told("Ready"), told("ContainersReady")]);
        ensure!(found == ready, "{}", pod["status"]);
        Ok(pod)
    })
}

/// What the kubelet of the node answers.
fn ask(cluster: &Cluster, node: &str, path: &str) -> Result<String> {
    let path = format!("/api/v1/nodes/{node}/proxy{path}");
    cluster.kubectl(&["get", "--raw", &path])?.ok()
}

fn ask_json(cluster: &Cluster, node: &str, path: &str) -> Result<Value> {
    Ok(serde_json::from_str(&ask(cluster, node, path)?)?)
}

fn number(of: &Value, pointer: &str) -> Result<u64> {
    let value = of.pointer(pointer).and_then(Value::as_u64);
    value.with_context(|| format!("no number at {pointer} of {of}"))
}

/// The pod in a summary, and its container that is busy.
fn find<'a>(summary: &'a Value, pod: &Value) -> Result<(&'a Value, &'a Value)> {
    let mut pods = summary["pods"].as_array().into_iter().flatten();
    let uid = &pod["metadata"]["uid"];
    let pod = pods.find(|of| of["podRef"]["uid"] == *uid);
    let pod = pod.with_context(|| format!("the pod is not in {summary}"))?;
    let mut containers = pod["containers"].as_array().into_iter().flatten();
    let busy = containers.find(|of| of["name"] == "busy");
    Ok((pod, busy.with_context(|| format!("not busy: {pod}"))?))
}

/// The value of a sample, by its name and labels as they are written.
fn sample(metrics: &str, of: &str) -> Result<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(of));
    let line = line.with_context(|| format!("no {of} in\n{metrics}"))?;
    let value = line.split_whitespace().next().context("a value")?;
    Ok(value.parse()?)
}

fn counts_memory(cluster: &Cluster, node: &str) -> Result<bool> {
    let path = "jsonpath={.status.conditions[?(@.type==\"CgroupControllersMissing\")].status}";
    let missing = cluster.kubectl(&["get", "node", node, "-o", path])?.ok()?;
    Ok(!missing.contains("True"))
}

#[test]
fn what_pods_and_their_node_use() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "stats")?;
    let pod = run(&namespace)?;
    let node = pod["spec"]["nodeName"].as_str().context("a node")?;

    // What it has written is there, and what it has said.
    let first = eventually(MINUTE, "its files are counted", || {
        let summary = ask_json(&cluster, node, "/stats/summary")?;
        let (stats, busy) = find(&summary, &pod)?;
        ensure!(number(busy, "/rootfs/usedBytes")? >= 2 * MEBIBYTE, "{busy}");
        ensure!(number(busy, "/logs/usedBytes")? > 0, "{busy}");
        ensure!(stats["volume"][0]["name"] == "cache", "{stats}");
        ensure!(
            number(stats, "/volume/0/usedBytes")? >= 2 * MEBIBYTE,
            "{stats}"
        );
        let ephemeral = number(stats, "/ephemeral-storage/usedBytes")?;
        ensure!(ephemeral >= 4 * MEBIBYTE, "{stats}");
        Ok(summary)
    })?;
    let counters = |summary: &Value| {
        let (pod, busy) = find(summary, &pod)?;
        Ok::<_, anyhow::Error>([
            number(busy, "/cpu/usageCoreNanoSeconds")?,
            number(pod, "/cpu/usageCoreNanoSeconds")?,
            number(pod, "/network/rxBytes")?,
            number(pod, "/network/txBytes")?,
            number(&summary["node"], "/cpu/usageCoreNanoSeconds")?,
        ])
    };
    let before = counters(&first)?;
    eventually(MINUTE, "its counters grow", || {
        let summary = ask_json(&cluster, node, "/stats/summary")?;
        let after = counters(&summary)?;
        let grew = before.iter().zip(&after).all(|(old, new)| new > old);
        ensure!(grew, "from {before:?} to {after:?}");
        let (_, busy) = find(&summary, &pod)?;
        ensure!(number(busy, "/cpu/usageNanoCores")? > 0, "{busy}");
        Ok(())
    })?;

    let (stats, _) = find(&first, &pod)?;
    ensure!(stats["podRef"]["name"] == "web", "{stats}");
    let told = &first["node"];
    ensure!(told["nodeName"] == node, "{told}");
    for of in [
        "/memory/workingSetBytes",
        "/fs/usedBytes",
        "/runtime/imageFs/usedBytes",
    ] {
        ensure!(number(told, of)? > 0, "{of} of {told}");
    }

    let short = ask_json(&cluster, node, "/stats/summary?only_cpu_and_memory=true")?;
    let (stats, busy) = find(&short, &pod)?;
    number(busy, "/cpu/usageCoreNanoSeconds")?;
    for (of, more) in [(stats, "network"), (busy, "rootfs"), (&short["node"], "fs")] {
        ensure!(of.get(more).is_none(), "{more} in {of}");
    }
    if counts_memory(&cluster, node)? {
        ensure!(number(busy, "/memory/workingSetBytes")? > 0, "{busy}");
    }
    Ok(())
}

#[test]
fn metrics_of_a_kubelet() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "metrics")?;
    let pod = run(&namespace)?;
    let node = pod["spec"]["nodeName"].as_str().context("a node")?;
    let own = format!("namespace=\"{}\",pod=\"web\"}}", namespace.name);
    let of_busy = |name: &str| format!("{name}{{container=\"busy\",{own} ");
    let used = of_busy("container_cpu_usage_seconds_total");

    let metrics = ask(&cluster, node, "/metrics/resource")?;
    ensure!(
        sample(&metrics, "resource_scrape_error ")? == 0.0,
        "{metrics}"
    );
    let before = sample(&metrics, &used)?;
    eventually(MINUTE, "its processor time grows", || {
        let metrics = ask(&cluster, node, "/metrics/resource")?;
        let after = sample(&metrics, &used)?;
        ensure!(after > before, "{before} and then {after}");
        Ok(())
    })?;
    ensure!(sample(&metrics, &format!("pod_cpu_usage_seconds_total{{{own} "))? >= before);
    for name in [
        "node_cpu_usage_seconds_total ",
        "node_memory_working_set_bytes ",
    ] {
        ensure!(sample(&metrics, name)? > 0.0, "{metrics}");
    }
    ensure!(sample(&metrics, &of_busy("container_start_time_seconds"))? > 1.7e9);
    if counts_memory(&cluster, node)? {
        ensure!(sample(&metrics, &of_busy("container_memory_working_set_bytes"))? > 0.0);
    }

    let metrics = ask(&cluster, node, "/metrics/cadvisor")?;
    let writes = metrics.lines().find(|line| {
        line.starts_with("container_fs_usage_bytes{container=\"busy\",") && line.contains(&own)
    });
    let writes = writes.with_context(|| format!("its disk is not in\n{metrics}"))?;
    ensure!(writes.contains("/kubepods/"), "{writes}");
    let received = format!("container_network_receive_bytes_total{{interface=\"eth0\",{own} ");
    ensure!(sample(&metrics, &received)? > 0.0, "{metrics}");

    let metrics = ask(&cluster, node, "/metrics")?;
    ensure!(sample(&metrics, &format!("kubelet_node_name{{node=\"{node}\"}} "))? == 1.0);
    ensure!(
        sample(&metrics, "kubelet_running_pods ")? >= 1.0,
        "{metrics}"
    );
    let running = "kubelet_running_containers{container_state=\"running\"} ";
    ensure!(sample(&metrics, running)? >= 2.0, "{metrics}");
    ensure!(
        sample(&metrics, "process_cpu_seconds_total ")? > 0.0,
        "{metrics}"
    );
    Ok(())
}

#[test]
fn how_a_node_is_configured_and_what_it_runs() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "configz")?;
    let pod = run(&namespace)?;
    let node = pod["spec"]["nodeName"].as_str().context("a node")?;

    let answer = ask_json(&cluster, node, "/configz")?;
    let config = &answer["kubeletconfig"];
    let text = cluster
        .kubectl(&["get", "node", node, "-o", "json"])?
        .ok()?;
    let status = serde_json::from_str::<Value>(&text)?["status"].take();
    let pods = status["capacity"]["pods"].as_str().context("pods")?;
    ensure!(config["maxPods"].to_string() == pods, "{config}");
    let port = &status["daemonEndpoints"]["kubeletEndpoint"]["Port"];
    ensure!(config["port"] == *port, "{config}");
    ensure!(config["authentication"]["anonymous"]["enabled"] == false);

    let running = ask_json(&cluster, node, "/runningpods/")?;
    let mut items = running["items"].as_array().into_iter().flatten();
    let own = items.find(|of| of["metadata"]["uid"] == pod["metadata"]["uid"]);
    let own = own.with_context(|| format!("the pod is not in {running}"))?;
    let containers = own["spec"]["containers"].as_array().context("containers")?;
    let names: Vec<&Value> = containers.iter().map(|of| &of["name"]).collect();
    ensure!(names.len() == 2 && names.contains(&&json!("busy")), "{own}");
    Ok(())
}
