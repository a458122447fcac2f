//! Daemons come and go; pods stay.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use kube::api::DeleteParams;
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::{Value, json};

use crate::agent::{Agent, app, app_with};
use crate::cluster::{Cluster, condition};
use crate::lab::Lab;

fn container(pod: &Value) -> Value {
    let status = &pod["status"]["containerStatuses"][0];
    json!([
        status["containerID"],
        status["restartCount"],
        status["state"]
    ])
}

#[test]
fn a_daemon_that_comes_back_disturbs_nobody() {
    let lab = Lab::enter();
    lab.block_on(async {
        let cluster = Cluster::start().await;
        let agent = Agent::start(&lab, &cluster).await;
        let probed = json!({
            "readinessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1},
            "livenessProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1},
        });
        cluster
            .create("probed", app_with("exec sleep 3600", probed))
            .await;
        let mut volume = app_with(
            "until grep -q new /cfg/a; do sleep 0.01; done; echo seen; exec sleep 3600",
            json!({"volumeMounts": [{"name": "cfg", "mountPath": "/cfg"}]}),
        );
        volume["volumes"] = json!([{"name": "cfg", "configMap": {"name": "settings"}}]);
        cluster
            .put_config_map("settings", json!({"a": "old"}))
            .await;
        cluster.create("volume", volume).await;
        let mut done = app("exit 0");
        done["restartPolicy"] = json!("Never");
        cluster.create("done", done).await;
        cluster.create("orphan", app("exec sleep 3600")).await;
        let before = cluster.ready("probed").await;
        cluster.ready("volume").await;
        cluster.ready("orphan").await;
        cluster.phase("done", "Succeeded").await;
        agent.stop().await;

        let params = DeleteParams::default().grace_period(0);
        cluster.pods().delete("orphan", &params).await.unwrap();
        let lost_ready = watch_readiness(&cluster, "probed");
        let agent = Agent::start(&lab, &cluster).await;

        // The orphan goes, and nothing else.
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let left = agent.runtime.list().await;
            let mut names: Vec<&str> = left.iter().map(|s| s.spec.name.as_str()).collect();
            names.sort_unstable();
            if names == ["done", "probed", "volume"] {
                break;
            }
            assert!(Instant::now() < deadline, "{names:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // What it adopted it cares for: volumes follow, probes run.
        cluster
            .put_config_map("settings", json!({"a": "new"}))
            .await;
        cluster
            .wait("volume", "the new content", |pod| {
                crate::agent::log(&lab, pod, "app", 0) == "seen"
            })
            .await;
        let after = cluster.ready("probed").await;
        assert_eq!(container(&after), container(&before));
        assert!(!lost_ready.load(Ordering::Relaxed), "Ready was lost");
        let done = cluster.get("done").await.unwrap();
        assert_eq!(done["status"]["phase"], "Succeeded");

        for name in ["probed", "volume", "done"] {
            cluster.delete(name).await;
            cluster.gone(name).await;
        }
        wait_for_logs_to_go(&lab).await;
        lab.assert_nothing_left().await;
        agent.stop().await;
    });
}

async fn wait_for_logs_to_go(lab: &Lab) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !crate::lab::entries(&lab.path("logs")).is_empty() {
        assert!(Instant::now() < deadline, "an orphan's logs stay");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Set when the pod is seen without Ready, at any moment.
fn watch_readiness(cluster: &Cluster, name: &str) -> Arc<AtomicBool> {
    let lost = Arc::new(AtomicBool::new(false));
    let set = lost.clone();
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let pods = cluster.pods();
    tokio::spawn(async move {
        let mut events = std::pin::pin!(watcher(pods, config).applied_objects());
        while let Some(Ok(pod)) = events.next().await {
            let pod = serde_json::to_value(pod).unwrap();
            if condition(&pod, "Ready")["status"] != "True" {
                set.store(true, Ordering::Relaxed);
            }
        }
    });
    lost
}

#[test]
fn a_deletion_goes_on_with_the_next_daemon() {
    let lab = Lab::enter();
    lab.block_on(async {
        let cluster = Cluster::start().await;
        let agent = Agent::start(&lab, &cluster).await;
        let mut spec = app("trap '' TERM; while :; do sleep 1; done");
        spec["terminationGracePeriodSeconds"] = json!(3);
        cluster.create("ends", spec).await;
        cluster.ready("ends").await;
        cluster.delete("ends").await;
        cluster.told("ends", "Killing: ").await;
        agent.stop().await;
        let agent = Agent::start(&lab, &cluster).await;
        cluster.gone("ends").await;
        lab.assert_nothing_left().await;
        agent.stop().await;
    });
}

#[test]
fn after_a_restart_of_the_machine() {
    let lab = Lab::enter();
    lab.block_on(async {
        let cluster = Cluster::start().await;
        let agent = Agent::start(&lab, &cluster).await;
        let sleep = "echo run; exec sleep 3600";
        let with = |policy: &str| {
            let mut spec = app(sleep);
            spec["restartPolicy"] = json!(policy);
            spec
        };
        cluster.create("always", with("Always")).await;
        cluster.create("never", with("Never")).await;
        let ran = |pod: &Value, attempt| crate::agent::log(&lab, pod, "app", attempt) == "run";
        cluster
            .wait("always", "its first run's words", |pod| ran(pod, 0))
            .await;
        let before = cluster.ready("never").await;
        agent.stop().await;
        lab.reboot();

        let agent = Agent::start(&lab, &cluster).await;
        // Once was asked for, and once it ran.
        let pod = cluster.phase("never", "Failed").await;
        let last = &pod["status"]["containerStatuses"][0]["lastState"]["terminated"];
        assert_eq!(last["reason"], "ContainerStatusUnknown", "{pod:#}");
        assert_eq!(crate::agent::log(&lab, &before, "app", 1), "");
        let pod = cluster
            .wait("always", "its second run", |pod| {
                let status = &pod["status"]["containerStatuses"][0];
                status["ready"] == true && status["restartCount"] == 1 && ran(pod, 1)
            })
            .await;
        assert!(ran(&pod, 0), "the log of the first run is kept");
        for name in ["always", "never"] {
            cluster.delete(name).await;
            cluster.gone(name).await;
        }
        lab.assert_nothing_left().await;
        agent.stop().await;
    });
}
