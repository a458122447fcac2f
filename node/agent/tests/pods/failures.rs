//! What goes wrong, in the kubelet's words.

use std::time::Duration;

use serde_json::{Value, json};

use crate::agent::{app, app_with, on_a_node, shell};
use crate::cluster::{Cluster, condition, state};

async fn waits(cluster: &Cluster, name: &str, reason: &str) -> String {
    let pod = cluster
        .wait(name, reason, |pod| {
            state(pod)["waiting"]["reason"] == reason
        })
        .await;
    let message = &state(&pod)["waiting"]["message"];
    message.as_str().unwrap_or_default().to_owned()
}

#[test]
fn images_that_cannot_be_had() {
    on_a_node(async |lab, cluster, _| {
        let with = |image: &str, policy: &str| {
            let mut spec = app("true");
            spec["containers"][0]["image"] = json!(image);
            spec["containers"][0]["imagePullPolicy"] = json!(policy);
            spec
        };
        // Nothing listens on port 1.
        let image = "127.0.0.1:1/no/such:tag";
        cluster.create("missing", with(image, "IfNotPresent")).await;
        cluster
            .create("never", with("no.such/image:1", "Never"))
            .await;
        cluster
            .create("name", with("Not A Name", "IfNotPresent"))
            .await;
        let words = waits(cluster, "missing", "ErrImagePull").await;
        assert!(words.contains("failed to pull and unpack image"), "{words}");
        let words = waits(cluster, "missing", "ImagePullBackOff").await;
        let begin = format!("Back-off pulling image \"{image}\": ErrImagePull: ");
        assert!(words.starts_with(&begin), "{words}");
        for event in [
            format!("Pulling: Pulling image \"{image}\""),
            format!("Failed: Failed to pull image \"{image}\": "),
            "Failed: Error: ErrImagePull".to_owned(),
            format!("BackOff: Back-off pulling image \"{image}\""),
            "Failed: Error: ImagePullBackOff".to_owned(),
        ] {
            cluster.told("missing", &event).await;
        }
        let words = waits(cluster, "never", "ErrImageNeverPull").await;
        let want = "Container image \"no.such/image:1\" is not present with pull policy of Never";
        assert_eq!(words, want);
        waits(cluster, "name", "InvalidImageName").await;
        cluster
            .told(
                "name",
                "InspectFailed: Failed to apply default image tag \"Not A Name\"",
            )
            .await;
        for name in ["missing", "never", "name"] {
            cluster.delete(name).await;
            cluster.gone(name).await;
        }
        lab.assert_nothing_left().await;
    });
}

#[test]
fn a_crash_loop_backs_off() {
    on_a_node(async |lab, cluster, _| {
        cluster.create("crash", app("echo attempt; exit 3")).await;
        let words = waits(cluster, "crash", "CrashLoopBackOff").await;
        let begin = "back-off 10s restarting failed container=app pod=crash_default(";
        assert!(words.starts_with(begin), "{words}");
        let pod = cluster.get("crash").await.unwrap();
        assert_eq!(pod["status"]["phase"], "Running");
        let status = &pod["status"]["containerStatuses"][0];
        assert_eq!(status["restartCount"], 1);
        assert_eq!(status["lastState"]["terminated"]["exitCode"], 3);
        assert_eq!(condition(&pod, "Ready")["reason"], "ContainersNotReady");
        cluster
            .told(
                "crash",
                "BackOff: Back-off restarting failed container app in pod crash_default(",
            )
            .await;
        // The logs of both runs are there.
        for attempt in [0, 1] {
            assert_eq!(crate::agent::log(lab, &pod, "app", attempt), "attempt");
        }
        cluster.delete("crash").await;
        cluster.gone("crash").await;
        lab.assert_nothing_left().await;
    });
}

#[test]
fn programs_that_do_not_start() {
    on_a_node(async |_, cluster, _| {
        let mut spec = app("");
        spec["containers"][0]["command"] = json!(["/no/such/program"]);
        spec["restartPolicy"] = json!("Never");
        cluster.create("norun", spec).await;
        let pod = cluster.phase("norun", "Failed").await;
        let ended = &state(&pod)["terminated"];
        assert_eq!(ended["reason"], "StartError");
        assert_eq!(ended["exitCode"], 128);
        cluster
            .told("norun", "Failed: Error: failed to start container: ")
            .await;

        let root = json!({"securityContext": {"runAsNonRoot": true}});
        cluster.create("root", app_with("true", root)).await;
        let words = waits(cluster, "root", "CreateContainerConfigError").await;
        let begin = "container has runAsNonRoot and image will run as root (pod: \"root_default(";
        assert!(words.starts_with(begin), "{words}");
    });
}

#[test]
fn a_failing_init_container_holds_the_app_back() {
    on_a_node(async |_, cluster, _| {
        let spec = |policy: &str| {
            json!({
                "restartPolicy": policy,
                "initContainers": [shell("prepare", "exit 1")],
                "containers": [shell("app", "echo must not run")],
            })
        };
        cluster.create("held", spec("Always")).await;
        let pod = cluster
            .wait("held", "a crashing init container", |pod| {
                let init = &pod["status"]["initContainerStatuses"][0];
                init["state"]["waiting"]["reason"] == "CrashLoopBackOff"
            })
            .await;
        assert_eq!(pod["status"]["phase"], "Pending");
        assert_eq!(state(&pod)["waiting"]["reason"], "PodInitializing");
        assert_eq!(
            condition(&pod, "Initialized")["message"],
            "containers with incomplete status: [prepare]"
        );
        cluster.create("failed", spec("Never")).await;
        let pod = cluster.phase("failed", "Failed").await;
        assert!(pod["status"]["containerStatuses"][0]["containerID"].is_null());
    });
}

#[test]
fn pods_the_node_does_not_take() {
    on_a_node(async |lab, cluster, _| {
        let huge = json!({"resources": {"requests": {"cpu": "1000"}}});
        let mut elsewhere = app("true");
        elsewhere["nodeSelector"] = json!({"zone": "b"});
        for (name, spec, reason, message) in [
            (
                "huge",
                app_with("true", huge),
                "OutOfcpu",
                "Pod was rejected: Node didn't have enough resource: cpu, requested: 1000000, used: 0, capacity: 4000",
            ),
            (
                "elsewhere",
                elsewhere,
                "NodeAffinity",
                "Pod was rejected: Predicate NodeAffinity failed",
            ),
        ] {
            cluster.create(name, spec).await;
            let pod = cluster.phase(name, "Failed").await;
            assert_eq!(pod["status"]["reason"], reason);
            assert_eq!(pod["status"]["message"], message);
            cluster.told(name, &format!("{reason}: ")).await;
            cluster.delete(name).await;
            cluster.gone(name).await;
        }
        lab.assert_nothing_left().await;
    });
}

#[test]
fn a_deadline_ends_the_pod() {
    on_a_node(async |lab, cluster, _| {
        let mut spec = app("exec sleep 3600");
        spec["activeDeadlineSeconds"] = json!(1);
        cluster.create("late", spec).await;
        let pod = cluster.phase("late", "Failed").await;
        assert_eq!(pod["status"]["reason"], "DeadlineExceeded");
        assert!(state(&pod)["terminated"].is_object(), "{pod:#}");
        cluster.told("late", "DeadlineExceeded: ").await;
        cluster.delete("late").await;
        cluster.gone("late").await;
        lab.assert_nothing_left().await;
    });
}

#[test]
fn what_is_not_supported_says_so() {
    on_a_node(async |lab, cluster, _| {
        let mut volume = app_with(
            "true",
            json!({"volumeMounts": [{"name": "data", "mountPath": "/data"}]}),
        );
        volume["volumes"] = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "x"}}]);
        cluster.create_runtime_class("gvisor", "runsc").await;
        let mut class = app("true");
        class["runtimeClassName"] = json!("gvisor");
        let armor = json!({"securityContext": {"appArmorProfile": {"type": "Localhost", "localhostProfile": "p"}}});
        let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
        let refusal = match enabled.is_ok_and(|text| text.starts_with('Y')) {
            true => "Failed: Error: apparmor profile not found p",
            false => "AppArmor: Cannot enforce AppArmor: AppArmor is not enabled on the host",
        };
        let ports = json!({"ports": [{"containerPort": 80, "hostPort": 81, "protocol": "SCTP"}]});
        for (name, spec, words) in [
            (
                "volume",
                volume,
                "FailedMount: MountVolume.SetUp failed for volume \"data\" : error processing PVC default/x: failed to fetch PVC from API server: persistentvolumeclaims \"x\" not found",
            ),
            (
                "class",
                class,
                "FailedCreatePodSandBox: Failed to create pod sandbox: no runtime for \"runsc\" is configured",
            ),
            ("armor", app_with("true", armor), refusal),
            (
                "ports",
                app_with("true", ports),
                "HostPortNotServed: hostPort 81/SCTP leads to port 80 of the container",
            ),
        ] {
            cluster.create(name, spec).await;
            cluster.told(name, words).await;
            cluster.delete(name).await;
            cluster.gone(name).await;
        }
        lab.assert_nothing_left().await;
    });
}

#[test]
fn seccomp_profiles_that_cannot_be_used() {
    on_a_node(async |lab, cluster, _| {
        std::fs::create_dir(lab.path("seccomp")).unwrap();
        std::fs::write(lab.path("seccomp/broken.json"), "{").unwrap();
        let profile = |fields: Value| json!({"securityContext": {"seccompProfile": fields}});
        let localhost =
            |name: &str| profile(json!({"type": "Localhost", "localhostProfile": name}));
        for (name, fields, reason, words) in [
            (
                "missing",
                localhost("no/such.json"),
                "CreateContainerError",
                "cannot load seccomp profile",
            ),
            (
                "broken",
                localhost("broken.json"),
                "CreateContainerError",
                "decoding seccomp profile failed",
            ),
        ] {
            cluster.create(name, app_with("true", fields)).await;
            let got = waits(cluster, name, reason).await;
            assert!(got.starts_with(words), "{got}, not {words}");
            cluster.delete(name).await;
            cluster.gone(name).await;
        }
        lab.assert_nothing_left().await;
    });
}

#[test]
fn hooks() {
    on_a_node(async |lab, cluster, _| {
        let hook = |script: &str| json!({"exec": {"command": ["sh", "-c", script]}});
        let good = json!({"lifecycle": {"postStart": hook("echo made > /tmp/made")}});
        cluster
            .create(
                "good",
                app_with(
                    "until test -e /tmp/made; do sleep 0.01; done; exec sleep 3600",
                    good,
                ),
            )
            .await;
        cluster.ready("good").await;
        let bad = json!({"lifecycle": {"postStart": hook("exit 3")}});
        cluster
            .create("bad", app_with("exec sleep 3600", bad))
            .await;
        waits(cluster, "bad", "CrashLoopBackOff").await;
        cluster
            .told("bad", "FailedPostStartHook: PostStartHook failed")
            .await;
        cluster.told("bad", "Killing: FailedPostStartHook").await;
        // It is not running while the hook is.
        let slow = json!({"lifecycle": {"postStart": hook("sleep 1")}});
        cluster
            .create("slow", app_with("exec sleep 3600", slow))
            .await;
        cluster.told("slow", "Started: ").await;
        let pod: Value = cluster.get("slow").await.unwrap();
        assert_eq!(state(&pod)["waiting"]["reason"], "ContainerCreating");
        cluster.ready("slow").await;
        for name in ["good", "bad", "slow"] {
            cluster.delete(name).await;
            cluster.gone(name).await;
        }
        tokio::time::timeout(Duration::from_secs(1), lab.assert_nothing_left())
            .await
            .unwrap();
    });
}
