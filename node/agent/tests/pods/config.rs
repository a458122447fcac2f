//! Configuration and volumes reach containers, and follow their objects.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::agent::{app, app_with, log, on_a_node};
use crate::cluster::state;

fn volume_pod(script: &str, volumes: &[(&str, Value)], fields: Value) -> Value {
    let mounts: Vec<Value> = volumes
        .iter()
        .map(|(name, _)| json!({"name": name, "mountPath": format!("/{name}")}))
        .collect();
    let list: Vec<Value> = volumes
        .iter()
        .map(|(name, source)| {
            let mut volume = source.clone();
            volume["name"] = json!(name);
            volume
        })
        .collect();
    let mut spec = app_with(script, json!({"volumeMounts": mounts}));
    spec["volumes"] = json!(list);
    for (key, value) in fields.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

#[test]
fn every_kind_of_volume_and_variable() {
    on_a_node(async |lab, cluster, _| {
        cluster
            .put_config_map("settings", json!({"greeting": "hello"}))
            .await;
        cluster
            .create_secret("hidden", json!({"word": "sesame"}))
            .await;
        std::fs::create_dir(lab.path("host")).unwrap();
        std::fs::write(lab.path("host/file"), "from the host\n").unwrap();
        let script = "echo $GREETING $WORD $ALL_greeting; cat /cfg/greeting; echo; cat /sec/word; echo;
            cat /down/labels; echo; cat /all/token; echo; cat /all/ns; echo; cat /host/file;
            echo x > /scratch/x && cat /scratch/x; df -T /mem /sec | awk 'NR>1 {print $2}';
            stat -c '%a %g' -L /cfg/greeting /all/token; touch /cfg/new 2>&1 | grep -o 'Read-only.*'; cat /part; echo; id -G";
        let mut spec = volume_pod(
            script,
            &[
                ("cfg", json!({"configMap": {"name": "settings"}})),
                (
                    "sec",
                    json!({"secret": {"secretName": "hidden", "defaultMode": 0o400}}),
                ),
                (
                    "down",
                    json!({"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}),
                ),
                (
                    "all",
                    json!({"projected": {"sources": [
                        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                        {"downwardAPI": {"items": [{"path": "ns", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
                    ]}}),
                ),
                ("scratch", json!({"emptyDir": {}})),
                (
                    "mem",
                    json!({"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}),
                ),
                (
                    "host",
                    json!({"hostPath": {"path": lab.path("host"), "type": "Directory"}}),
                ),
            ],
            json!({"restartPolicy": "Never", "securityContext": {"fsGroup": 2000, "supplementalGroups": [3000]}}),
        );
        let container = &mut spec["containers"][0];
        let mounts = container["volumeMounts"].as_array_mut().unwrap();
        mounts.push(json!({"name": "cfg", "mountPath": "/part", "subPath": "greeting"}));
        container["env"] = json!([
            {"name": "GREETING", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "greeting"}}},
            {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "word"}}},
        ]);
        container["envFrom"] = json!([{"prefix": "ALL_", "configMapRef": {"name": "settings"}}]);
        let metadata = json!({"name": "configured", "labels": {"app": "web"}});
        cluster.create_with(metadata, spec).await;
        let pod = cluster.phase("configured", "Succeeded").await;
        assert_eq!(
            log(lab, &pod, "app", 0),
            "hello sesame hello\nhello\nsesame\napp=\"web\"\ntoken-1-for-configured\ndefault\nfrom the host\n\
             x\ntmpfs\ntmpfs\n644 2000\n640 2000\nRead-only file system\nhello\n0 2000 3000"
        );
        cluster.delete("configured").await;
        cluster.gone("configured").await;
        lab.assert_nothing_left().await;
        assert!(lab.path("host/file").exists(), "the host's own files");
    });
}

#[test]
fn variables_that_an_init_container_wrote() {
    on_a_node(async |lab, cluster, _| {
        let from = |key: &str, optional: bool| {
            let reference =
                json!({"volumeName": "made", "path": "made.env", "key": key, "optional": optional});
            json!({"name": key, "valueFrom": {"fileKeyRef": reference}})
        };
        let with = |env: Value| {
            let mut spec = app_with("echo \"$GREETING, ${MISSING-nobody}\"", json!({"env": env}));
            let mut init = app_with(
                "echo \"GREETING='hello' # to all\" >/made/made.env",
                json!({}),
            )["containers"][0]
                .clone();
            init["name"] = json!("init");
            init["volumeMounts"] = json!([{"name": "made", "mountPath": "/made"}]);
            spec["initContainers"] = json!([init]);
            spec["volumes"] = json!([{"name": "made", "emptyDir": {}}]);
            spec["restartPolicy"] = json!("Never");
            spec
        };
        let good = with(json!([from("GREETING", false), from("MISSING", true)]));
        cluster.create("greets", good).await;
        let pod = cluster.phase("greets", "Succeeded").await;
        assert_eq!(log(lab, &pod, "app", 0), "hello, nobody");
        cluster
            .create("refused", with(json!([from("MISSING", false)])))
            .await;
        let pod = cluster
            .wait("refused", "an error", |pod| {
                state(pod)["waiting"]["reason"] == "CreateContainerConfigError"
            })
            .await;
        let words = state(&pod)["waiting"]["message"]
            .as_str()
            .unwrap()
            .to_owned();
        let begin = "environment variable key \"MISSING\" not found in file \"";
        assert!(
            words.starts_with(begin) && words.ends_with("/made.env\""),
            "{words}"
        );
        for name in ["greets", "refused"] {
            cluster.delete(name).await;
            cluster.gone(name).await;
        }
        lab.assert_nothing_left().await;
    });
}

#[test]
fn volumes_follow_their_objects() {
    on_a_node(async |lab, cluster, _| {
        // Due at once: a token is renewed after four fifths, less up to ten seconds.
        cluster.tokens.life.store(20, Ordering::Relaxed);
        cluster
            .put_config_map("settings", json!({"a": "one"}))
            .await;
        let script = "last=; while :; do now=\"$(cat /cfg/a) $(ls /cfg | tr '\\n' ' ')$(cat /down/note) $(cat /all/token)\";
            test \"$now\" = \"$last\" || echo \"$now\"; last=$now; sleep 0.02; done";
        let note =
            json!({"path": "note", "fieldRef": {"fieldPath": "metadata.annotations['note']"}});
        let spec = volume_pod(
            script,
            &[
                ("cfg", json!({"configMap": {"name": "settings"}})),
                ("down", json!({"downwardAPI": {"items": [note]}})),
                (
                    "all",
                    json!({"projected": {"sources": [{"serviceAccountToken": {"path": "token", "expirationSeconds": 600}}]}}),
                ),
            ],
            json!({}),
        );
        cluster.create("follows", spec).await;
        let says = async |words: &str| {
            let wanted = |pod: &Value| log(lab, pod, "app", 0).contains(words);
            cluster.wait("follows", words, wanted).await
        };
        says("one a  token-1-for-follows").await;
        cluster
            .put_config_map("settings", json!({"a": "two", "b": "new"}))
            .await;
        says("two a b ").await;
        let patch = json!({"metadata": {"annotations": {"note": "noted"}}});
        cluster
            .pods()
            .patch(
                "follows",
                &Default::default(),
                &kube::api::Patch::Merge(&patch),
            )
            .await
            .unwrap();
        says("noted ").await;
        says("token-2-for-follows").await;
        cluster.delete("follows").await;
        cluster.gone("follows").await;
        lab.assert_nothing_left().await;
    });
}

#[test]
fn objects_that_come_late() {
    on_a_node(async |lab, cluster, _| {
        let from_late = json!({"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "late", "key": "a"}}}]});
        cluster
            .create("env", app_with("test $A = 1 && exec sleep 3600", from_late))
            .await;
        let mounted = volume_pod(
            "exec sleep 3600",
            &[("cfg", json!({"configMap": {"name": "late"}}))],
            json!({}),
        );
        cluster.create("volume", mounted).await;
        let optional = volume_pod(
            "exec sleep 3600",
            &[(
                "cfg",
                json!({"configMap": {"name": "late", "optional": true}}),
            )],
            json!({}),
        );
        cluster.create("optional", optional).await;
        let pod = cluster
            .wait("env", "an error", |pod| {
                state(pod)["waiting"]["reason"] == "CreateContainerConfigError"
            })
            .await;
        assert_eq!(
            state(&pod)["waiting"]["message"],
            "configmap \"late\" not found"
        );
        cluster
            .told("volume", "FailedMount: MountVolume.SetUp failed for volume \"cfg\" : configmap \"late\" not found")
            .await;
        cluster.ready("optional").await;
        let began = std::time::Instant::now();
        cluster.put_config_map("late", json!({"a": "1"})).await;
        cluster.ready("env").await;
        cluster.ready("volume").await;
        // Woken by the object, not by a timer of ten seconds.
        assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
        for name in ["env", "volume", "optional"] {
            cluster.delete(name).await;
            cluster.gone(name).await;
        }
        lab.assert_nothing_left().await;
    });
}

#[test]
fn who_a_container_runs_as() {
    on_a_node(async |lab, cluster, _| {
        let context = json!({"securityContext": {
            "runAsUser": 1234, "runAsGroup": 77, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
        }});
        let script = "id -u; id -g; touch /x 2>&1; grep -E 'NoNewPrivs|CapEff' /proc/self/status | tr '\\t\\n' '  '; echo; cat /proc/self/oom_score_adj";
        let mut spec = app_with(script, context);
        spec["restartPolicy"] = json!("Never");
        cluster.create("user", spec).await;
        let pod = cluster.phase("user", "Succeeded").await;
        assert_eq!(
            log(lab, &pod, "app", 0),
            "1234\n77\ntouch: /x: Read-only file system\nCapEff: 0000000000000000 NoNewPrivs: 1 \n1000"
        );
        let mut shared = app("exec sleep 3600");
        shared["shareProcessNamespace"] = json!(true);
        cluster.create("shared", shared).await;
        cluster.ready("shared").await;
        for name in ["user", "shared"] {
            cluster.delete(name).await;
            cluster.gone(name).await;
        }
        lab.assert_nothing_left().await;
    });
}
