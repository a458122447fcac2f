//! The life of a pod: restarts, failures in Kubernetes' words, phases, init containers.

#[path = "pods/account.rs"]
mod account;
#[path = "pods/volumes.rs"]
mod volumes;

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use vetch_tests::registry::Registry;
use vetch_tests::{Cluster, Namespace, eventually};

const MINUTE: Duration = Duration::from_secs(60);

/// A pod of one busybox container.
fn pod(name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "app", "image": "vetch.local/echo:v1", "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-c", script],
            }],
        },
    })
}

fn waiting_reason(namespace: &Namespace<'_>, pod: &str, wanted: &str) -> Result<Value> {
    eventually(MINUTE, &format!("{pod} waits with {wanted}"), || {
        let state = namespace.field(pod, "/status/containerStatuses/0/state")?;
        if state["waiting"]["reason"] == wanted {
            return Ok(state["waiting"].clone());
        }
        bail!("state is {state}")
    })
}

#[test]
fn a_killed_process_is_restarted_and_told() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "killed")?;
    namespace.apply(&pod("victim", "exec sleep 3600").to_string())?;
    let running = "/status/containerStatuses/0/state/running/startedAt";
    eventually(MINUTE, "the pod runs", || {
        namespace.field("pod/victim", running)
    })?;

    let object = namespace.get(&["pod/victim"])?;
    let text = |pointer: &str| -> Result<String> {
        Ok(object
            .pointer(pointer)
            .and_then(Value::as_str)
            .context("field is missing")?
            .to_owned())
    };
    let node = cluster.node(&text("/spec/nodeName")?)?;
    let container = text("/status/containerStatuses/0/containerID")?;
    let container = container
        .split_once("://")
        .context("containerID has no scheme")?
        .1;
    node.kill_container(&text("/metadata/uid")?, container)?;

    namespace.wait_field(
        "pod/victim",
        "/status/containerStatuses/0/restartCount",
        &json!(1),
        MINUTE,
    )?;
    let described = namespace.kubectl(&["describe", "pod", "victim"])?.ok()?;
    for words in [
        "Last State:     Terminated",
        "Reason:       Error",
        "Exit Code:    137",
        "Restart Count:  1",
    ] {
        ensure!(
            described.contains(words),
            "describe has no {words:?}:\n{described}"
        );
    }
    Ok(())
}

#[test]
fn an_unknown_image_backs_off_in_the_registrys_words() -> Result<()> {
    let cluster = Cluster::shared()?;
    let registry = Registry::start(&cluster)?;
    let namespace = Namespace::create(&cluster, "image")?;
    let mut manifest = pod("missing", "true");
    manifest["spec"]["containers"][0]["image"] = json!(format!("{}/no/such:tag", registry.address));
    namespace.apply(&manifest.to_string())?;
    waiting_reason(&namespace, "pod/missing", "ErrImagePull")?;
    waiting_reason(&namespace, "pod/missing", "ImagePullBackOff")?;
    // Events are written beside the status, not before it.
    let events = eventually(MINUTE, "the events of a pull that failed", || {
        let events = namespace.kubectl(&["get", "events"])?.ok()?;
        for words in [
            "Failed to pull image",
            "Error: ErrImagePull",
            "Back-off pulling image",
        ] {
            ensure!(events.contains(words), "no event says {words:?}:\n{events}");
        }
        Ok(events)
    })?;
    ensure!(
        events.contains("not found") || events.contains("manifest unknown"),
        "the registry's words are missing:\n{events}"
    );
    Ok(())
}

#[test]
fn a_volume_beyond_its_limit_ends_the_pod() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "limit")?;
    let script = "head -c 3000000 /dev/zero >/scratch/file; exec sleep 3600";
    let mut manifest = pod("writes", script);
    manifest["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "scratch", "mountPath": "/scratch"}]);
    manifest["spec"]["volumes"] = json!([{"name": "scratch", "emptyDir": {"sizeLimit": "1Mi"}}]);
    namespace.apply(&manifest.to_string())?;
    namespace.wait_field("pod/writes", "/status/reason", &json!("Evicted"), MINUTE)?;
    let described = namespace.kubectl(&["describe", "pod", "writes"])?.ok()?;
    for words in [
        "Evicted",
        "Usage of EmptyDir volume \"scratch\" exceeds the limit \"1Mi\".",
        "Exit Code:    137",
    ] {
        ensure!(
            described.contains(words),
            "describe has no {words:?}:\n{described}"
        );
    }
    Ok(())
}

#[test]
fn an_image_comes_from_a_real_registry() -> Result<()> {
    let cluster = Cluster::shared()?;
    let registry = Registry::start(&cluster)?;
    let image = registry.push_echo("pulled")?;
    let namespace = Namespace::create(&cluster, "pull")?;
    let mut manifest = pod("pulled", "echo from $VERSION");
    manifest["spec"]["restartPolicy"] = json!("Never");
    manifest["spec"]["containers"][0]["image"] = json!(image);
    manifest["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
    namespace.apply(&manifest.to_string())?;
    namespace.wait_field("pod/pulled", "/status/phase", &json!("Succeeded"), MINUTE)?;
    let logs = namespace.kubectl(&["logs", "pulled"])?.ok()?;
    ensure!(logs == "from pulled\n", "logs: {logs:?}");
    let events = namespace.kubectl(&["get", "events"])?.ok()?;
    ensure!(
        events.contains("Successfully pulled image"),
        "events: {events}"
    );
    Ok(())
}

#[test]
fn a_crashing_container_backs_off_longer_each_time() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "crash")?;
    namespace.apply(&pod("crash", "echo attempt; exit 3").to_string())?;
    let first = waiting_reason(&namespace, "pod/crash", "CrashLoopBackOff")?;
    let message = first["message"].as_str().unwrap_or_default();
    ensure!(
        message.starts_with("back-off 10s restarting failed container=app pod=crash_"),
        "{message}"
    );
    eventually(2 * MINUTE, "the back-off doubles", || {
        let message = namespace.field(
            "pod/crash",
            "/status/containerStatuses/0/state/waiting/message",
        )?;
        if message
            .as_str()
            .is_some_and(|text| text.starts_with("back-off 20s"))
        {
            return Ok(());
        }
        bail!("message is {message}")
    })?;
    let last = namespace.field(
        "pod/crash",
        "/status/containerStatuses/0/lastState/terminated",
    )?;
    ensure!(
        last["exitCode"] == 3 && last["reason"] == "Error",
        "lastState: {last}"
    );
    let listed = namespace.kubectl(&["get", "pods"])?.ok()?;
    ensure!(
        listed.contains("CrashLoopBackOff") || listed.contains("Error"),
        "{listed}"
    );
    let previous = namespace.kubectl(&["logs", "--previous", "crash"])?.ok()?;
    ensure!(previous == "attempt\n", "previous log: {previous:?}");
    Ok(())
}

#[test]
fn no_room_stays_pending_and_says_why() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "room")?;
    let mut manifest = pod("huge", "true");
    manifest["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "1000"}});
    namespace.apply(&manifest.to_string())?;
    let count = cluster.nodes.len();
    eventually(MINUTE, "a FailedScheduling event", || {
        let events = namespace.kubectl(&["get", "events"])?.ok()?;
        let wanted = format!("0/{count} nodes are available: {count} Insufficient cpu.");
        if events.contains("FailedScheduling") && events.contains(&wanted) {
            return Ok(());
        }
        bail!("no {wanted:?} in\n{events}")
    })?;
    let phase = namespace.field("pod/huge", "/status/phase")?;
    ensure!(phase == "Pending", "phase is {phase}");
    let condition = namespace.field("pod/huge", "/status/conditions/0")?;
    ensure!(
        condition["type"] == "PodScheduled" && condition["reason"] == "Unschedulable",
        "condition: {condition}"
    );
    Ok(())
}

#[test]
fn a_failing_init_container_holds_the_app_back() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "init")?;
    let init = |script: &str| {
        json!([{
            "name": "prepare", "image": "vetch.local/echo:v1", "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", script],
        }])
    };
    let mut manifest = pod("held", "echo must not run");
    manifest["spec"]["initContainers"] = init("exit 1");
    namespace.apply(&manifest.to_string())?;
    eventually(MINUTE, "the init container crashes", || {
        let listed = namespace.kubectl(&["get", "pod", "held"])?.ok()?;
        if listed.contains("Init:CrashLoopBackOff") || listed.contains("Init:Error") {
            return Ok(());
        }
        bail!("{listed}")
    })?;
    let app = namespace.field("pod/held", "/status/containerStatuses/0/state")?;
    ensure!(
        app["waiting"]["reason"] == "PodInitializing",
        "app state: {app}"
    );

    let mut manifest = pod("ordered", "cat /shared/said");
    manifest["spec"]["restartPolicy"] = json!("Never");
    manifest["spec"]["volumes"] = json!([{"name": "shared", "emptyDir": {}}]);
    let mounts = json!([{"name": "shared", "mountPath": "/shared"}]);
    manifest["spec"]["containers"][0]["volumeMounts"] = mounts.clone();
    manifest["spec"]["initContainers"] = init("echo prepared > /shared/said");
    manifest["spec"]["initContainers"][0]["volumeMounts"] = mounts;
    namespace.apply(&manifest.to_string())?;
    namespace.wait_field("pod/ordered", "/status/phase", &json!("Succeeded"), MINUTE)?;
    ensure!(
        namespace.kubectl(&["logs", "ordered"])?.ok()? == "prepared\n",
        "the app ran before its init container"
    );
    Ok(())
}

#[test]
fn restart_policy_never_ends_in_succeeded_or_failed() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "phase")?;
    for (name, script, phase, code) in [
        ("good", "exit 0", "Succeeded", 0),
        ("bad", "exit 7", "Failed", 7),
    ] {
        let mut manifest = pod(name, script);
        manifest["spec"]["restartPolicy"] = json!("Never");
        namespace.apply(&manifest.to_string())?;
        let object = format!("pod/{name}");
        namespace.wait_field(&object, "/status/phase", &json!(phase), MINUTE)?;
        let ended = namespace.field(&object, "/status/containerStatuses/0/state/terminated")?;
        ensure!(ended["exitCode"] == code, "{name} ended with {ended}");
        ensure!(
            namespace.field(&object, "/status/containerStatuses/0/restartCount")? == 0,
            "{name} was restarted"
        );
    }
    Ok(())
}

#[test]
fn a_failing_liveness_probe_restarts_the_container() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "liveness")?;
    let mut manifest = pod(
        "live",
        "touch /tmp/alive; sleep 3; rm /tmp/alive; exec sleep 3600",
    );
    manifest["spec"]["containers"][0]["livenessProbe"] = json!({
        "exec": {"command": ["cat", "/tmp/alive"]}, "periodSeconds": 1, "failureThreshold": 2,
    });
    namespace.apply(&manifest.to_string())?;
    namespace.wait_field(
        "pod/live",
        "/status/containerStatuses/0/restartCount",
        &json!(1),
        MINUTE,
    )?;
    let events = namespace.kubectl(&["get", "events"])?.ok()?;
    for words in [
        "Liveness probe failed: cat:",
        "Container app failed liveness probe, will be restarted",
    ] {
        ensure!(events.contains(words), "no event says {words:?}:\n{events}");
    }
    Ok(())
}

#[test]
fn configuration_reaches_the_container() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "config")?;
    namespace
        .kubectl(&[
            "create",
            "configmap",
            "settings",
            "--from-literal=greeting=hello",
        ])?
        .ok()?;
    namespace
        .kubectl(&[
            "create",
            "secret",
            "generic",
            "hidden",
            "--from-literal=word=sesame",
        ])?
        .ok()?;
    let mut manifest = pod(
        "configured",
        "echo $GREETING $WORD $(cat /etc/settings/greeting) $(cat /etc/hidden/word) $POD_IP; \
         hostname; grep -c \"^$POD_IP[[:space:]]\" /etc/hosts; id -u; \
         ls /var/run/secrets/kubernetes.io/serviceaccount | tr '\\n' ' '",
    );
    manifest["spec"]["restartPolicy"] = json!("Never");
    manifest["spec"]["volumes"] = json!([
        {"name": "settings", "configMap": {"name": "settings"}},
        {"name": "hidden", "secret": {"secretName": "hidden"}},
    ]);
    let container = &mut manifest["spec"]["containers"][0];
    container["volumeMounts"] = json!([
        {"name": "settings", "mountPath": "/etc/settings"},
        {"name": "hidden", "mountPath": "/etc/hidden"},
    ]);
    container["securityContext"] = json!({"runAsUser": 1234});
    container["env"] = json!([
        {"name": "GREETING", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "greeting"}}},
        {"name": "WORD", "valueFrom": {"secretKeyRef": {"name": "hidden", "key": "word"}}},
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]);
    namespace.apply(&manifest.to_string())?;
    namespace.wait_field(
        "pod/configured",
        "/status/phase",
        &json!("Succeeded"),
        MINUTE,
    )?;
    let ip = namespace.field("pod/configured", "/status/podIP")?;
    let logs = namespace.kubectl(&["logs", "configured"])?.ok()?;
    let wanted = format!(
        "hello sesame hello sesame {}\nconfigured\n1\n1234\nca.crt namespace token ",
        ip.as_str().unwrap_or_default()
    );
    ensure!(logs == wanted, "logs {logs:?}, wanted {wanted:?}");
    Ok(())
}

#[test]
fn an_image_is_a_volume() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "image-volume")?;
    let of = |name: &str, image: Value| {
        let script = "cmp /echo /files/echo && ls /part/passwd; touch /files/new || echo refused";
        let mut manifest = pod(name, script);
        manifest["spec"]["restartPolicy"] = json!("Never");
        manifest["spec"]["volumes"] = json!([{"name": "files", "image": image}]);
        manifest["spec"]["containers"][0]["volumeMounts"] = json!([
            {"name": "files", "mountPath": "/files"},
            {"name": "files", "mountPath": "/part", "subPath": "etc"},
        ]);
        manifest.to_string()
    };
    namespace.apply(&of("reader", json!({"reference": "vetch.local/echo:v1"})))?;
    namespace.wait_field("pod/reader", "/status/phase", &json!("Succeeded"), MINUTE)?;
    let logs = namespace.kubectl(&["logs", "reader"])?.ok()?;
    for words in ["/part/passwd\n", "Read-only file system\n", "refused\n"] {
        ensure!(logs.contains(words), "no {words:?} in {logs:?}");
    }

    let never = json!({"reference": "vetch.local/none:v1", "pullPolicy": "Never"});
    namespace.apply(&of("waiter", never))?;
    let waiting = waiting_reason(&namespace, "pod/waiter", "ErrImageNeverPull")?;
    ensure!(
        waiting["message"]
            .to_string()
            .contains("vetch.local/none:v1"),
        "{waiting}"
    );
    Ok(())
}

/// A file of a node's manifest folder, which goes with the scenario.
struct Manifest(std::path::PathBuf);

impl Manifest {
    fn put(node: &vetch_tests::Node, name: &str, pod: &Value) -> Result<Manifest> {
        let folder = node.manifests.as_ref().context("a manifest folder")?;
        let (file, half) = (folder.join(name), folder.join(format!(".{name}")));
        std::fs::write(&half, pod.to_string())?;
        std::fs::rename(half, &file)?;
        Ok(Manifest(file))
    }
}

impl Drop for Manifest {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_static_pod_shows_in_kubectl() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "static")?;
    let node = &cluster.nodes[0];
    let mut manifest = pod("own", "echo here; exec sleep 3600");
    manifest["metadata"]["namespace"] = json!(namespace.name);
    let file = format!("{}.json", namespace.name);
    let manifest = Manifest::put(node, &file, &manifest)?;
    let name = format!("own-{}", node.name);
    let object = format!("pod/{name}");
    namespace.wait_field(&object, "/status/phase", &json!("Running"), MINUTE)?;
    let logs = eventually(MINUTE, "its log", || {
        namespace.kubectl(&["logs", &name])?.ok()
    })?;
    ensure!(logs == "here\n", "{logs:?}");
    let said = namespace
        .kubectl(&["exec", &name, "--", "hostname"])?
        .ok()?;
    ensure!(said.trim() == name, "{said:?}");
    let owner = namespace.field(&object, "/metadata/ownerReferences/0/name")?;
    ensure!(owner == node.name, "{owner}");

    // The pod is the node's: who deletes what is seen of it sees it again.
    let container = namespace.field(&object, "/status/containerStatuses/0/containerID")?;
    let uid = namespace.field(&object, "/metadata/uid")?;
    namespace
        .kubectl(&["delete", &object, "--wait=false"])?
        .ok()?;
    eventually(MINUTE, "another mirror", || {
        ensure!(
            namespace.field(&object, "/metadata/uid")? != uid,
            "the same"
        );
        let now = namespace.field(&object, "/status/containerStatuses/0/containerID")?;
        ensure!(now == container, "{now}, not {container}");
        Ok(())
    })?;

    drop(manifest);
    eventually(MINUTE, "it goes with its file", || {
        let listed = namespace.kubectl(&["get", "pods", "-o", "name"])?.ok()?;
        ensure!(listed.is_empty(), "{listed}");
        Ok(())
    })
}

/// A RuntimeClass, which goes with the scenario.
struct Class<'a>(&'a Cluster, String);

impl Drop for Class<'_> {
    fn drop(&mut self) {
        let _ = self.0.kubectl(&["delete", "runtimeclass", &self.1]);
    }
}

#[test]
fn a_runtime_class_is_one_the_node_has() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "class")?;
    let class = |name: &str, handler: &str| -> Result<Class<'_>> {
        let name = format!("{name}-{}", namespace.name);
        let object = json!({
            "apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name},
            "handler": handler, "overhead": {"podFixed": {"cpu": "10m"}},
        });
        namespace.apply(&object.to_string())?;
        Ok(Class(&cluster, name))
    };
    let (own, other) = (class("own", "vetch")?, class("other", "runsc")?);
    let listed = cluster
        .kubectl(&["get", "runtimeclass", &own.1, "--no-headers"])?
        .ok()?;
    ensure!(listed.contains(" vetch "), "{listed}");
    let with = |name: &str, class: &Class<'_>| {
        let mut manifest = pod(name, "true");
        manifest["spec"]["restartPolicy"] = json!("Never");
        manifest["spec"]["runtimeClassName"] = json!(class.1);
        manifest.to_string()
    };
    namespace.apply(&with("runs", &own))?;
    namespace.wait_field("pod/runs", "/status/phase", &json!("Succeeded"), MINUTE)?;
    let overhead = namespace.field("pod/runs", "/spec/overhead/cpu")?;
    ensure!(overhead == "10m", "{overhead}");
    namespace.apply(&with("waits", &other))?;
    eventually(MINUTE, "the handler is refused", || {
        let events = namespace.kubectl(&["get", "events"])?.ok()?;
        let words = "no runtime for \"runsc\" is configured";
        ensure!(events.contains(words), "no event says {words:?}:\n{events}");
        Ok(())
    })
}
