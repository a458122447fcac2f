//! Termination: hooks, signals, grace.

use std::time::{Duration, Instant};

use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::agent::{app, app_with, on_a_node};
use crate::cluster::{Cluster, state};
use crate::lab::Lab;

/// Writes to the host, since a pod that is gone has no log.
fn diary(lab: &Lab, script: &str, fields: Value) -> Value {
    let mut spec = app_with(script, fields);
    spec["containers"][0]["volumeMounts"] = json!([{"name": "diary", "mountPath": "/diary"}]);
    spec["volumes"] = json!([{"name": "diary", "hostPath": {"path": lab.path("diary"), "type": "DirectoryOrCreate"}}]);
    spec
}

fn read(lab: &Lab) -> String {
    std::fs::read_to_string(lab.path("diary/log")).unwrap_or_default()
}

async fn end(cluster: &Cluster, name: &str) -> Duration {
    let began = Instant::now();
    cluster.delete(name).await;
    cluster.gone(name).await;
    began.elapsed()
}

#[test]
fn hook_then_signal_then_end() {
    on_a_node(async |lab, cluster, _| {
        let script = "trap 'echo term >> /diary/log; exit 0' TERM; echo up >> /diary/log; while :; do sleep 1000 & wait; done";
        let hook = json!({"lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", "echo hook >> /diary/log"]}}}});
        let mut spec = diary(lab, script, hook);
        spec["terminationGracePeriodSeconds"] = json!(30);
        cluster.create("polite", spec).await;
        cluster.ready("polite").await;
        cluster
            .wait("polite", "its trap", |_| read(lab) == "up\n")
            .await;
        let took = end(cluster, "polite").await;
        assert_eq!(read(lab), "up\nhook\nterm\n");
        assert!(took < Duration::from_secs(10), "{took:?}");
        lab.assert_nothing_left().await;
    });
}

#[test]
fn who_does_not_listen_is_killed_after_its_time() {
    on_a_node(async |lab, cluster, _| {
        let mut spec = app("trap '' TERM; while :; do sleep 1; done");
        spec["terminationGracePeriodSeconds"] = json!(3);
        cluster.create("deaf", spec).await;
        cluster.ready("deaf").await;
        let took = end(cluster, "deaf").await;
        let bounds = Duration::from_secs(3)..Duration::from_secs(6);
        assert!(bounds.contains(&took), "{took:?}");
        lab.assert_nothing_left().await;
    });
}

#[test]
fn less_time_when_it_is_asked_again() {
    on_a_node(async |lab, cluster, _| {
        let hook = json!({"lifecycle": {"preStop": {"sleep": {"seconds": 100}}}});
        let mut spec = app_with("trap '' TERM; while :; do sleep 1; done", hook);
        spec["terminationGracePeriodSeconds"] = json!(200);
        cluster.create("slow", spec).await;
        cluster.ready("slow").await;
        cluster.delete("slow").await;
        cluster.told("slow", "Killing: ").await;
        let params = DeleteParams::default().grace_period(1);
        cluster.pods().delete("slow", &params).await.unwrap();
        let began = Instant::now();
        cluster.gone("slow").await;
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{:?}",
            began.elapsed()
        );
        lab.assert_nothing_left().await;
    });
}

#[test]
fn deleted_by_force_it_ends_all_the_same() {
    on_a_node(async |lab, cluster, agent| {
        cluster.create("forced", app("exec sleep 3600")).await;
        cluster.ready("forced").await;
        let params = DeleteParams::default().grace_period(0);
        cluster.pods().delete("forced", &params).await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while !agent.runtime.list().await.is_empty()
            || !crate::lab::entries(&lab.path("pods")).is_empty()
            || !crate::lab::entries(&lab.path("logs")).is_empty()
        {
            assert!(Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        lab.assert_nothing_left().await;
    });
}

#[test]
fn deleted_before_it_began() {
    on_a_node(async |lab, cluster, _| {
        let mut spec = app("true");
        spec["containers"][0]["image"] = json!("127.0.0.1:1/no/such:tag");
        cluster.create("early", spec).await;
        cluster
            .wait("early", "waits", |pod| state(pod)["waiting"].is_object())
            .await;
        end(cluster, "early").await;
        lab.assert_nothing_left().await;
    });
}
