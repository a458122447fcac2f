//! How long it takes from a pod's creation until it is ready, image cached.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::agent::{app_with, on_a_node};

const ROUNDS: usize = 15;

#[test]
fn created_to_ready() {
    on_a_node(async |lab, cluster, _| {
        cluster.put_config_map("settings", json!({"a": "1"})).await;
        let mut times = Vec::new();
        for round in 0..ROUNDS {
            let name = format!("p{round}");
            let mut spec = app_with(
                "exec httpd -f -p 8080",
                json!({
                    "volumeMounts": [{"name": "cfg", "mountPath": "/cfg"}],
                    "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 10},
                }),
            );
            spec["volumes"] = json!([{"name": "cfg", "configMap": {"name": "settings"}}]);
            let began = Instant::now();
            cluster.create(&name, spec).await;
            cluster.ready(&name).await;
            times.push(began.elapsed());
            cluster.delete(&name).await;
            cluster.gone(&name).await;
        }
        times.sort();
        let median = times[ROUNDS / 2];
        println!("created to ready: median {median:?}, all {times:?}");
        // An unoptimised build beside other tests; the release numbers are in the benchmarks.
        assert!(median < Duration::from_secs(2), "{times:?}");
        lab.assert_nothing_left().await;
    });
}

#[test]
fn many_at_once() {
    const PODS: usize = 40;
    on_a_node(async |lab, cluster, _| {
        let names: Vec<String> = (0..PODS).map(|number| format!("p{number}")).collect();
        let spec = app_with("exec sleep 3600", json!({}));
        let began = Instant::now();
        let creations = names.iter().map(|name| cluster.create(name, spec.clone()));
        futures::future::join_all(creations).await;
        futures::future::join_all(names.iter().map(|name| cluster.ready(name))).await;
        let ready = began.elapsed();
        let began = Instant::now();
        futures::future::join_all(names.iter().map(|name| cluster.delete(name))).await;
        futures::future::join_all(names.iter().map(|name| cluster.gone(name))).await;
        println!(
            "{PODS} pods: ready after {ready:?}, gone after {:?}",
            began.elapsed()
        );
        assert!(ready < Duration::from_secs(20), "{ready:?}");
        lab.assert_nothing_left().await;
    });
}
