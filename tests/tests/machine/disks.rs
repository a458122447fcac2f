//! Volumes on block devices of a machine's own: loop devices, made for the test.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use vetch_tests::{Cluster, Namespace, Node, eventually};

use super::{MINUTE, output, pod};

/// A block device of a node's, until the test is over.
struct Disk<'a> {
    node: &'a Node,
    device: String,
    file: String,
}

impl<'a> Disk<'a> {
    fn make(node: &'a Node, name: &str) -> Result<Disk<'a>> {
        let file = format!("/var/lib/{name}.img");
        let script =
            format!("modprobe loop && truncate -s 64M {file} && losetup --find --show {file}");
        let device = node.run("sh", &["-c", &script])?.trim().to_owned();
        Ok(Disk { node, device, file })
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        let script = format!("losetup --detach {}; rm -f {}", self.device, self.file);
        if let Err(error) = self.node.run("sh", &["-c", &script]) {
            eprintln!("{} stays: {error:#}", self.device);
        }
    }
}

/// Volumes, which no namespace takes with it.
struct Volumes<'a> {
    cluster: &'a Cluster,
    names: Vec<String>,
}

impl Drop for Volumes<'_> {
    fn drop(&mut self) {
        for name in &self.names {
            let args = ["delete", "pv", name, "--ignore-not-found", "--wait=false"];
            let _ = self.cluster.kubectl(&args);
        }
    }
}

impl Volumes<'_> {
    /// A volume of the disk and its claim, by the same name.
    fn claim(
        &mut self,
        namespace: &Namespace<'_>,
        disk: &Disk<'_>,
        name: &str,
        more: Value,
    ) -> Result<()> {
        let mut spec = json!({
            "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "64Mi"}, "storageClassName": "",
            "local": {"path": disk.device},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [disk.node.name]},
            ]}]}},
        });
        let local = more["fsType"].clone();
        if !local.is_null() {
            spec["local"]["fsType"] = local;
        }
        let mode = match more["volumeMode"].as_str() {
            Some(mode) => mode.to_owned(),
            None => "Filesystem".to_owned(),
        };
        spec["volumeMode"] = json!(mode);
        let volume = format!("{}-{name}", namespace.name);
        self.names.push(volume.clone());
        let object = json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume}, "spec": spec,
        });
        namespace.apply(&object.to_string())?;
        let claim = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name},
            "spec": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": volume,
                "volumeMode": mode, "resources": {"requests": {"storage": "64Mi"}},
            },
        });
        namespace.apply(&claim.to_string())?;
        let place = format!("pvc/{name}");
        namespace.wait_field(&place, "/status/phase", &json!("Bound"), MINUTE)
    }
}

fn claimed(name: &str, script: &str, claim: Value) -> Value {
    let mut manifest = pod(name, script);
    manifest["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": claim}]);
    manifest
}

/// The claim as a device at /dev/own.
fn with_device(name: &str, script: &str, claim: Value) -> Value {
    let mut manifest = claimed(name, script, claim);
    manifest["spec"]["containers"][0]["volumeDevices"] =
        json!([{"name": "v", "devicePath": "/dev/own"}]);
    manifest
}

/// The claim as a directory at /data.
fn with_directory(name: &str, script: &str, claim: Value) -> Value {
    let mut manifest = claimed(name, script, claim);
    manifest["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "v", "mountPath": "/data"}]);
    manifest
}

fn gone(namespace: &Namespace<'_>, pod: &str) -> Result<()> {
    let args = ["delete", "pod", pod, "--timeout=60s"];
    namespace.kubectl(&args)?.ok().map(drop)
}

#[test]
fn a_claimed_block_device_is_one_in_the_container() -> Result<()> {
    let cluster = Cluster::machines()?;
    let namespace = Namespace::create(&cluster, "block")?;
    let disk = Disk::make(&cluster.nodes[0], &namespace.name)?;
    let mut volumes = Volumes {
        cluster: &cluster,
        names: Vec::new(),
    };
    let mode = json!({"volumeMode": "Block"});
    volumes.claim(&namespace, &disk, "raw", mode)?;

    let script = "test -b /dev/own && printf words >/dev/own && sync && head -c 5 /dev/own; ls /dev | grep -c loop";
    let claim = json!({"claimName": "raw"});
    let said = output(
        &namespace,
        with_device("writer", &format!("{script}; true"), claim),
    )?;
    ensure!(said == "words0\n", "the writer: {said:?}");
    let kept = disk.node.run("head", &["-c", "5", &disk.device])?;
    ensure!(kept == "words", "the node: {kept:?}");
    gone(&namespace, "writer")?;

    let script = "head -c 5 /dev/own; (: >>/dev/own) 2>&1 | grep -o 'Operation not permitted'";
    let claim = json!({"claimName": "raw", "readOnly": true});
    let said = output(&namespace, with_device("reader", script, claim))?;
    ensure!(said == "wordsOperation not permitted\n", "{said:?}");
    gone(&namespace, "reader")?;

    // What is claimed as a device is no directory.
    let claim = json!({"claimName": "raw"});
    namespace.apply(&with_directory("wrong", "true", claim).to_string())?;
    let words = "volume v has volumeMode Block, but is specified in volumeMounts";
    told(&namespace, "wrong", words)
}

fn told(namespace: &Namespace<'_>, pod: &str, words: &str) -> Result<()> {
    eventually(MINUTE, words, || {
        let said = namespace.kubectl(&["describe", "pod", pod])?.ok()?;
        ensure!(said.contains(words), "{said}");
        Ok(())
    })
}

#[test]
fn a_file_system_is_made_once_and_kept() -> Result<()> {
    let cluster = Cluster::machines()?;
    let namespace = Namespace::create(&cluster, "formatted")?;
    let disk = Disk::make(&cluster.nodes[0], &namespace.name)?;
    let mut volumes = Volumes {
        cluster: &cluster,
        names: Vec::new(),
    };
    volumes.claim(&namespace, &disk, "data", json!({"fsType": "ext4"}))?;
    let claim = || json!({"claimName": "data"});

    let script =
        "grep ' /data ' /proc/mounts | cut -d' ' -f3; stat -c %g /data; echo kept >/data/file";
    let mut writer = with_directory("writer", script, claim());
    writer["spec"]["securityContext"] = json!({"fsGroup": 2000});
    let said = output(&namespace, writer)?;
    ensure!(said == "ext4\n2000\n", "the writer: {said:?}");
    gone(&namespace, "writer")?;
    let mounted = format!("grep -c '^{} ' /proc/mounts; true", disk.device);
    eventually(MINUTE, "it is mounted no more", || {
        let count = disk.node.run("sh", &["-c", &mounted])?;
        ensure!(count == "0\n", "{count}");
        Ok(())
    })?;

    let script = "cat /data/file; touch /data/other 2>&1 | grep -o 'Read-only file system'";
    let mut reader = with_directory("reader", script, claim());
    reader["spec"]["containers"][0]["volumeMounts"][0]["readOnly"] = json!(true);
    let said = output(&namespace, reader)?;
    ensure!(said == "kept\nRead-only file system\n", "{said:?}");
    gone(&namespace, "reader")?;

    // Nothing is made over it.
    volumes.claim(&namespace, &disk, "other", json!({"fsType": "xfs"}))?;
    let other = json!({"claimName": "other"});
    namespace.apply(&with_directory("wrong", "true", other).to_string())?;
    told(
        &namespace,
        "wrong",
        "already contains ext4, and the volume wants xfs",
    )?;
    gone(&namespace, "wrong")?;
    let kind = ["-s", "TYPE", "-o", "value", &disk.device];
    let kind = disk.node.run("blkid", &kind)?;
    ensure!(kind == "ext4\n", "{kind:?}");
    Ok(())
}
