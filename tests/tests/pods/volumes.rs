//! Volume claims: bound, used, kept while they are used, made and unmade.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use vetch_tests::{Cluster, Namespace, Node, eventually};

use super::{MINUTE, pod};

/// Objects that no namespace takes with it, and a directory of a node's.
struct Leftovers<'a> {
    cluster: &'a Cluster,
    objects: Vec<String>,
    directory: Option<(&'a Node, String)>,
}

impl Drop for Leftovers<'_> {
    fn drop(&mut self) {
        for object in &self.objects {
            let args = ["delete", object, "--ignore-not-found", "--wait=false"];
            let _ = self.cluster.kubectl(&args);
        }
        if let Some((node, directory)) = &self.directory {
            let _ = node.run("rm", &["-rf", directory]);
        }
    }
}

fn class(name: &str, provisioner: &str) -> String {
    json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
        "provisioner": provisioner, "volumeBindingMode": "WaitForFirstConsumer",
    })
    .to_string()
}

fn claim_spec(class: &str) -> Value {
    json!({
        "accessModes": ["ReadWriteOnce"], "storageClassName": class,
        "resources": {"requests": {"storage": "1Mi"}},
    })
}

fn claim(class: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
        "spec": claim_spec(class),
    })
    .to_string()
}

/// A pod with the claim `data` at /data.
fn user(name: &str, script: &str) -> Value {
    let mut pod = pod(name, script);
    pod["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]);
    pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/data"}]);
    pod
}

fn shown(namespace: &Namespace<'_>, what: &[&str], words: &str) -> Result<()> {
    eventually(MINUTE, &format!("{what:?} say {words:?}"), || {
        let text = namespace.kubectl(what)?.ok()?;
        ensure!(text.contains(words), "no {words:?} in:\n{text}");
        Ok(())
    })
}

#[test]
fn a_local_volume_outlives_its_pods_and_its_claim_while_it_is_used() -> Result<()> {
    let cluster = Cluster::shared()?;
    let node = &cluster.nodes[0];
    let name = format!("local-{}", std::process::id());
    let directory = format!("/tmp/vetch-{name}");
    node.run("mkdir", &["-p", &directory])?;
    let _leftovers = Leftovers {
        cluster: &cluster,
        objects: vec![format!("pv/{name}"), format!("storageclass/{name}")],
        directory: Some((node, directory.clone())),
    };
    let namespace = Namespace::create(&cluster, "local")?;
    namespace.apply(&class(&name, "kubernetes.io/no-provisioner"))?;
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "storageClassName": name,
            "local": {"path": directory},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [node.name]},
            ]}]}},
        },
    });
    namespace.apply(&volume.to_string())?;
    namespace.apply(&claim(&name))?;
    let waits = "waiting for first consumer to be created before binding";
    shown(&namespace, &["get", "events"], waits)?;

    namespace.apply(&user("writer", "echo kept >/data/file; exec sleep 3600").to_string())?;
    namespace.wait_field("pod/writer", "/status/phase", &json!("Running"), MINUTE)?;
    let placed = namespace.field("pod/writer", "/spec/nodeName")?;
    ensure!(placed == node.name.as_str(), "the pod is on {placed}");
    shown(&namespace, &["get", "pvc", "data"], "Bound")?;
    let file = format!("{directory}/file");
    eventually(MINUTE, "the file on the node", || {
        let kept = node.run("cat", &[&file])?;
        ensure!(kept == "kept\n", "{kept:?}");
        Ok(())
    })?;
    namespace.kubectl(&["delete", "pod", "writer"])?.ok()?;

    namespace.apply(&user("reader", "cat /data/file; exec sleep 3600").to_string())?;
    shown(&namespace, &["logs", "reader"], "kept")?;
    let gone = ["delete", "pvc", "data", "--wait=false"];
    namespace.kubectl(&gone)?.ok()?;
    shown(&namespace, &["get", "pvc", "data"], "Terminating")?;
    namespace.apply(&user("late", "true").to_string())?;
    let refused = "persistentvolumeclaim \"data\" is being deleted";
    shown(&namespace, &["describe", "pod", "late"], refused)?;
    namespace.kubectl(&["get", "pvc", "data"])?.ok()?;
    namespace.kubectl(&["delete", "pod", "reader"])?.ok()?;
    shown(&namespace, &["get", "pv", &name], "Released")?;
    namespace.kubectl(&["get", "pvc", "data"])?.refused()?;
    ensure!(node.run("cat", &[&file])? == "kept\n", "Retain keeps");
    Ok(())
}

#[test]
fn directories_are_made_for_claims_where_their_pods_go() -> Result<()> {
    let cluster = Cluster::shared()?;
    let name = format!("made-{}", std::process::id());
    let _leftovers = Leftovers {
        cluster: &cluster,
        objects: vec![format!("storageclass/{name}")],
        directory: None,
    };
    let namespace = Namespace::create(&cluster, "made")?;
    namespace.apply(&class(&name, "kubernetes.io/host-path"))?;
    namespace.apply(&claim(&name))?;
    let mut manifest = user(
        "user",
        "echo 1 >/data/a; echo 2 >/scratch/b; exec sleep 3600",
    );
    let template = json!({"volumeClaimTemplate": {"spec": claim_spec(&name)}});
    let spec = &mut manifest["spec"];
    if let Some(volumes) = spec["volumes"].as_array_mut() {
        volumes.push(json!({"name": "scratch", "ephemeral": template}));
    }
    if let Some(mounts) = spec["containers"][0]["volumeMounts"].as_array_mut() {
        mounts.push(json!({"name": "scratch", "mountPath": "/scratch"}));
    }
    namespace.apply(&manifest.to_string())?;
    namespace.wait_field("pod/user", "/status/phase", &json!("Running"), MINUTE)?;

    let on = namespace.field("pod/user", "/spec/nodeName")?;
    let node = cluster.node(on.as_str().unwrap_or_default())?;
    let mut volumes = Vec::new();
    for (claim, file) in [("data", "a"), ("user-scratch", "b")] {
        let volume = namespace.field(&format!("pvc/{claim}"), "/spec/volumeName")?;
        let volume = volume.as_str().unwrap_or_default().to_owned();
        let path = namespace.field(&format!("pv/{volume}"), "/spec/hostPath/path")?;
        let path = path.as_str().unwrap_or_default().to_owned();
        eventually(MINUTE, "what the pod wrote", || {
            node.run("test", &["-s", &format!("{path}/{file}")])
        })?;
        volumes.push((volume, path));
    }
    // The pod's own claim goes with it, the other when it is deleted.
    namespace.kubectl(&["delete", "pod", "user"])?.ok()?;
    namespace.kubectl(&["delete", "pvc", "data"])?.ok()?;
    for (volume, path) in volumes {
        eventually(MINUTE, "the volume and its directory are gone", || {
            let left = namespace.kubectl(&["get", "pv", &volume])?;
            ensure!(!left.success, "{}", left.stdout);
            node.run("test", &["!", "-e", &path])
        })?;
    }
    Ok(())
}
