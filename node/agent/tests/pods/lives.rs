//! Pods from beginning to end.

use serde_json::{Value, json};

use crate::agent::{app, app_with, log, on_a_node, shell};
use crate::cluster::{condition, state};
use crate::lab::NODE_IP;

const SLEEP: &str = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done";

#[test]
fn a_pod_runs_and_goes_without_a_trace() {
    on_a_node(async |lab, cluster, _| {
        let script = format!(
            "echo $NAME $IP $HOST_IP; hostname; grep -c web /etc/hosts; grep nameserver /etc/resolv.conf; cat /etc/hostname; {SLEEP}"
        );
        let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
        let spec = app_with(
            &script,
            json!({
                "env": [field("NAME", "metadata.name"), field("IP", "status.podIP"), field("HOST_IP", "status.hostIP")],
                "resources": {"requests": {"cpu": "100m"}},
            }),
        );
        cluster.create("web", spec).await;
        let pod = cluster.ready("web").await;
        let status = &pod["status"];
        assert_eq!(status["phase"], "Running");
        assert_eq!(status["qosClass"], "Burstable");
        assert_eq!(status["hostIP"], NODE_IP.to_string());
        assert_eq!(status["podIPs"][0]["ip"], status["podIP"]);
        for kind in [
            "PodReadyToStartContainers",
            "Initialized",
            "Ready",
            "ContainersReady",
            "PodScheduled",
        ] {
            let found = condition(&pod, kind);
            assert_eq!(found["status"], "True", "{kind}");
            assert_eq!(found["observedGeneration"], 1, "{kind}");
        }
        let container = &status["containerStatuses"][0];
        let id = container["containerID"].as_str().unwrap();
        assert!(id.starts_with("vetch://") && id.len() == 72, "{id}");
        assert_eq!(container["started"], true);
        assert_eq!(container["restartCount"], 0);
        assert_eq!(container["resources"]["requests"]["cpu"], "100m");
        let said = cluster
            .wait("web", "its words", |pod| {
                log(lab, pod, "app", 0).lines().count() == 5
            })
            .await;
        let ip = status["podIP"].as_str().unwrap();
        assert_eq!(
            log(lab, &said, "app", 0),
            format!("web {ip} {NODE_IP}\nweb\n1\nnameserver 10.96.0.10\nweb")
        );
        for words in [
            "Pulled: Container image \"vetch.local/busybox:1\" already present on machine",
            "Created: Container created",
            "Started: Container started",
        ] {
            cluster.told("web", words).await;
        }

        cluster.delete("web").await;
        cluster.gone("web").await;
        cluster.told("web", "Killing: Stopping container app").await;
        lab.assert_nothing_left().await;
    });
}

#[test]
fn init_containers_and_sidecars_in_order() {
    on_a_node(async |lab, cluster, _| {
        let mounts = json!([{"name": "shared", "mountPath": "/shared"}]);
        let step = |name: &str, script: &str| {
            let mut container = shell(name, script);
            container["volumeMounts"] = mounts.clone();
            container
        };
        let mut sidecar = step(
            "side",
            &format!(
                "echo side >> /shared/order; trap 'echo side ends >> /shared/order; exit 0' TERM; {}",
                "while :; do sleep 1000 & wait; done"
            ),
        );
        sidecar["restartPolicy"] = json!("Always");
        cluster
            .create(
                "ordered",
                json!({
                    "restartPolicy": "Never",
                    "volumes": [{"name": "shared", "hostPath": {"path": lab.path("shared"), "type": "DirectoryOrCreate"}}],
                    "initContainers": [step("one", "echo one >> /shared/order"), sidecar, step("two", "echo two >> /shared/order")],
                    "containers": [step("app", "echo app >> /shared/order")],
                }),
            )
            .await;
        let pod = cluster.phase("ordered", "Succeeded").await;
        let order = std::fs::read_to_string(lab.path("shared/order")).unwrap();
        // The sidecar may write at any time from its start on.
        let without = |word: &str| {
            let lines = order.lines().filter(|line| *line != word);
            lines.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(without("side"), "one two app side ends");
        let init = &pod["status"]["initContainerStatuses"];
        assert_eq!(init[0]["state"]["terminated"]["reason"], "Completed");
        assert_eq!(init[1]["state"]["terminated"]["exitCode"], 0);
        assert_eq!(condition(&pod, "Ready")["reason"], "PodCompleted");
        cluster.delete("ordered").await;
        cluster.gone("ordered").await;
        lab.assert_nothing_left().await;
    });
}

#[test]
fn restart_policies() {
    on_a_node(async |lab, cluster, _| {
        for (name, policy, script, phase, code) in [
            ("good", "Never", "exit 0", "Succeeded", 0),
            (
                "bad",
                "Never",
                "echo why > /dev/termination-log; exit 7",
                "Failed",
                7,
            ),
            ("fine", "OnFailure", "exit 0", "Succeeded", 0),
        ] {
            let mut spec = app(script);
            spec["restartPolicy"] = json!(policy);
            cluster.create(name, spec).await;
            let pod = cluster.phase(name, phase).await;
            assert_eq!(state(&pod)["terminated"]["exitCode"], code, "{name}");
            let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
            assert_eq!(*restarts, 0, "{name}");
        }
        let bad = cluster.get("bad").await.unwrap();
        assert_eq!(state(&bad)["terminated"]["message"], "why\n");
        // Their logs and states stay until they are deleted.
        assert!(!crate::lab::entries(&lab.path("logs")).is_empty());
        for name in ["good", "bad", "fine"] {
            cluster.delete(name).await;
            cluster.gone(name).await;
        }
        lab.assert_nothing_left().await;
    });
}

#[test]
fn a_killed_process_is_restarted_and_told() {
    on_a_node(async |lab, cluster, agent| {
        cluster.create("victim", app("exec sleep 3600")).await;
        cluster.ready("victim").await;
        let sandboxes = agent.runtime.list().await;
        let pid = sandboxes[0].containers[0].pid.unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        let pod = cluster
            .wait("victim", "a restart", |pod| {
                let status = &pod["status"]["containerStatuses"][0];
                status["restartCount"] == 1 && status["ready"] == true
            })
            .await;
        let last = &pod["status"]["containerStatuses"][0]["lastState"]["terminated"];
        assert_eq!(
            (&last["exitCode"], &last["reason"]),
            (&json!(137), &json!("Error"))
        );
        cluster.delete("victim").await;
        cluster.gone("victim").await;
        lab.assert_nothing_left().await;
    });
}

#[test]
fn a_lost_sandbox_is_made_anew() {
    on_a_node(async |lab, cluster, agent| {
        cluster.create("lost", app(SLEEP)).await;
        let before = cluster.ready("lost").await;
        let sandboxes = agent.runtime.list().await;
        let shim = i32::try_from(sandboxes[0].shim_pid.unwrap()).unwrap();
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(shim),
            nix::sys::signal::Signal::SIGKILL,
        )
        .unwrap();
        let id = |pod: &Value| pod["status"]["containerStatuses"][0]["containerID"].clone();
        let pod = cluster
            .wait("lost", "another container", |pod| {
                let status = &pod["status"]["containerStatuses"][0];
                status["ready"] == true && id(pod) != id(&before)
            })
            .await;
        assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 1);
        let words = "SandboxChanged: Pod sandbox changed, it will be killed and re-created.";
        cluster.told("lost", words).await;
        cluster.delete("lost").await;
        cluster.gone("lost").await;
        lab.assert_nothing_left().await;
    });
}

#[test]
fn pods_wait_for_the_nodes_network_and_others_do_not() {
    let lab = crate::lab::Lab::enter();
    lab.block_on(async {
        let cluster = crate::cluster::Cluster::start().await;
        let agent = crate::agent::Agent::start_without_network(&lab, &cluster).await;
        let mut host = app(SLEEP);
        host["hostNetwork"] = json!(true);
        cluster.create("host", host).await;
        cluster.create("waits", app(SLEEP)).await;
        let pod = cluster.ready("host").await;
        assert_eq!(pod["status"]["podIP"], NODE_IP.to_string());
        cluster.told("waits", "NetworkNotReady: ").await;
        agent.network_ready.send_replace(true);
        cluster.ready("waits").await;
        for name in ["host", "waits"] {
            cluster.delete(name).await;
            cluster.gone(name).await;
        }
        lab.assert_nothing_left().await;
        agent.stop().await;
    });
}

#[test]
fn what_others_write_into_the_status_is_written_over() {
    on_a_node(async |lab, cluster, _| {
        cluster.create("mine", app(SLEEP)).await;
        cluster.ready("mine").await;
        // As the node lifecycle controller does while a node is away.
        let patch = json!({"status": {"conditions": [
            {"type": "Ready", "status": "False", "reason": "NodeNotReady"},
            {"type": "example.com/theirs", "status": "True"},
        ]}});
        let patch = kube::api::Patch::Strategic(&patch);
        cluster
            .pods()
            .patch_status("mine", &Default::default(), &patch)
            .await
            .unwrap();
        let pod = cluster.ready("mine").await;
        assert!(condition(&pod, "Ready")["reason"].is_null());
        assert_eq!(condition(&pod, "example.com/theirs")["status"], "True");
        cluster.delete("mine").await;
        cluster.gone("mine").await;
        lab.assert_nothing_left().await;
    });
}
