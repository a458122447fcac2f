//! Other resources for pods that run: `kubectl patch --subresource resize`.
//!
//! What reaches the kernel is looked at where its controllers are there: on virtual machines, and on nodes of a machine
//! in pure cgroup v2.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use vetch_tests::{Cluster, Namespace, Output, eventually};

const MINUTE: Duration = Duration::from_secs(60);

/// A container of busybox that sleeps.
fn container(name: &str, resources: Value) -> Value {
    json!({
        "name": name, "image": "vetch.local/echo:v1", "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", "exec sleep 3600"], "resources": resources,
    })
}

fn run(namespace: &Namespace<'_>, containers: Value) -> Result<()> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
        "spec": {"restartPolicy": "OnFailure", "terminationGracePeriodSeconds": 1, "containers": containers},
    });
    namespace.apply(&pod.to_string())?;
    eventually(MINUTE, "the pod is ready", || {
        let pod = namespace.get(&["pod/web"])?;
        ensure!(is_ready(&pod), "{}", pod["status"]);
        Ok(())
    })
}

fn guaranteed(cpu: i64, memory: i64) -> Value {
    let both = json!({"cpu": format!("{cpu}m"), "memory": format!("{memory}Mi")});
    json!({"limits": both, "requests": both})
}

fn ask(namespace: &Namespace<'_>, sizes: &[(&str, Value)]) -> Result<Output> {
    let containers: Vec<Value> = sizes
        .iter()
        .map(|(name, resources)| json!({"name": name, "resources": resources}))
        .collect();
    let patch = json!({"spec": {"containers": containers}}).to_string();
    let resize = ["patch", "pod", "web", "--subresource", "resize", "--patch"];
    namespace.kubectl(&[&resize[..], &[&patch]].concat())
}

fn resize(namespace: &Namespace<'_>, sizes: &[(&str, Value)]) -> Result<()> {
    let said = ask(namespace, sizes)?.ok()?;
    ensure!(said.contains("patched"), "kubectl said {said:?}");
    Ok(())
}

fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    let mut list = pod["status"]["conditions"].as_array()?.iter();
    list.find(|condition| condition["type"] == kind)
}

fn is_ready(pod: &Value) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready["status"] == "True")
}

/// Waits until the containers have these sizes and nothing more is to be done.
fn resized(namespace: &Namespace<'_>, sizes: &[(&str, Value)]) -> Result<Value> {
    eventually(MINUTE, "the pod has its new size", || {
        let pod = namespace.get(&["pod/web"])?;
        let statuses = pod["status"]["containerStatuses"].as_array();
        let statuses = statuses.context("no containers in the status")?;
        for (name, size) in sizes {
            let status = statuses.iter().find(|status| status["name"] == *name);
            let has = &status.context("a container")?["resources"];
            ensure!(has == size, "{name} has {has}");
        }
        for kind in ["PodResizePending", "PodResizeInProgress"] {
            let told = condition(&pod, kind);
            ensure!(told.is_none(), "{told:?}");
        }
        ensure!(is_ready(&pod), "not ready: {}", pod["status"]);
        let (wanted, seen) = (
            &pod["metadata"]["generation"],
            &pod["status"]["observedGeneration"],
        );
        ensure!(wanted == seen, "generation {seen} of {wanted}");
        Ok(pod)
    })
}

fn has_controllers(cluster: &Cluster, pod: &Value) -> Result<bool> {
    let node = pod["spec"]["nodeName"].as_str().context("a node")?;
    let path = "jsonpath={.status.conditions[?(@.type==\"CgroupControllersMissing\")].status}";
    let missing = cluster.kubectl(&["get", "node", node, "-o", path])?.ok()?;
    Ok(!missing.contains("True"))
}

/// What the container sees of its own cgroup.
fn cgroup(namespace: &Namespace<'_>, container: &str, file: &str) -> Result<String> {
    let path = format!("/sys/fs/cgroup/{file}");
    let said = namespace
        .kubectl(&["exec", "web", "-c", container, "--", "cat", &path])?
        .ok()?;
    Ok(said.trim().to_owned())
}

fn ids(pod: &Value) -> Vec<(String, String)> {
    let statuses = pod["status"]["containerStatuses"].as_array();
    let statuses = statuses.into_iter().flatten();
    statuses
        .map(|status| {
            (
                status["name"].to_string(),
                status["containerID"].to_string(),
            )
        })
        .collect()
}

#[test]
fn containers_are_resized_where_they_run() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "resize")?;
    let names = ["c1", "c2", "c3"];
    let first = [(100, 35), (110, 37), (120, 39)];
    run(
        &namespace,
        names
            .iter()
            .zip(first)
            .map(|(name, (cpu, memory))| container(name, guaranteed(cpu, memory)))
            .collect(),
    )?;
    let before = namespace.get(&["pod/web"])?;
    // On the whole more, on the whole less, and back.
    for step in [
        [(125, 40), (135, 42), (95, 34)],
        [(125, 40), (85, 32), (95, 34)],
        first,
    ] {
        let sizes: Vec<(&str, Value)> = names
            .into_iter()
            .zip(step)
            .map(|(name, (cpu, memory))| (name, guaranteed(cpu, memory)))
            .collect();
        resize(&namespace, &sizes)?;
        let pod = resized(&namespace, &sizes)?;
        ensure!(
            ids(&pod) == ids(&before),
            "containers were started anew: {}",
            pod["status"]
        );
        if !has_controllers(&cluster, &pod)? {
            continue;
        }
        for (name, (cpu, memory)) in names.into_iter().zip(step) {
            for (file, wanted) in [
                ("cpu.max", format!("{} 100000", cpu * 100)),
                ("memory.max", (memory << 20).to_string()),
            ] {
                let found = cgroup(&namespace, name, file)?;
                ensure!(found == wanted, "{file} of {name} is {found}, not {wanted}");
            }
        }
    }
    let events = eventually(MINUTE, "events of the resize", || {
        let events = namespace.kubectl(&["get", "events"])?.ok()?;
        ensure!(events.contains("ResizeCompleted"), "{events}");
        Ok(events)
    })?;
    ensure!(events.contains("ResizeStarted"), "{events}");
    Ok(())
}

#[test]
fn limits_come_and_a_policy_costs_a_restart() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "resize-policy")?;
    let request = |cpu: &str| json!({"requests": {"cpu": cpu}});
    let mut anew = container("anew", request("50m"));
    anew["resizePolicy"] = json!([{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]);
    run(
        &namespace,
        json!([anew, container("stays", request("50m"))]),
    )?;
    let limited = json!({"requests": {"cpu": "60m"}, "limits": {"cpu": "100m"}});
    let sizes = [("anew", limited.clone()), ("stays", limited)];
    resize(&namespace, &sizes)?;
    let pod = resized(&namespace, &sizes)?;
    let restarts: Vec<&Value> = pod["status"]["containerStatuses"]
        .as_array()
        .context("containers")?
        .iter()
        .map(|status| &status["restartCount"])
        .collect();
    ensure!(restarts == [&json!(1), &json!(0)], "restarts: {restarts:?}");
    if has_controllers(&cluster, &pod)? {
        for name in ["anew", "stays"] {
            let found = cgroup(&namespace, name, "cpu.max")?;
            ensure!(found == "10000 100000", "cpu.max of {name} is {found}");
        }
    }
    Ok(())
}

#[test]
fn what_cannot_be_is_refused_or_said() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "resize-no")?;
    run(
        &namespace,
        json!([container(
            "c1",
            json!({"requests": {"cpu": "20m", "memory": "35Mi"}})
        )]),
    )?;
    for (size, words) in [
        (
            json!({"requests": {"memory": null}}),
            "resource requests cannot be removed",
        ),
        (
            json!({"requests": {"ephemeral-storage": "1Mi"}}),
            "only cpu and memory resources are mutable",
        ),
        (
            json!({"limits": {"cpu": "20m", "memory": "35Mi"}}),
            "Pod QOS Class may not change as a result of resizing",
        ),
    ] {
        let refused = ask(&namespace, &[("c1", size)])?.refused()?;
        ensure!(refused.contains(words), "{refused:?} has no {words:?}");
    }
    let huge = json!({"requests": {"cpu": "1000", "memory": "35Mi"}});
    resize(&namespace, &[("c1", huge)])?;
    eventually(MINUTE, "the node says that it never has so much", || {
        let pod = namespace.get(&["pod/web"])?;
        let pending = condition(&pod, "PodResizePending").context("nothing is pending")?;
        ensure!(pending["reason"] == "Infeasible", "{pending}");
        let words = pending["message"].as_str().unwrap_or_default();
        ensure!(
            words.starts_with("Node didn't have enough capacity: cpu"),
            "{pending}"
        );
        let has = &pod["status"]["containerStatuses"][0]["resources"]["requests"]["cpu"];
        ensure!(has == "20m", "it has {has}");
        Ok(())
    })?;
    let small = json!({"requests": {"cpu": "10m", "memory": "30Mi"}});
    resize(&namespace, &[("c1", small.clone())])?;
    resized(&namespace, &[("c1", small)])?;
    Ok(())
}
