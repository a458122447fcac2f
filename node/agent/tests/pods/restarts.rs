//! Containers' own rules of when they are started again.

use serde_json::{Value, json};

use crate::agent::{log, on_a_node, shell};
use crate::cluster::condition;

fn rule(action: &str, code: i32) -> Value {
    json!([{"action": action, "exitCodes": {"operator": "In", "values": [code]}}])
}

/// Of a container that ends with `code` the first time.
fn at_first(code: i32) -> String {
    format!("test -e /v/again && exec sleep 3600; touch /v/again; exit {code}")
}

#[test]
fn one_container_is_started_again_by_its_rule() {
    on_a_node(async |lab, cluster, _| {
        let mut app = shell("app", &at_first(42));
        app["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
        app["restartPolicy"] = json!("Never");
        app["restartPolicyRules"] = rule("Restart", 42);
        let beside = shell("beside", "exec sleep 3600");
        let spec = json!({
            "restartPolicy": "Never", "containers": [app, beside],
            "volumes": [{"name": "v", "emptyDir": {}}],
        });
        cluster.create("ruled", spec).await;
        let pod = cluster
            .wait("ruled", "a restart", |pod| {
                let app = &pod["status"]["containerStatuses"][0];
                app["restartCount"] == 1 && app["ready"] == true
            })
            .await;
        let counts: Vec<&Value> = pod["status"]["containerStatuses"]
            .as_array()
            .unwrap()
            .iter()
            .map(|status| &status["restartCount"])
            .collect();
        assert_eq!(counts, [1, 0]);
        cluster.delete("ruled").await;
        cluster.gone("ruled").await;
        lab.assert_nothing_left().await;
    });
}

#[test]
fn a_watcher_starts_the_whole_pod_again() {
    on_a_node(async |lab, cluster, agent| {
        let with = |name: &str, script: &str| {
            let mut container = shell(name, script);
            container["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
            container
        };
        let mut watcher = with(
            "watcher",
            "until test -e /v/ran && test -e /v/done; do sleep 0.05; done; test -e /v/again && exec sleep 3600; touch /v/again; exit 88",
        );
        watcher["restartPolicy"] = json!("Always");
        watcher["restartPolicyRules"] = rule("RestartAllContainers", 88);
        // It would hear a stop signal and run its hook, if it were given the time.
        let mut app = with(
            "app",
            "trap 'touch /v/heard; exit 0' TERM; touch /v/ran; while :; do sleep 0.05; done",
        );
        app["lifecycle"] = json!({"preStop": {"exec": {"command": ["touch", "/v/hook"]}}});
        let spec = json!({
            "restartPolicy": "Never",
            "initContainers": [with("prepare", "echo prepared >>/v/log; ls /v | tr '\\n' ' '"), watcher],
            "containers": [app, with("done", "touch /v/done")],
            "volumes": [{"name": "v", "emptyDir": {}}],
            "terminationGracePeriodSeconds": 60,
        });
        cluster.create("worker", spec).await;
        let pod = cluster
            .wait("worker", "the second round", |pod| {
                let status = &pod["status"];
                let all = ["initContainerStatuses", "containerStatuses"];
                let mut all = all
                    .iter()
                    .flat_map(|list| status[*list].as_array())
                    .flatten();
                all.all(|own| own["restartCount"] == 1) && status["phase"] == "Running"
            })
            .await;
        let all = condition(&pod, "AllContainersRestarting");
        assert_eq!(all["status"], "False", "{all}");
        let status = &pod["status"];
        let last = |list: &str, at: usize| status[list][at]["lastState"]["terminated"].clone();
        assert_eq!(last("initContainerStatuses", 1)["exitCode"], 88);
        assert_eq!(last("containerStatuses", 0)["exitCode"], 137, "{status:#}");
        // What was written stays, and nobody was asked to end.
        assert_eq!(log(lab, &pod, "prepare", 1), "again done log ran ");
        let sandboxes = agent.runtime.list().await;
        let [sandbox] = &sandboxes[..] else {
            panic!("{} sandboxes", sandboxes.len());
        };
        assert_eq!(sandbox.spec.attempt, 0, "it is the same");
        let words = "Killing: Stopping container app: container watcher ended, and all are restarted with it";
        cluster.told("worker", words).await;
        let params = kube::api::DeleteParams::default().grace_period(1);
        cluster.pods().delete("worker", &params).await.unwrap();
        cluster.gone("worker").await;
        lab.assert_nothing_left().await;
    });
}
