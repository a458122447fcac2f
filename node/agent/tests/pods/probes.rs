//! Probes take pods in and out, and restart containers.

use serde_json::{Value, json};

use crate::agent::{Agent, app_with, on_a_node};
use crate::cluster::{Cluster, condition};

/// A path in the first container's root.
async fn root(agent: &Agent, path: &str) -> std::path::PathBuf {
    let sandboxes = agent.runtime.list().await;
    let pid = sandboxes[0].containers[0].pid.unwrap();
    format!("/proc/{pid}/root{path}").into()
}

async fn ready(cluster: &Cluster, name: &str, status: &str) -> Value {
    cluster
        .wait(name, &format!("Ready={status}"), |pod| {
            condition(pod, "Ready")["status"] == status
        })
        .await
}

#[test]
fn readiness_by_http() {
    on_a_node(async |lab, cluster, agent| {
        let probe = json!({"readinessProbe": {
            "httpGet": {"path": "/index.html", "port": "web"}, "periodSeconds": 1, "failureThreshold": 1,
        }, "ports": [{"name": "web", "containerPort": 8080}]});
        let script = "mkdir /www; echo ok > /www/index.html; exec httpd -f -p 8080 -h /www";
        cluster.create("web", app_with(script, probe)).await;
        cluster.ready("web").await;
        let file = root(agent, "/www/index.html").await;
        std::fs::remove_file(&file).unwrap();
        let pod = ready(cluster, "web", "False").await;
        assert_eq!(
            condition(&pod, "Ready")["message"],
            "containers with unready status: [app]"
        );
        let words = "Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 404";
        cluster.told("web", words).await;
        std::fs::write(&file, "ok").unwrap();
        let pod = ready(cluster, "web", "True").await;
        assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
        cluster.delete("web").await;
        cluster.gone("web").await;
        lab.assert_nothing_left().await;
    });
}

#[test]
fn liveness_by_command_restarts() {
    on_a_node(async |lab, cluster, _| {
        let probe = json!({"livenessProbe": {
            "exec": {"command": ["cat", "/tmp/alive"]}, "periodSeconds": 1, "failureThreshold": 2,
        }});
        let script = "touch /tmp/alive; sleep 1; rm /tmp/alive; exec sleep 3600";
        cluster.create("live", app_with(script, probe)).await;
        let pod = cluster
            .wait("live", "a restart", |pod| {
                pod["status"]["containerStatuses"][0]["restartCount"] == 1
            })
            .await;
        let last = &pod["status"]["containerStatuses"][0]["lastState"]["terminated"];
        assert_eq!(last["exitCode"], 137);
        cluster
            .told("live", "Unhealthy: Liveness probe failed: cat:")
            .await;
        cluster
            .told(
                "live",
                "Killing: Container app failed liveness probe, will be restarted",
            )
            .await;
        cluster.delete("live").await;
        cluster.gone("live").await;
        lab.assert_nothing_left().await;
    });
}

#[test]
fn startup_comes_before_the_others() {
    on_a_node(async |lab, cluster, _| {
        let probes = json!({
            "startupProbe": {"exec": {"command": ["test", "-e", "/tmp/started"]}, "periodSeconds": 1, "failureThreshold": 20},
            // Would kill it before it has started.
            "livenessProbe": {"exec": {"command": ["test", "-e", "/tmp/started"]}, "periodSeconds": 1, "failureThreshold": 1},
            "readinessProbe": {"tcpSocket": {"port": 9000}, "periodSeconds": 1},
        });
        let script = "httpd -p 9000; sleep 2; touch /tmp/started; exec sleep 3600";
        cluster.create("slow", app_with(script, probes)).await;
        let pod = cluster
            .wait("slow", "Running", |pod| pod["status"]["phase"] == "Running")
            .await;
        let status = &pod["status"]["containerStatuses"][0];
        assert_eq!(
            (&status["started"], &status["ready"]),
            (&json!(false), &json!(false))
        );
        let pod = cluster.ready("slow").await;
        assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
        cluster.delete("slow").await;
        cluster.gone("slow").await;
        lab.assert_nothing_left().await;
    });
}
