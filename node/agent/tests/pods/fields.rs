//! Fields of pods and containers, by what a container finds.

mod volumes;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Service};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::agent::{Agent, app_with, log, on_a_node, shell};
use crate::cluster::{Cluster, condition, state};
use crate::lab::Lab;

/// A pod that runs once, with more fields of its own and of its container.
fn once(script: &str, pod: Value, container: Value) -> Value {
    let mut spec = app_with(script, container);
    spec["restartPolicy"] = json!("Never");
    for (key, value) in pod.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

/// What the pod's container says until it ends well.
async fn said(lab: &Lab, cluster: &Cluster, name: &str, spec: Value) -> String {
    cluster.create(name, spec).await;
    let pod = cluster.phase(name, "Succeeded").await;
    log(lab, &pod, "app", 0)
}

async fn clean(lab: &Lab, cluster: &Cluster, names: &[&str]) {
    for name in names {
        cluster.delete(name).await;
        cluster.gone(name).await;
    }
    lab.assert_nothing_left().await;
}

fn host_path(path: &Path) -> Value {
    json!([{"name": "v", "hostPath": {"path": path, "type": "Directory"}}])
}

#[test]
fn names_of_the_pod_and_of_others() {
    on_a_node(async |lab, cluster, _| {
        let fields = json!({
            "hostname": "host", "subdomain": "sub", "setHostnameAsFQDN": true,
            "hostAliases": [{"ip": "192.0.2.9", "hostnames": ["one.example", "two.example"]}],
            "securityContext": {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "80"}]},
        });
        let script = "hostname; grep two.example /etc/hosts | tr '\\t' ' '; \
                      cat /proc/sys/net/ipv4/ip_unprivileged_port_start";
        let spec = once(script, fields, json!({}));
        assert_eq!(
            said(lab, cluster, "named", spec).await,
            "host.sub.default.svc.cluster.local\n192.0.2.9 one.example two.example\n80"
        );
        let given = json!({"hostnameOverride": "given.example"});
        let spec = once("hostname; cat /etc/hostname", given, json!({}));
        assert_eq!(
            said(lab, cluster, "given", spec).await,
            "given.example\ngiven.example"
        );
        clean(lab, cluster, &["named", "given"]).await;
    });
}

#[test]
fn variables_of_services_where_they_are_wanted() {
    let lab = Lab::enter();
    lab.block_on(async {
        let cluster = Cluster::start().await;
        let service = json!({
            "metadata": {"name": "echo"},
            "spec": {"clusterIP": "10.96.0.77", "clusterIPs": ["10.96.0.77"], "ports": [{"port": 80}]},
        });
        create::<Service>(&Api::namespaced(cluster.client.clone(), "default"), service).await;
        let agent = Agent::start(&lab, &cluster).await;
        for (name, fields, want) in [
            ("linked", json!({}), "10.96.0.77"),
            ("alone", json!({"enableServiceLinks": false}), "none"),
        ] {
            let spec = once("echo ${ECHO_SERVICE_HOST-none}", fields, json!({}));
            assert_eq!(said(&lab, &cluster, name, spec).await, want, "{name}");
        }
        clean(&lab, &cluster, &["linked", "alone"]).await;
        agent.stop().await;
    });
}

#[test]
fn namespaces_that_are_shared_and_those_that_are_not() {
    on_a_node(async |lab, cluster, _| {
        let script = "for kind in pid ipc net; do readlink /proc/self/ns/$kind; done";
        let all = json!({"hostPID": true, "hostIPC": true, "hostNetwork": true});
        let own = |kind: &str| {
            let link = fs::read_link(format!("/proc/thread-self/ns/{kind}")).unwrap();
            link.display().to_string()
        };
        let ours = ["pid", "ipc", "net"].map(own);
        let shared = said(lab, cluster, "shared", once(script, all, json!({}))).await;
        assert_eq!(shared.lines().collect::<Vec<_>>(), ours);
        let apart = said(lab, cluster, "apart", once(script, json!({}), json!({}))).await;
        assert!(
            apart.lines().zip(&ours).all(|(own, ours)| own != ours),
            "{apart}"
        );

        // Containers that see each other's processes.
        let seen = "until ps | grep -q '[s]leep 4321'; do sleep 0.05; done; echo $$";
        let mut both = once(seen, json!({"shareProcessNamespace": true}), json!({}));
        let other = shell("other", "exec timeout 20 sleep 4321");
        both["containers"].as_array_mut().unwrap().push(other);
        cluster.create("together", both).await;
        let pod = cluster
            .wait("together", "app sees the other", |pod| {
                let all = pod["status"]["containerStatuses"].as_array();
                let mut all = all.into_iter().flatten();
                all.any(|own| own["name"] == "app" && own["state"]["terminated"]["exitCode"] == 0)
            })
            .await;
        assert_ne!(log(lab, &pod, "app", 0), "1", "not the first process");
        clean(lab, cluster, &["shared", "apart", "together"]).await;
    });
}

#[test]
fn words_that_a_container_ends_with() {
    on_a_node(async |lab, cluster, _| {
        for (name, script, fields, want) in [
            (
                "path",
                "echo why >/tmp/why; exit 3",
                json!({"terminationMessagePath": "/tmp/why"}),
                "why\n",
            ),
            (
                "logs",
                "echo first; echo last; exit 3",
                json!({"terminationMessagePolicy": "FallbackToLogsOnError"}),
                "first\nlast\n",
            ),
            (
                "both",
                "echo log; echo said >/dev/termination-log; exit 3",
                json!({"terminationMessagePolicy": "FallbackToLogsOnError"}),
                "said\n",
            ),
        ] {
            cluster.create(name, once(script, json!({}), fields)).await;
            let pod = cluster.phase(name, "Failed").await;
            assert_eq!(state(&pod)["terminated"]["message"], want, "{name}");
        }
        clean(lab, cluster, &["path", "logs", "both"]).await;
    });
}

#[test]
fn numbers_of_resources_in_the_divisors_asked_for() {
    on_a_node(async |lab, cluster, _| {
        let of = |name: &str, resource: &str, divisor: &str| {
            let reference = json!({"resource": resource, "divisor": divisor});
            json!({"name": name, "valueFrom": {"resourceFieldRef": reference}})
        };
        let fields = json!({
            "resources": {"requests": {"cpu": "250m"}, "limits": {"memory": "64Mi"}},
            "env": [
                of("MIB", "limits.memory", "1Mi"), of("BYTES", "limits.memory", "0"),
                of("MILLI", "requests.cpu", "1m"), of("WHOLE", "requests.cpu", "1"),
                // The node's, where the container has none.
                of("CPUS", "limits.cpu", "1"),
                {"name": "TWICE", "value": "$(MIB)-$(MIB)-$$(MIB)"},
            ],
            "command": ["sh", "-c"], "workingDir": "/tmp",
            "args": ["echo $MIB $BYTES $MILLI $WHOLE $CPUS $TWICE; pwd"],
        });
        let spec = once("", json!({}), fields);
        assert_eq!(
            said(lab, cluster, "numbers", spec).await,
            "64 67108864 250 1 4 64-64-$(MIB)\n/tmp"
        );
        clean(lab, cluster, &["numbers"]).await;
    });
}

#[test]
fn groups_of_the_image_and_only_given_ones() {
    on_a_node(async |lab, cluster, _| {
        let accounts = json!({
            "passwd": "own:x:1000:1000::/:/bin/sh\n", "group": "own:x:1000:\nmore:x:4000:own\n",
        });
        cluster.put_config_map("accounts", accounts).await;
        let file =
            |name: &str| json!({"name": "v", "mountPath": format!("/etc/{name}"), "subPath": name});
        let with = |policy: &str| {
            once(
                "id -G",
                json!({
                    "volumes": [{"name": "v", "configMap": {"name": "accounts"}}],
                    "securityContext": {
                        "runAsUser": 1000, "supplementalGroups": [5000], "supplementalGroupsPolicy": policy,
                    },
                }),
                json!({"volumeMounts": [file("passwd"), file("group")]}),
            )
        };
        let sorted = |said: String| {
            let mut groups: Vec<u32> = said.split(' ').map(|id| id.parse().unwrap()).collect();
            groups.sort_unstable();
            groups
        };
        let merged = said(lab, cluster, "merged", with("Merge")).await;
        assert_eq!(sorted(merged), [1000, 4000, 5000]);
        let strict = said(lab, cluster, "strict", with("Strict")).await;
        assert_eq!(sorted(strict), [1000, 5000]);
        clean(lab, cluster, &["merged", "strict"]).await;
    });
}

#[test]
fn what_is_hidden_of_proc() {
    on_a_node(async |lab, cluster, agent| {
        let script = "test -c /proc/interrupts && echo hidden || echo shown";
        let spec = once(script, json!({}), json!({}));
        assert_eq!(said(lab, cluster, "usual", spec).await, "hidden");
        let unmasked = json!({"securityContext": {"procMount": "Unmasked"}});
        let own = json!({"hostUsers": false});
        match agent.runtime.user_namespace_problem() {
            None => {
                let spec = once(script, own, unmasked);
                assert_eq!(said(lab, cluster, "unmasked", spec).await, "shown");
                clean(lab, cluster, &["usual", "unmasked"]).await;
            }
            // A kernel before 6.3: the pod is told.
            Some(_) => {
                cluster
                    .create("unmasked", once(script, own, unmasked))
                    .await;
                cluster.told("unmasked", "FailedCreatePodSandBox").await;
                clean(lab, cluster, &["usual", "unmasked"]).await;
            }
        }
    });
}

#[test]
fn what_kernels_without_selinux_are_asked_changes_nothing() {
    on_a_node(async |lab, cluster, _| {
        let options = json!({"level": "s0:c1,c2"});
        let context =
            json!({"seLinuxOptions": options, "seLinuxChangePolicy": "Recursive", "fsGroup": 2000});
        let script = "echo x >/v/file; stat -c %g /v/file";
        let spec = once(
            script,
            json!({"securityContext": context, "volumes": [{"name": "v", "emptyDir": {}}]}),
            json!({
                "securityContext": {"seLinuxOptions": options},
                "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            }),
        );
        assert!(!Path::new("/sys/fs/selinux/enforce").exists());
        assert_eq!(said(lab, cluster, "labelled", spec).await, "2000");
        clean(lab, cluster, &["labelled"]).await;
    });
}

#[test]
fn what_is_not_here_is_refused_in_words() {
    on_a_node(async |lab, cluster, _| {
        let projected = |source: Value| {
            let volume = json!({"name": "v", "projected": {"sources": [source]}});
            once(
                "true",
                json!({"volumes": [volume]}),
                json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}),
            )
        };
        let bundle = json!({"clusterTrustBundle": {"name": "ca", "path": "ca.pem"}});
        cluster.create("bundle", projected(bundle)).await;
        let certificate = json!({"podCertificate": {
            "signerName": "example.com/own", "keyType": "ED25519", "credentialBundlePath": "own.pem",
        }});
        cluster.create("certificate", projected(certificate)).await;
        for (name, source) in [
            ("bundle", "clusterTrustBundle"),
            ("certificate", "podCertificate"),
        ] {
            let words = format!(
                "FailedMount: MountVolume.SetUp failed for volume \"v\" : projected {source} volumes are not supported by this node"
            );
            cluster.told(name, &words).await;
        }
        for (name, source) in [
            ("nfs", json!({"server": "192.0.2.1", "path": "/"})),
            ("csi", json!({"driver": "csi.example.com"})),
        ] {
            let mut spec = projected(Value::Null);
            spec["volumes"] = json!([{"name": "v", name: source}]);
            cluster.create(name, spec).await;
            let words = format!(
                "FailedMount: MountVolume.SetUp failed for volume \"v\" : {name} volumes are not supported by this node"
            );
            cluster.told(name, &words).await;
        }
        let claims = json!({"resourceClaims": [{"name": "gpu", "resourceClaimName": "mine"}]});
        cluster
            .create("claims", once("true", claims, json!({})))
            .await;
        let words = "FailedCreatePodSandBox: Failed to create pod sandbox: resourceClaims are not supported by this node";
        cluster.told("claims", words).await;
        let all = ["bundle", "certificate", "nfs", "csi", "claims"];
        clean(lab, cluster, &all).await;
    });
}

#[test]
fn a_gate_holds_back_readiness() {
    on_a_node(async |lab, cluster, _| {
        let mut spec = app_with("exec sleep 3600", json!({}));
        spec["readinessGates"] = json!([{"conditionType": "example.com/gate"}]);
        cluster.create("gated", spec).await;
        let held = |pod: &Value| {
            condition(pod, "ContainersReady")["status"] == "True"
                && condition(pod, "Ready")["reason"] == "ReadinessGatesNotReady"
        };
        cluster.wait("gated", "the gate", held).await;
        let patch =
            json!({"status": {"conditions": [{"type": "example.com/gate", "status": "True"}]}});
        cluster
            .pods()
            .patch_status("gated", &PatchParams::default(), &Patch::Strategic(&patch))
            .await
            .unwrap();
        cluster.ready("gated").await;
        clean(lab, cluster, &["gated"]).await;
    });
}

#[test]
fn a_probe_has_a_grace_of_its_own_and_a_hook_its_sleep() {
    on_a_node(async |lab, cluster, _| {
        let probe = json!({"livenessProbe": {
            "exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1,
            "terminationGracePeriodSeconds": 1,
        }});
        let mut deaf = app_with("trap '' TERM; while :; do sleep 0.1; done", probe);
        deaf["terminationGracePeriodSeconds"] = json!(300);
        cluster.create("deaf", deaf).await;
        let restarted = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"] == 1;
        cluster.wait("deaf", "a restart", restarted).await;
        let params = kube::api::DeleteParams::default().grace_period(1);
        cluster.pods().delete("deaf", &params).await.unwrap();
        cluster.gone("deaf").await;

        let hook = json!({"lifecycle": {"preStop": {"sleep": {"seconds": 2}}}});
        let mut slow = app_with("exec sleep 3600", hook);
        slow["terminationGracePeriodSeconds"] = json!(3);
        cluster.create("slow", slow).await;
        cluster.ready("slow").await;
        let began = Instant::now();
        clean(lab, cluster, &["slow"]).await;
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(2), "{took:?}");
    });
}

#[test]
fn a_container_is_stopped_by_the_signal_it_names() {
    on_a_node(async |lab, cluster, _| {
        let script = "trap 'echo used >/diary/log; exit 0' USR1; trap 'echo term >/diary/log; exit 0' TERM; \
                      echo up >/diary/up; while :; do sleep 0.05; done";
        fs::create_dir(lab.path("diary")).unwrap();
        let mut spec = app_with(
            script,
            json!({
                "lifecycle": {"stopSignal": "SIGUSR1"},
                "volumeMounts": [{"name": "v", "mountPath": "/diary"}],
            }),
        );
        spec["os"] = json!({"name": "linux"});
        spec["volumes"] = host_path(&lab.path("diary"));
        spec["terminationGracePeriodSeconds"] = json!(20);
        cluster.create("stopped", spec).await;
        let up = |_: &Value| lab.path("diary/up").exists();
        cluster.wait("stopped", "its traps", up).await;
        clean(lab, cluster, &["stopped"]).await;
        let word = fs::read_to_string(lab.path("diary/log")).unwrap();
        assert_eq!(word, "used\n");
    });
}

async fn create<K>(api: &Api<K>, object: Value)
where
    K: kube::Resource + Clone + DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    let object: K = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
}

/// A local volume and its claim, bound as by the controller.
async fn claim(cluster: &Cluster, name: &str, path: &Path) {
    let client = cluster.client.clone();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), "default");
    let spec = json!({
        "accessModes": ["ReadWriteOnce"], "volumeName": name, "storageClassName": "",
        "resources": {"requests": {"storage": "1Mi"}},
    });
    create(&claims, json!({"metadata": {"name": name}, "spec": spec})).await;
    let uid = claims.get(name).await.unwrap().metadata.uid.unwrap();
    let volumes: Api<PersistentVolume> = Api::all(client);
    let node = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": ["node-1"]});
    let spec = json!({
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Mi"}, "local": {"path": path},
        "claimRef": {"namespace": "default", "name": name, "uid": uid},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [node]}]}},
    });
    create(&volumes, json!({"metadata": {"name": name}, "spec": spec})).await;
    let bound = json!({"status": {"phase": "Bound"}});
    claims
        .patch_status(name, &PatchParams::default(), &Patch::Merge(&bound))
        .await
        .unwrap();
}

#[test]
fn a_volume_is_given_to_its_group_as_often_as_was_asked() {
    on_a_node(async |lab, cluster, _| {
        for (name, policy, want) in [
            ("mismatch", "OnRootMismatch", 0),
            ("always", "Always", 2000),
        ] {
            let directory = lab.path(name);
            fs::create_dir(&directory).unwrap();
            fs::write(directory.join("file"), "").unwrap();
            // As if it had been given before, and one file came later.
            chown(&directory, None, Some(2000)).unwrap();
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o2770)).unwrap();
            claim(cluster, name, &directory).await;
            let spec = once(
                "stat -c %g /v/file",
                json!({
                    "securityContext": {"fsGroup": 2000, "fsGroupChangePolicy": policy},
                    "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": name}}],
                }),
                json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}),
            );
            let group = said(lab, cluster, name, spec).await;
            assert_eq!(group, want.to_string(), "{policy}");
            let kept = fs::metadata(directory.join("file")).unwrap().gid();
            assert_eq!(kept, want, "{policy}");
        }
        clean(lab, cluster, &["mismatch", "always"]).await;
    });
}
