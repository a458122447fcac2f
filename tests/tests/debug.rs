//! `kubectl debug`: containers that are added to a pod that runs, and the subresource behind it.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use vetch_tests::{Cluster, Namespace, eventually};

const MINUTE: Duration = Duration::from_secs(60);
const IMAGE: &str = "vetch.local/echo:v1";

/// With a pod `web` whose container `app` does nothing.
fn running(cluster: &Cluster) -> Result<Namespace<'_>> {
    let namespace = Namespace::create(cluster, "debug")?;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{
            "name": "app", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["sleep", "4321"],
        }]},
    });
    namespace.apply(&pod.to_string())?;
    namespace
        .kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=120s"])?
        .ok()?;
    Ok(namespace)
}

fn debug(namespace: &Namespace<'_>, name: &str, more: &[&str], script: &str) -> Result<()> {
    let (image, name) = (format!("--image={IMAGE}"), format!("--container={name}"));
    let args = [
        &["debug", "web", &image, "--image-pull-policy=IfNotPresent"][..],
        &["--profile=general", &name],
        more,
        &["--", "sh", "-c", script],
    ];
    namespace.kubectl(&args.concat())?.ok()?;
    Ok(())
}

fn log_says(namespace: &Namespace<'_>, container: &str, words: &str) -> Result<()> {
    eventually(MINUTE, &format!("{container} says {words:?}"), || {
        let log = namespace.kubectl(&["logs", "web", "-c", container])?.ok()?;
        ensure!(log.contains(words), "{log}");
        Ok(())
    })
}

/// Of the ephemeral container of this name.
fn state(namespace: &Namespace<'_>, name: &str) -> Result<Value> {
    let statuses = namespace.field("pod/web", "/status/ephemeralContainerStatuses")?;
    let mut list = statuses.as_array().into_iter().flatten();
    let found = list.find(|status| status["name"] == name);
    let found = found.with_context(|| format!("no status of {name} yet: {statuses}"))?;
    Ok(found["state"].clone())
}

fn wait_state(namespace: &Namespace<'_>, name: &str, wanted: &str) -> Result<Value> {
    eventually(MINUTE, &format!("{name} is {wanted}"), || {
        let state = state(namespace, name)?;
        match state.get(wanted) {
            Some(found) => Ok(found.clone()),
            None => bail!("{state}"),
        }
    })
}

/// The path of the subresource, and the pod read there, to be written at any version.
fn read(namespace: &Namespace<'_>) -> Result<(String, Value)> {
    let path = format!(
        "/api/v1/namespaces/{}/pods/web/ephemeralcontainers",
        namespace.name
    );
    let text = namespace.kubectl(&["get", "--raw", &path])?.ok()?;
    let mut pod: Value = serde_json::from_str(&text)?;
    if let Some(metadata) = pod["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    Ok((path, pod))
}

#[test]
fn a_pod_goes_on_while_it_is_debugged() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = running(&cluster)?;
    let container = "/status/containerStatuses/0/containerID";
    let before = namespace.field("pod/web", container)?;

    debug(&namespace, "first", &["--target=app"], "ps; exit 3")?;
    let end = wait_state(&namespace, "first", "terminated")?;
    ensure!(end["exitCode"] == 3, "{end}");
    log_says(&namespace, "first", "sleep 4321")?;

    // Without a target it is alone.
    let script = "grep -qx sh /proc/1/comm && echo alone; exec sleep 3600";
    debug(&namespace, "second", &[], script)?;
    wait_state(&namespace, "second", "running")?;
    log_says(&namespace, "second", "alone")?;
    let said = namespace
        .kubectl(&["exec", "web", "-c", "second", "--", "cat", "/proc/1/comm"])?
        .ok()?;
    ensure!(said == "sleep\n", "{said:?}");

    let ended = state(&namespace, "first")?;
    ensure!(ended["terminated"] == end, "{ended}, not {end}");
    for (pointer, wanted) in [
        (container, before),
        ("/status/containerStatuses/0/restartCount", json!(0)),
        ("/status/phase", json!("Running")),
        ("/metadata/generation", json!(3)),
    ] {
        let now = namespace.field("pod/web", pointer)?;
        ensure!(now == wanted, "{pointer} is {now}, not {wanted}");
    }
    let described = namespace.kubectl(&["describe", "pod", "web"])?.ok()?;
    ensure!(described.contains("Ephemeral Containers:"), "{described}");
    eventually(MINUTE, "the events of both", || {
        let events = namespace.get(&["events"])?;
        let events = events["items"].as_array().cloned().unwrap_or_default();
        for name in ["first", "second"] {
            let path = format!("spec.ephemeralContainers{{{name}}}");
            for reason in ["Pulled", "Created", "Started"] {
                let told = events.iter().any(|event| {
                    event["involvedObject"]["fieldPath"] == *path && event["reason"] == reason
                });
                ensure!(told, "no {reason} of {path}");
            }
        }
        Ok(())
    })?;

    // They end with the pod.
    namespace
        .kubectl(&["delete", "pod", "web", "--timeout=60s"])?
        .ok()?;
    Ok(())
}

#[test]
fn ephemeral_containers_are_added_and_stay() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = running(&cluster)?;
    let (path, mut pod) = read(&namespace)?;
    ensure!(pod["metadata"]["generation"] == 1, "{pod}");
    // As the conformance suite has it: with a terminal nobody is attached to.
    pod["spec"]["ephemeralContainers"] = json!([{
        "name": "debugger", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "stdin": true, "tty": true,
        "command": ["sh", "-c", "while true; do echo polo; sleep 2; done"],
    }]);
    let put = |pod: &Value| cluster.kubectl_stdin(&["replace", "--raw", &path], &pod.to_string());
    put(&pod)?.ok()?;
    wait_state(&namespace, "debugger", "running")?;
    log_says(&namespace, "debugger", "polo")?;
    let echo = ["exec", "web", "-c", "debugger", "--", "/bin/echo", "marco"];
    let said = namespace.kubectl(&echo)?.ok()?;
    ensure!(said == "marco\n", "{said:?}");

    let (_, mut pod) = read(&namespace)?;
    ensure!(pod["metadata"]["generation"] == 2, "{pod}");
    let list = pod["spec"]["ephemeralContainers"].as_array_mut();
    let list = list.context("the list")?;
    ensure!(list.len() == 1, "{list:?}");
    list.push(json!({
        "name": "debugger2", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["true"],
    }));
    put(&pod)?.ok()?;
    let end = wait_state(&namespace, "debugger2", "terminated")?;
    ensure!(end["reason"] == "Completed", "{end}");

    let (_, pod) = read(&namespace)?;
    let changed = |change: fn(&mut Value)| {
        let mut pod = pod.clone();
        change(&mut pod["spec"]["ephemeralContainers"]);
        pod
    };
    for (wanted, words) in [
        (
            changed(|list| *list = json!([])),
            "existing ephemeral containers \"debugger\" may not be removed",
        ),
        (
            changed(|list| list[0]["command"] = json!(["false"])),
            "existing ephemeral containers \"debugger\" may not be changed",
        ),
        (
            changed(|list| list[1]["name"] = json!("app")),
            "spec.ephemeralContainers[1].name: Duplicate value: \"app\"",
        ),
    ] {
        let told = put(&wanted)?.refused()?;
        ensure!(told.contains(words), "{told:?} says no {words:?}");
    }
    let none = json!({"spec": {"ephemeralContainers": null}}).to_string();
    let told = namespace
        .kubectl(&["patch", "pod", "web", "--type=merge", "-p", &none])?
        .refused()?;
    let words = "pod updates may not change fields other than";
    ensure!(told.contains(words), "{told}");
    Ok(())
}
