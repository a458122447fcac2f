//! Probes take pods in and out, and restart containers.

use std::time::{Duration, Instant};

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

/// What questions have left in a file of the first container: a number a line.
async fn answered(agent: &Agent, path: &str) -> Vec<f64> {
    let text = std::fs::read_to_string(root(agent, path).await).unwrap();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

#[test]
fn numbers_of_a_probe() {
    on_a_node(async |lab, cluster, agent| {
        let now = "cut -d' ' -f1 /proc/uptime";
        let asks = format!(
            "if test -e /tmp/well; then {now} >>/tmp/yes; else {now} >>/tmp/no; exit 1; fi"
        );
        let probe = json!({"readinessProbe": {
            "exec": {"command": ["sh", "-c", asks]}, "initialDelaySeconds": 2, "periodSeconds": 1,
            "successThreshold": 3, "failureThreshold": 3,
        }});
        let script = format!("{now} >/tmp/began; touch /tmp/well; exec sleep 3600");
        cluster.create("counts", app_with(&script, probe)).await;
        cluster.ready("counts").await;
        let began = answered(agent, "/tmp/began").await[0];
        let yes = answered(agent, "/tmp/yes").await;
        // The shell is slower to say when it began than the supervisor.
        assert!(yes[0] - began > 1.0, "began {began}, asked {yes:?}");
        assert!(yes.len() >= 3 && yes[2] - yes[0] > 1.0, "{yes:?}");
        std::fs::remove_file(root(agent, "/tmp/well").await).unwrap();
        ready(cluster, "counts", "False").await;
        let no = answered(agent, "/tmp/no").await;
        assert!(no.len() >= 3 && no[2] - no[0] > 1.0, "{no:?}");
        cluster.delete("counts").await;
        cluster.gone("counts").await;
        lab.assert_nothing_left().await;
    });
}

/// Of a command in the first container.
async fn runs(agent: &Agent, command: &str) -> bool {
    let processes = root(agent, "/proc").await;
    let entries = std::fs::read_dir(processes).unwrap();
    // One that ends meanwhile is none.
    let mut commands =
        entries.filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok());
    let wanted = format!("{}\0", command.replace(' ', "\0"));
    commands.any(|own| own == wanted.as_bytes())
}

#[test]
fn a_question_has_its_time() {
    on_a_node(async |lab, cluster, agent| {
        let asking = |question: Value| {
            let mut probe = question;
            probe["timeoutSeconds"] = json!(1);
            probe["periodSeconds"] = json!(1);
            probe["failureThreshold"] = json!(1000);
            json!({"livenessProbe": probe})
        };
        let asks = "test -e /tmp/well || exec sleep 4321";
        let probe = asking(json!({"exec": {"command": ["sh", "-c", asks]}}));
        cluster
            .create("slow", app_with("exec sleep 3600", probe))
            .await;
        let words = format!("Unhealthy: Liveness probe failed: command \"sh -c {asks}\" timed out");
        cluster.told("slow", &words).await;
        // What did not answer in time is killed.
        std::fs::write(root(agent, "/tmp/well").await, "").unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while runs(agent, "sleep 4321").await {
            assert!(Instant::now() < deadline, "the question goes on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        cluster.delete("slow").await;
        cluster.gone("slow").await;

        // It takes what comes, and says nothing.
        let script = "sleep 3600 | nc -l -p 8080 >/dev/null; exec sleep 3600";
        let probe = asking(json!({"httpGet": {"port": 8080}}));
        cluster.create("dumb", app_with(script, probe)).await;
        let pod = cluster.ready("dumb").await;
        let ip = pod["status"]["podIP"].as_str().unwrap();
        let words = format!(
            "Unhealthy: Liveness probe failed: Get \"http://{ip}:8080/\": context deadline exceeded"
        );
        cluster.told("dumb", &words).await;
        cluster.delete("dumb").await;
        cluster.gone("dumb").await;
        lab.assert_nothing_left().await;
    });
}

#[test]
fn what_is_asked_and_by_whom() {
    on_a_node(async |lab, cluster, _| {
        std::fs::create_dir(lab.path("diary")).unwrap();
        // Each request leaves what came with it, in a file that its query names.
        let script = r#"mkdir -p /www/cgi-bin
            { echo '#!/bin/sh'; echo 'echo "$HTTP_HOST $HTTP_USER_AGENT $HTTP_X_OWN" >/diary/$QUERY_STRING'
              echo 'printf "Content-Type: text/plain\r\n\r\n"'; } >/www/cgi-bin/ask
            chmod +x /www/cgi-bin/ask; exec httpd -f -p 8080 -h /www"#;
        let get = |name: &str, headers: Value| json!({"httpGet": {"path": format!("/cgi-bin/ask?{name}"), "port": 8080, "httpHeaders": headers}});
        let own =
            json!([{"name": "Host", "value": "web.example"}, {"name": "X-Own", "value": "yes"}]);
        let named = json!([{"name": "User-Agent", "value": "own/1"}, {"name": "Host", "value": "web.example"}]);
        let mut spec = app_with(
            script,
            json!({
                "readinessProbe": get("probe", own.clone()),
                "livenessProbe": get("named", named),
                "lifecycle": {"preStop": get("hook", own)},
                "volumeMounts": [{"name": "v", "mountPath": "/diary"}],
            }),
        );
        spec["volumes"] = json!([{"name": "v", "hostPath": {"path": lab.path("diary")}}]);
        cluster.create("asked", spec).await;
        cluster.ready("asked").await;
        let named = lab.path("diary/named");
        cluster
            .wait("asked", "its other probe", |_| named.exists())
            .await;
        cluster.delete("asked").await;
        cluster.gone("asked").await;
        for (name, want) in [
            ("probe", "web.example kube-probe/1.36 yes\n"),
            ("named", "web.example own/1 \n"),
            ("hook", "web.example kube-lifecycle/1.36 yes\n"),
        ] {
            let said = std::fs::read_to_string(lab.path("diary").join(name)).unwrap();
            assert_eq!(said, want, "{name}");
        }
        lab.assert_nothing_left().await;
    });
}
