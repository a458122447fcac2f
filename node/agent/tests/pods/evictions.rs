//! Pods that wrote more than they may, and pods that go for the node's sake.

use std::time::Duration;

use serde_json::{Value, json};
use vetch_agent::node::pressure::Eviction;

use tokio::sync::watch;
use vetch_agent::pods::{Periods, Shutdown};

use crate::agent::{Agent, app, log, on_a_node, shell};
use crate::cluster::{Cluster, condition};
use crate::lab::Lab;

/// With more than a disk's blocks of room between what it writes and its limit.
const WRITES: &str = "head -c 3000000 /dev/zero >";

async fn assert_evicted(cluster: &Cluster, name: &str, words: &str) -> Value {
    let pod = cluster.phase(name, "Failed").await;
    let status = &pod["status"];
    assert_eq!(status["reason"], "Evicted", "{status:#}");
    let message = status["message"].as_str().unwrap();
    assert!(message.starts_with(words), "{message:?}");
    for container in status["containerStatuses"].as_array().unwrap() {
        assert!(container["state"]["terminated"].is_object(), "{container}");
    }
    cluster.told(name, &format!("Evicted: {words}")).await;
    pod
}

#[test]
fn pods_that_write_more_than_they_may() {
    on_a_node(async |lab, cluster, _| {
        let limited = |name: &str, script: &str, limit: &str| {
            let mut container = shell(name, script);
            container["resources"] = json!({"limits": {"ephemeral-storage": limit}});
            container
        };
        let with_scratch = |script: &str, dir: Value| {
            let mut spec = app(script);
            spec["containers"][0]["volumeMounts"] =
                json!([{"name": "scratch", "mountPath": "/scratch"}]);
            spec["volumes"] = json!([{"name": "scratch", "emptyDir": dir}]);
            spec
        };
        let stays = "exec sleep 3600";
        let volume = with_scratch(
            &format!("{WRITES}/scratch/x; {stays}"),
            json!({"sizeLimit": "1Mi"}),
        );
        let layer = json!({"containers": [
            limited("app", &format!("{WRITES}/x; {stays}"), "1Mi"),
            limited("other", stays, "100Mi"),
        ]});
        let logs = json!({"containers": [
            limited("app", &format!("head -c 3000000 /dev/zero | tr '\\0' x; {stays}"), "1Mi"),
            limited("other", stays, "100Mi"),
        ]});
        let mut whole = with_scratch(&format!("{WRITES}/scratch/x; {stays}"), json!({}));
        whole["containers"][0]["resources"] = json!({"limits": {"ephemeral-storage": "1Mi"}});
        let within = with_scratch(
            &format!("{WRITES}/scratch/x; {stays}"),
            json!({"sizeLimit": "100Mi"}),
        );
        cluster.create("within", within).await;
        for (name, spec, words) in [
            (
                "volume",
                volume,
                "Usage of EmptyDir volume \"scratch\" exceeds the limit \"1Mi\". ",
            ),
            (
                "layer",
                layer,
                "Container app exceeded its local ephemeral storage limit \"1Mi\". ",
            ),
            (
                "logs",
                logs,
                "Container app exceeded its local ephemeral storage limit \"1Mi\". ",
            ),
            (
                "whole",
                whole,
                "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. ",
            ),
        ] {
            cluster.create(name, spec).await;
            let pod = assert_evicted(cluster, name, words).await;
            // It has itself to blame.
            assert_eq!(condition(&pod, "DisruptionTarget"), &Value::Null);
        }
        cluster.ready("within").await;
        for name in ["within", "volume", "layer", "logs", "whole"] {
            cluster.delete(name).await;
            cluster.gone(name).await;
        }
        lab.assert_nothing_left().await;
    });
}

#[test]
fn a_full_disk_ends_pods_but_critical_ones() {
    let lab = Lab::enter();
    lab.block_on(async {
        let cluster = Cluster::start().await;
        let agent = Agent::start(&lab, &cluster).await;
        let mut greedy = app(&format!("{WRITES}/x; exec sleep 3600"));
        greedy["terminationGracePeriodSeconds"] = json!(600);
        let mut modest = app("exec sleep 3600");
        modest["containers"][0]["resources"] =
            json!({"requests": {"ephemeral-storage": "10Mi"}});
        let mut own = app("exec sleep 3600");
        own["terminationGracePeriodSeconds"] = json!(1);
        let manifest = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "own"}, "spec": own,
        });
        let path = lab.path("manifests").join("own.json");
        std::fs::write(&path, manifest.to_string()).unwrap();
        cluster.create("greedy", greedy).await;
        cluster.create("modest", modest).await;
        for name in ["greedy", "modest", "own-node-1"] {
            cluster.ready(name).await;
        }
        agent.stop().await;

        // No disk has so much.
        let never_enough =
            Eviction::parse("nodefs.available<1000Pi", "", "", Duration::ZERO).unwrap();
        let agent = Agent::start_with(&lab, &cluster, never_enough).await;
        agent.network_ready.send_replace(true);
        let low = "The node was low on resource: ephemeral-storage. Threshold quantity: 1000Pi, available: ";
        for name in ["greedy", "modest"] {
            let pod = assert_evicted(&cluster, name, low).await;
            let disrupted = condition(&pod, "DisruptionTarget");
            assert_eq!(disrupted["status"], "True");
            assert_eq!(disrupted["reason"], "TerminationByKubelet");
            assert_eq!(disrupted["message"], pod["status"]["message"]);
        }
        cluster.create("late", app("exec sleep 3600")).await;
        let late = cluster.phase("late", "Failed").await;
        assert_eq!(late["status"]["reason"], "Evicted");
        assert_eq!(
            late["status"]["message"],
            "Pod was rejected: The node had condition: [DiskPressure]. "
        );
        let own = cluster.get("own-node-1").await.unwrap();
        assert_eq!(own["status"]["phase"], "Running");
        std::fs::remove_file(&path).unwrap();
        cluster.gone("own-node-1").await;
        for name in ["greedy", "modest", "late"] {
            cluster.delete(name).await;
            cluster.gone(name).await;
        }
        // The logs of those that had ended go when they are seen to be gone.
        lab.assert_nothing_left().await;
        agent.stop().await;
    });
}

#[test]
fn pods_end_before_the_machine_does() {
    let lab = Lab::enter();
    lab.block_on(async {
        let cluster = Cluster::start().await;
        let (down, going_down) = watch::channel(false);
        let ending = Shutdown {
            periods: Periods {
                grace: Duration::from_secs(6),
                critical: Duration::from_secs(2),
            },
            going_down,
            ..Shutdown::never()
        };
        let mut ended = ending.ended.subscribe();
        let never = Eviction::parse("", "", "", Duration::ZERO).unwrap();
        let agent = Agent::start_so(&lab, &cluster, never, ending).await;
        agent.network_ready.send_replace(true);
        let hears = "trap 'echo heard; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
        cluster.create("hears", app(hears)).await;
        // Of PID 1, SIGTERM is nothing: it has all the time there is, and no more.
        let mut deaf = app("exec sleep 3600");
        deaf["terminationGracePeriodSeconds"] = json!(600);
        cluster.create("deaf", deaf).await;
        for name in ["hears", "deaf"] {
            cluster.ready(name).await;
        }
        let says = |pod: &Value| log(&lab, pod, "app", 0) == "ready";
        cluster.wait("hears", "its trap", says).await;
        let began = std::time::Instant::now();
        down.send_replace(true);
        let wait = ended.wait_for(|ended| *ended);
        let waited = tokio::time::timeout(Duration::from_secs(20), wait).await;
        waited.expect("the pods do not end").unwrap();
        assert!(began.elapsed() < Duration::from_secs(10), "{began:?}");
        for name in ["hears", "deaf"] {
            let pod = cluster.phase(name, "Failed").await;
            assert_eq!(pod["status"]["reason"], "Terminated");
            let words = "Pod was terminated in response to imminent node shutdown.";
            assert_eq!(pod["status"]["message"], words);
            let disrupted = condition(&pod, "DisruptionTarget");
            assert_eq!(disrupted["reason"], "TerminationByKubelet");
        }
        let pod = cluster.get("hears").await.unwrap();
        assert_eq!(log(&lab, &pod, "app", 0), "ready\nheard");
        cluster.create("late", app("true")).await;
        let late = cluster.phase("late", "Failed").await;
        assert_eq!(late["status"]["reason"], "NodeShutdown");
        assert_eq!(
            late["status"]["message"],
            "Pod was rejected: Pod was rejected as the node is shutting down."
        );
        // The machine stays after all.
        down.send_replace(false);
        ended.wait_for(|ended| !*ended).await.unwrap();
        cluster.create("again", app("exec sleep 3600")).await;
        cluster.ready("again").await;
        for name in ["hears", "deaf", "late", "again"] {
            cluster.delete(name).await;
            cluster.gone(name).await;
        }
        agent.stop().await;
        lab.assert_nothing_left().await;
    });
}
