//! Volumes, by the files a container finds: paths of the node and what is mounted below them, objects by their keys.

use std::fs;
use std::os::unix::net::UnixListener;

use nix::mount::{MsFlags, mount, umount};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::{Value, json};

use super::{clean, host_path, once, said};
use crate::agent::{log, on_a_node};

/// A file system of its own, until the value goes.
struct Tmpfs(std::path::PathBuf);

impl Tmpfs {
    fn at(path: std::path::PathBuf) -> Tmpfs {
        fs::create_dir_all(&path).unwrap();
        let none = None::<&str>;
        mount(Some("own"), &path, Some("tmpfs"), MsFlags::empty(), none).unwrap();
        Tmpfs(path)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = umount(&self.0);
    }
}

#[test]
fn parts_of_volumes_and_what_is_mounted_below_them() {
    on_a_node(async |lab, cluster, _| {
        let tree = lab.path("tree");
        fs::create_dir(&tree).unwrap();
        let below = Tmpfs::at(tree.join("below"));
        let script = "touch /flat/below/x 2>/dev/null && echo written; touch /deep/below/y 2>&1 | grep -o Read-only.*; \
                      touch /flat/z 2>&1 | grep -o Read-only.*; echo here >/own/file";
        let spec = once(
            script,
            json!({"volumes": host_path(&tree)}),
            json!({
                "env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "volumeMounts": [
                    {"name": "v", "mountPath": "/flat", "readOnly": true},
                    {"name": "v", "mountPath": "/deep", "readOnly": true, "recursiveReadOnly": "Enabled"},
                    {"name": "v", "mountPath": "/own", "subPathExpr": "of/$(POD)"},
                ],
            }),
        );
        assert_eq!(
            said(lab, cluster, "parts", spec).await,
            "written\nRead-only file system\nRead-only file system"
        );
        let written = fs::read_to_string(tree.join("of/parts/file")).unwrap();
        assert_eq!(written, "here\n");
        let pod = cluster.get("parts").await.unwrap();
        let mounts = &pod["status"]["containerStatuses"][0]["volumeMounts"];
        assert_eq!(mounts[1]["recursiveReadOnly"], "Enabled");
        drop(below);
        clean(lab, cluster, &["parts"]).await;
    });
}

#[test]
fn paths_of_the_node_are_what_their_types_say() {
    on_a_node(async |lab, cluster, _| {
        let paths = lab.path("paths");
        fs::create_dir_all(paths.join("dir")).unwrap();
        fs::write(paths.join("file"), "given\n").unwrap();
        let _socket = UnixListener::bind(paths.join("socket")).unwrap();
        // /dev/null's number; a block device needs no disk to be there.
        let mode = Mode::from_bits_truncate(0o600);
        mknod(&paths.join("char"), SFlag::S_IFCHR, mode, makedev(1, 3)).unwrap();
        mknod(&paths.join("block"), SFlag::S_IFBLK, mode, makedev(7, 200)).unwrap();
        let kinds = [
            ("any", ""),
            ("dir", "Directory"),
            ("made-dir", "DirectoryOrCreate"),
            ("file", "File"),
            ("made-file", "FileOrCreate"),
            ("socket", "Socket"),
            ("char", "CharDevice"),
            ("block", "BlockDevice"),
        ];
        let with = |script: &str, kinds: &[(&str, &str)]| {
            let volumes = kinds.iter().map(|(name, kind)| {
                json!({"name": name, "hostPath": {"path": paths.join(name), "type": kind}})
            });
            let mounts = kinds
                .iter()
                .map(|(name, _)| json!({"name": name, "mountPath": format!("/{name}")}));
            once(
                script,
                json!({"volumes": volumes.collect::<Vec<_>>()}),
                json!({"volumeMounts": mounts.collect::<Vec<_>>()}),
            )
        };
        let script = "cd /; for name in any dir made-dir file made-file socket char block; do
                ls -ld $name | cut -c1; done | tr -d '\\n'; echo
            cat file; echo said >made-file; echo said >made-dir/file; echo said >any/file";
        assert_eq!(
            said(lab, cluster, "typed", with(script, &kinds)).await,
            "ddd--scb\ngiven"
        );
        for name in ["any/file", "made-dir/file", "made-file"] {
            let written = fs::read_to_string(paths.join(name)).unwrap();
            assert_eq!(written, "said\n", "{name}");
        }

        let wrong = [
            ("file", "Directory", "is not a directory"),
            ("file", "DirectoryOrCreate", "is not a directory"),
            ("dir", "File", "is not a file"),
            ("dir", "FileOrCreate", "is not a file"),
            ("file", "Socket", "is not a socket file"),
            ("block", "CharDevice", "is not a character device"),
            ("char", "BlockDevice", "is not a block device"),
            ("nothing", "File", "is not a file"),
        ];
        let mut pods = vec!["typed".to_owned()];
        for (number, (name, kind, _)) in wrong.iter().enumerate() {
            let pod = format!("wrong-{number}");
            cluster.create(&pod, with("true", &[(name, kind)])).await;
            pods.push(pod);
        }
        for (pod, (name, _, what)) in pods[1..].iter().zip(&wrong) {
            let path = paths.join(name);
            let words = format!(
                "FailedMount: MountVolume.SetUp failed for volume \"{name}\" : hostPath type check failed: {} {what}",
                path.display()
            );
            cluster.told(pod, &words).await;
        }
        assert!(!paths.join("nothing").exists());
        let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
        clean(lab, cluster, &pods).await;
    });
}

#[test]
fn mounts_that_come_later_are_seen_as_far_as_was_asked() {
    on_a_node(async |lab, cluster, _| {
        let tree = lab.path("tree");
        fs::create_dir(&tree).unwrap();
        let none = None::<&str>;
        mount(Some(&tree), &tree, none, MsFlags::MS_BIND, none).unwrap();
        mount(none, &tree, none, MsFlags::MS_SHARED, none).unwrap();
        let told = "test -e /v/later/file && echo seen || echo unseen";
        let waits = format!("touch /v/ready; until test -e /v/go; do sleep 0.05; done; {told}");
        let with = |propagation: &str, script: &str| {
            once(
                script,
                json!({"volumes": host_path(&tree)}),
                json!({"volumeMounts": [{"name": "v", "mountPath": "/v", "mountPropagation": propagation}]}),
            )
        };
        for (name, propagation, want) in [
            ("hears", "HostToContainer", "seen"),
            ("deaf", "None", "unseen"),
        ] {
            cluster.create(name, with(propagation, &waits)).await;
            let ready = |_: &Value| tree.join("ready").exists();
            cluster.wait(name, "it waits", ready).await;
            let later = Tmpfs::at(tree.join("later"));
            fs::write(tree.join("later/file"), "").unwrap();
            fs::write(tree.join("go"), "").unwrap();
            let pod = cluster.phase(name, "Succeeded").await;
            assert_eq!(log(lab, &pod, "app", 0), want, "{propagation}");
            drop(later);
            fs::remove_file(tree.join("ready")).unwrap();
            fs::remove_file(tree.join("go")).unwrap();
        }
        let script = "mkdir -p /v/made && mount -t tmpfs own /v/made && touch /v/made/file";
        let mut tells = with("Bidirectional", script);
        tells["containers"][0]["securityContext"] = json!({"privileged": true});
        cluster.create("tells", tells).await;
        cluster.phase("tells", "Succeeded").await;
        assert!(tree.join("made/file").exists(), "the host sees it");
        umount(&tree.join("made")).unwrap();
        umount(&tree).unwrap();
        clean(lab, cluster, &["hears", "deaf", "tells"]).await;
    });
}

#[test]
fn files_of_objects_by_key_and_mode() {
    on_a_node(async |lab, cluster, _| {
        let settings = json!({"greeting": "hello", "other": "x", "unnamed": "y"});
        cluster.put_config_map("settings", settings).await;
        let hidden = json!({"word": "sesame", "unnamed": "y"});
        cluster.create_secret("hidden", hidden).await;
        let volumes = json!([
            {"name": "cfg", "configMap": {"name": "settings", "defaultMode": 0o440, "items": [
                {"key": "greeting", "path": "sub/word", "mode": 0o400}, {"key": "other", "path": "plain"},
            ]}},
            {"name": "sec", "secret": {"secretName": "hidden", "items": [
                {"key": "word", "path": "w", "mode": 0o600},
            ]}},
            {"name": "all", "projected": {"defaultMode": 0o404, "sources": [
                {"configMap": {"name": "settings", "items": [{"key": "other", "path": "p"}]}},
                {"secret": {"name": "hidden", "items": [{"key": "word", "path": "q", "mode": 0o444}]}},
                {"configMap": {"name": "missing", "optional": true}},
            ]}},
            {"name": "none", "secret": {"secretName": "missing", "optional": true}},
        ]);
        let mounts = ["cfg", "sec", "all", "none"]
            .map(|name| json!({"name": name, "mountPath": format!("/{name}")}));
        let script = "cd /; echo $(stat -L -c %a cfg/sub/word cfg/plain sec/w all/p all/q); \
                      echo $(ls cfg) $(ls sec) $(ls all) .$(ls none).; cat cfg/sub/word sec/w";
        let spec = once(
            script,
            json!({"volumes": volumes}),
            json!({"volumeMounts": mounts}),
        );
        assert_eq!(
            said(lab, cluster, "files", spec).await,
            "400 440 600 404 444\nplain sub w p q ..\nhellosesame"
        );
        clean(lab, cluster, &["files"]).await;
    });
}
