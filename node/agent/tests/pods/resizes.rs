//! Other resources for pods that run.

use std::fs;

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::agent::{Agent, app_with, on_a_node, shell};
use crate::cluster::{Cluster, condition};
use crate::lab::Lab;

const SLEEP: &str = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done";

async fn resize(cluster: &Cluster, name: &str, sizes: &[(&str, Value)]) {
    let containers = sizes
        .iter()
        .map(|(name, resources)| json!({"name": name, "resources": resources}))
        .collect::<Vec<_>>();
    let patch = json!({"spec": {"containers": containers}});
    let patch = Patch::Strategic(&patch);
    cluster
        .pods()
        .patch_subresource("resize", name, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

/// Once the containers have it, in the order of their names, and nothing more is told of a resize.
async fn resized(cluster: &Cluster, name: &str, sizes: &[Value]) -> Value {
    cluster
        .wait(name, "its new size", |pod| {
            let none = |kind: &str| condition(pod, kind).is_null();
            let statuses = pod["status"]["containerStatuses"].as_array();
            let has: Vec<&Value> = statuses
                .into_iter()
                .flatten()
                .map(|status| &status["resources"])
                .collect();
            has == sizes.iter().collect::<Vec<_>>()
                && pod["status"]["observedGeneration"] == pod["metadata"]["generation"]
                && none("PodResizePending")
                && none("PodResizeInProgress")
        })
        .await
}

fn container(pod: &Value, at: usize) -> &Value {
    &pod["status"]["containerStatuses"][at]
}

/// A file of the pod's cgroup, or of one of its containers'.
fn cgroup(lab: &Lab, pod: &Value, at: Option<usize>, file: &str) -> String {
    let class = match pod["status"]["qosClass"].as_str().unwrap() {
        "Guaranteed" => "kubepods",
        "Burstable" => "kubepods/burstable",
        other => panic!("{other} pods have no sizes"),
    };
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let mut path = lab.cgroup.join(class).join(format!("pod{uid}"));
    if let Some(at) = at {
        let id = container(pod, at)["containerID"].as_str().unwrap();
        path.push(id.trim_start_matches("vetch://"));
    }
    fs::read_to_string(path.join(file))
        .unwrap()
        .trim()
        .to_owned()
}

fn guaranteed(cpu: &str, memory: &str) -> Value {
    let both = json!({"cpu": cpu, "memory": memory});
    json!({"limits": both, "requests": both})
}

#[test]
fn containers_are_resized_where_they_run() {
    on_a_node(async |lab, cluster, agent| {
        let sized = |name: &str, size: Value| {
            let mut container = shell(name, SLEEP);
            container["resources"] = size;
            container
        };
        let (small, large) = (guaranteed("20m", "35Mi"), guaranteed("30m", "45Mi"));
        let spec = json!({"containers": [sized("a", small.clone()), sized("b", large.clone())]});
        cluster.create("web", spec).await;
        let before = cluster.ready("web").await;
        assert_eq!(before["metadata"]["generation"], 1);
        for sizes in [
            [large.clone(), small.clone()],
            [small.clone(), large.clone()],
        ] {
            let [a, b] = sizes.clone();
            resize(cluster, "web", &[("a", a), ("b", b)]).await;
            let pod = resized(cluster, "web", &sizes).await;
            for (at, size) in sizes.iter().enumerate() {
                let (now, then) = (container(&pod, at), container(&before, at));
                assert_eq!(now["containerID"], then["containerID"]);
                assert_eq!(now["restartCount"], 0);
                assert_eq!(now["allocatedResources"], size["requests"]);
                let missing = agent.runtime.missing_controllers();
                let has = |name: &str| !missing.iter().any(|missing| missing == name);
                let first = *size == small;
                if has("cpu") {
                    let quota = if first { "2000 100000" } else { "3000 100000" };
                    assert_eq!(cgroup(lab, &pod, Some(at), "cpu.max"), quota);
                    assert_eq!(cgroup(lab, &pod, None, "cpu.max"), "5000 100000");
                }
                if has("memory") {
                    let bytes = if first { 35 << 20 } else { 45 << 20 };
                    let bytes = i64::to_string(&bytes);
                    assert_eq!(cgroup(lab, &pod, Some(at), "memory.max"), bytes);
                }
            }
        }
        let last = cluster.get("web").await.unwrap();
        assert_eq!(last["metadata"]["generation"], 3);
        for words in [
            "ResizeStarted: Pod resize started: {",
            "ResizeCompleted: Pod resize completed: {",
        ] {
            cluster.told("web", words).await;
        }
        cluster.delete("web").await;
        cluster.gone("web").await;
        lab.assert_nothing_left().await;
    });
}

#[test]
fn a_container_is_started_anew_where_its_policy_says_so() {
    on_a_node(async |_, cluster, _| {
        let size = |cpu: &str, memory: &str| json!({"requests": {"cpu": cpu, "memory": memory}});
        let policy = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
        let mut spec = app_with(
            SLEEP,
            json!({"resources": size("20m", "35Mi"), "resizePolicy": policy}),
        );
        // It ends well when it is asked to: that is no end of the pod.
        spec["restartPolicy"] = json!("OnFailure");
        cluster.create("web", spec).await;
        let before = cluster.ready("web").await;
        for (wanted, restarts) in [(size("25m", "35Mi"), 0), (size("25m", "40Mi"), 1)] {
            resize(cluster, "web", &[("app", wanted.clone())]).await;
            let pod = resized(cluster, "web", &[wanted]).await;
            assert_eq!(container(&pod, 0)["restartCount"], restarts);
            assert_eq!(pod["status"]["phase"], "Running");
            let same = container(&pod, 0)["containerID"] == container(&before, 0)["containerID"];
            assert_eq!(same, restarts == 0);
        }
        cluster.ready("web").await;
        cluster
            .told("web", "Killing: Container app resize requires restart")
            .await;
    });
}

#[test]
fn what_the_node_does_not_grant_waits_across_daemons() {
    let lab = Lab::enter();
    lab.block_on(async {
        let cluster = Cluster::start().await;
        let agent = Agent::start(&lab, &cluster).await;
        let size = |cpu: &str| json!({"requests": {"cpu": cpu}});
        for (name, cpu) in [("web", "1"), ("other", "2")] {
            let spec = app_with(SLEEP, json!({"resources": size(cpu)}));
            cluster.create(name, spec).await;
            cluster.ready(name).await;
        }
        let pending = async |reason: &str| {
            let pod = cluster
                .wait("web", reason, |pod| {
                    condition(pod, "PodResizePending")["reason"] == reason
                })
                .await;
            assert_eq!(container(&pod, 0)["resources"], size("1"));
            assert_eq!(container(&pod, 0)["allocatedResources"]["cpu"], "1");
            condition(&pod, "PodResizePending").clone()
        };
        resize(&cluster, "web", &[("app", size("5"))]).await;
        let told = pending("Infeasible").await;
        assert_eq!(
            told["message"],
            "Node didn't have enough capacity: cpu, requested: 5000, capacity: 4000"
        );
        cluster
            .told("web", "ResizeInfeasible: Pod resize Infeasible: {")
            .await;
        // The next daemon knows what was granted, and that this was not.
        agent.stop().await;
        resize(&cluster, "web", &[("app", size("3"))]).await;
        let agent = Agent::start(&lab, &cluster).await;
        let told = pending("Deferred").await;
        assert_eq!(
            told["message"],
            "Node didn't have enough resource: cpu, requested: 3000, used: 2000, capacity: 4000"
        );
        assert_eq!(told["observedGeneration"], 3);
        cluster.delete("other").await;
        let pod = resized(&cluster, "web", &[size("3")]).await;
        assert_eq!(container(&pod, 0)["restartCount"], 0);

        cluster.delete("web").await;
        cluster.gone("web").await;
        cluster.gone("other").await;
        lab.assert_nothing_left().await;
        agent.stop().await;
    });
}
