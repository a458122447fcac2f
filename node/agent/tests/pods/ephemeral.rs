//! Ephemeral containers: added to pods that run, started once, ended with the pod.

use kube::api::{Patch, PatchParams};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::agent::{app, log, on_a_node, shell};
use crate::cluster::{Cluster, state};

const SLEEP: &str = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done";

async fn add(cluster: &Cluster, pod: &str, container: Value) {
    let patch = json!({"spec": {"ephemeralContainers": [container]}});
    let (params, patch) = (PatchParams::default(), Patch::Strategic(&patch));
    let pods = cluster.pods();
    let added = pods.patch_ephemeral_containers(pod, &params, &patch);
    added.await.unwrap();
}

fn debugger(script: &str, target: &str) -> Value {
    let mut container = shell("debugger", script);
    container["targetContainerName"] = json!(target);
    container
}

fn added<'a>(pod: &'a Value, name: &str) -> &'a Value {
    static NONE: Value = Value::Null;
    let list = pod["status"]["ephemeralContainerStatuses"].as_array();
    let mut list = list.into_iter().flatten();
    list.find(|status| status["name"] == name).unwrap_or(&NONE)
}

#[test]
fn it_runs_once_among_the_processes_of_its_target() {
    on_a_node(async |lab, cluster, _| {
        let mut spec = app("exec sleep 4321");
        spec["volumes"] = json!([{"name": "cfg", "configMap": {"name": "settings"}}]);
        cluster.create("web", spec).await;
        let before = cluster.ready("web").await;
        let settings = json!({"greeting": "hello\n"});
        cluster.put_config_map("settings", settings).await;
        cluster
            .put_config_map("more", json!({"word": "sesame"}))
            .await;

        // What it uses, nothing of the pod used before.
        let script = "until grep -q sleep /proc/1/comm; do :; done
                      cat /proc/1/comm /cfg/greeting; echo $WORD; exit 3";
        let mut first = debugger(script, "app");
        first["volumeMounts"] = json!([{"name": "cfg", "mountPath": "/cfg"}]);
        let word = json!({"configMapKeyRef": {"name": "more", "key": "word"}});
        first["env"] = json!([{"name": "WORD", "valueFrom": word}]);
        add(cluster, "web", first).await;
        let ended = |pod: &Value| added(pod, "debugger")["state"]["terminated"]["exitCode"] == 3;
        let pod = cluster.wait("web", "its end", ended).await;
        assert_eq!(log(lab, &pod, "debugger", 0), "sleep\nhello\nsesame");

        add(cluster, "web", shell("watcher", SLEEP)).await;
        let runs = |pod: &Value| added(pod, "watcher")["state"]["running"].is_object();
        let pod = cluster.wait("web", "another one", runs).await;
        assert!(ended(&pod), "{:#}", pod["status"]);
        assert_eq!(added(&pod, "debugger")["restartCount"], 0);
        assert_eq!(pod["status"]["phase"], "Running");
        assert_eq!(pod["status"]["observedGeneration"], 3);
        assert_eq!(state(&pod), state(&before));
        cluster.delete("web").await;
        cluster.gone("web").await;
        cluster
            .told("web", "Killing: Stopping container watcher")
            .await;
        lab.assert_nothing_left().await;
    });
}

#[test]
fn a_target_has_to_run_and_the_pod_ends_without_waiting() {
    on_a_node(async |lab, cluster, agent| {
        let spec = json!({
            "restartPolicy": "Never",
            "containers": [shell("app", "exec sleep 4321"), shell("done", "exit 0")],
        });
        cluster.create("job", spec).await;
        cluster
            .wait("job", "one of two done", |pod| {
                let list = pod["status"]["containerStatuses"].as_array();
                let has = |at: usize, state: &str| {
                    list.is_some_and(|list| list[at]["state"][state].is_object())
                };
                has(0, "running") && has(1, "terminated")
            })
            .await;
        add(cluster, "job", debugger("exit 0", "done")).await;
        let words = "invalid target container: container done is not running - in state exited";
        cluster
            .wait("job", words, |pod| {
                let waiting = &added(pod, "debugger")["state"]["waiting"];
                waiting["reason"] == "CreateContainerError" && waiting["message"] == words
            })
            .await;
        cluster
            .told("job", &format!("Failed: Error: {words}"))
            .await;

        add(cluster, "job", shell("watcher", SLEEP)).await;
        cluster
            .wait("job", "another one", |pod| {
                added(pod, "watcher")["state"]["running"].is_object()
            })
            .await;
        let sandboxes = agent.runtime.list().await;
        let mut containers = sandboxes.iter().flat_map(|sandbox| &sandbox.containers);
        let app = containers.find(|container| container.name == "app");
        let pid = i32::try_from(app.unwrap().pid.unwrap()).unwrap();
        let pid = nix::unistd::Pid::from_raw(pid);
        nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
        let pod = cluster.phase("job", "Failed").await;
        // When it says so, nothing of it runs.
        let end = &added(&pod, "watcher")["state"]["terminated"];
        assert!(end.is_object(), "{:#}", pod["status"]);
        cluster.delete("job").await;
        cluster.gone("job").await;
        lab.assert_nothing_left().await;
    });
}

#[test]
fn it_does_not_wait_for_init_containers_but_its_target_may() {
    on_a_node(async |lab, cluster, _| {
        let mut spec = app("exec sleep 4321");
        spec["initContainers"] = json!([shell("init", "exec sleep 4321")]);
        cluster.create("begins", spec).await;
        add(cluster, "begins", debugger("exit 0", "app")).await;
        let words = "unable to find target container app";
        cluster
            .wait("begins", words, |pod| {
                let waiting = &added(pod, "debugger")["state"]["waiting"];
                waiting["reason"] == "CreateContainerConfigError" && waiting["message"] == words
            })
            .await;
        add(cluster, "begins", shell("early", "exec sleep 4321")).await;
        let pod = cluster
            .wait("begins", "one without a target", |pod| {
                added(pod, "early")["state"]["running"].is_object()
            })
            .await;
        assert_eq!(pod["status"]["phase"], "Pending");
        let init = &pod["status"]["initContainerStatuses"][0];
        assert!(init["state"]["terminated"].is_null(), "{init:#}");
        cluster.delete("begins").await;
        cluster.gone("begins").await;
        lab.assert_nothing_left().await;
    });
}

#[test]
fn where_processes_are_shared_it_is_among_all_of_them() {
    on_a_node(async |lab, cluster, _| {
        let mut spec = app("exec sleep 4321");
        spec["shareProcessNamespace"] = json!(true);
        cluster.create("shared", spec).await;
        cluster.ready("shared").await;
        let script = "until ps | grep -q '[s]leep 4321'; do :; done; cat /proc/1/comm";
        add(cluster, "shared", debugger(script, "app")).await;
        let pod = cluster
            .wait("shared", "its end", |pod| {
                added(pod, "debugger")["state"]["terminated"]["exitCode"] == 0
            })
            .await;
        assert_eq!(log(lab, &pod, "debugger", 0), "vetch-init");
        cluster.delete("shared").await;
        cluster.gone("shared").await;
        lab.assert_nothing_left().await;
    });
}
