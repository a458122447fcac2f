//! Images mounted beside a container's own.

use std::fs;
use std::time::Duration;

use tar::EntryType::Symlink;
use vetch_runtime::*;

use crate::guard::{Lab, Mounts, entries};
use crate::image::{BUSYBOX, Image, Layer};
use crate::specs::*;

/// Two layers, the second of which hides and replaces files of the first.
fn files() -> Image {
    let lower = Layer::new()
        .dir("data", 0o755)
        .file("data/gone", 0o644, b"gone")
        .file("data/kept", 0o644, b"below")
        .dir("data/deep", 0o755)
        .file("data/deep/file", 0o644, b"deep")
        .file("run", 0o755, b"#!/bin/sh\necho ran\n")
        .link(Symlink, "absolute", "/data/deep")
        .link(Symlink, "out", "/")
        .link(Symlink, "up", "../../../..");
    let upper = Layer::new()
        .dir("data", 0o755)
        .file("data/.wh.gone", 0o644, b"")
        .file("data/kept", 0o644, b"above");
    Image::new(
        "vetch.local/files:1",
        serde_json::json!({}),
        vec![lower, upper],
    )
}

/// Its id.
async fn import(lab: &Lab, runtime: &Runtime, image: &Image) -> String {
    let tar = lab.path("image.tar");
    image.save(&tar);
    runtime.images().import(&tar).await.unwrap().remove(0).id
}

fn image(id: &str, sub_path: Option<&str>, container: &str) -> Mount {
    Mount {
        source: MountSource::Image(ImageMount {
            id: id.into(),
            sub_path: sub_path.map(Into::into),
        }),
        // They do not make it writable, nor shared.
        propagation: Propagation::Bidirectional,
        ..bind("/".as_ref(), container)
    }
}

fn mounting(mount: Mount, script: &str) -> ContainerSpec {
    ContainerSpec {
        mounts: vec![mount],
        ..shell(script)
    }
}

#[test]
fn its_layers_are_merged_and_nobody_writes() {
    with_sandbox(async |lab, runtime, pod| {
        let id = import(lab, runtime, &files()).await;
        let script = "cat /img/data/kept; echo; echo $(ls -A /img/data); /img/run; \
                      touch /img/new 2>&1; touch /img/data/kept 2>&1; rm /img/run 2>&1";
        for privileged in [false, true] {
            let spec = ContainerSpec {
                privileged,
                ..mounting(image(&id, None, "/img"), script)
            };
            let (_, said) = outcome(runtime, pod, spec).await;
            assert!(said.starts_with("above\ndeep kept\nran\n"), "{said}");
            assert_eq!(said.matches("Read-only file system").count(), 3, "{said}");
        }
        // Its own image as well, whose layers are then used twice.
        let own = mounting(image(BUSYBOX, None, "/img"), "/img/bin/busybox echo same");
        assert_eq!(outcome(runtime, pod, own).await, (0, "same".to_owned()));
    });
}

#[test]
fn few_layers_and_the_same_twice() {
    with_sandbox(async |lab, runtime, pod| {
        let image_of = |name: &str, layers| Image::new(name, serde_json::json!({}), layers);
        let layer = Layer::new()
            .file("only", 0o644, b"")
            .file(".wh.other", 0o644, b"");
        let one = import(lab, runtime, &image_of("vetch.local/one:1", vec![layer])).await;
        let none = import(lab, runtime, &image_of("vetch.local/none:1", vec![])).await;
        // The second time it brings back what was taken away.
        let same = || Layer::new().file("back", 0o644, b"");
        let between = Layer::new()
            .file(".wh.back", 0o644, b"")
            .file("between", 0o644, b"");
        let layers = vec![same(), between, same()];
        let twice = import(lab, runtime, &image_of("vetch.local/twice:1", layers)).await;
        for (id, want) in [(one, "only"), (none, ""), (twice, "back between")] {
            let script = "echo $(ls -A /img); touch /img/new 2>&1";
            let (_, said) = outcome(runtime, pod, mounting(image(&id, None, "/img"), script)).await;
            let (listed, refused) = said.split_once('\n').unwrap();
            assert_eq!(listed, want);
            assert!(refused.contains("Read-only file system"), "{refused}");
        }
    });
}

#[test]
fn it_stays_as_long_as_the_container() {
    with_sandbox(async |lab, runtime, pod| {
        let id = import(lab, runtime, &files()).await;
        let layers = || entries(&lab.config.root_dir.join("images/layers")).len();
        assert_eq!(layers(), 3);
        let spec = ContainerSpec {
            mounts: vec![image(&id, None, "/img")],
            ..sleeper()
        };
        let container = run(runtime, &pod.id, spec.clone()).await;
        runtime.images().remove(&id).await.unwrap();
        assert!(runtime.images().status(&id).await.is_none());
        assert_eq!(layers(), 3, "a container has them");
        let words = ["cat", "/img/data/kept"].map(str::to_owned).into();
        let read = runtime
            .exec(&container, words, Duration::from_secs(20))
            .await
            .unwrap();
        assert_eq!(String::from_utf8(read.stdout).unwrap(), "above");

        let error = runtime.create_container(&pod.id, spec).await.unwrap_err();
        assert_eq!(error.to_string(), format!("image {id} is not in the store"));
        runtime.remove_container(&container).await.unwrap();
        assert_eq!(layers(), 1);
    });
}

#[test]
fn parts_of_it() {
    with_sandbox(async |lab, runtime, pod| {
        let id = import(lab, runtime, &files()).await;
        for (sub_path, file, want) in [
            ("data", "deep/file", "deep"),
            ("data/deep", "file", "deep"),
            ("/data/deep/", "file", "deep"),
            // Links and dots lead to where they lead in the image.
            ("absolute", "file", "deep"),
            ("out", "data/kept", "above"),
            ("up/data", "kept", "above"),
            ("../../data", "kept", "above"),
        ] {
            let script = format!("cat /img/{file}; touch /img/new 2>/dev/null && echo written");
            let spec = mounting(image(&id, Some(sub_path), "/img"), &script);
            let (_, said) = outcome(runtime, pod, spec).await;
            assert_eq!(said, want, "{sub_path}");
        }
        for (sub_path, want) in [
            ("nothing", "No such file or directory"),
            ("data/gone", "No such file or directory"),
            ("data/kept", "Not a directory"),
        ] {
            let spec = mounting(image(&id, Some(sub_path), "/img"), "true");
            let error = runtime.create_container(&pod.id, spec).await.unwrap_err();
            let words = Chain(&error).to_string();
            let want = format!("sub path {sub_path:?} of the image: {want}");
            assert!(words.starts_with(&want), "{words}");
        }
        // It may have one layer and no more.
        let only = Layer::new().dir("data", 0o755);
        let only = Image::new("vetch.local/only:1", serde_json::json!({}), vec![only]);
        let id = import(lab, runtime, &only).await;
        for (sub_path, is_there) in [("data", true), ("nothing", false)] {
            let spec = mounting(image(&id, Some(sub_path), "/img"), "true");
            let made = runtime.create_container(&pod.id, spec).await;
            assert_eq!(made.is_ok(), is_there, "{sub_path}: {made:?}");
        }
    });
}

#[test]
fn the_host_hears_nothing_of_it() {
    let lab = Lab::enter_with(Mounts::Shared);
    lab.block_on(async {
        let runtime = lab.runtime().await;
        let pod = runtime
            .create_sandbox(sandbox(&lab.logs, "pod"))
            .await
            .unwrap();
        let id = import(&lab, &runtime, &files()).await;
        let mounts = || {
            let all = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
            all.lines()
                .filter(|line| line.contains(" - overlay "))
                .count()
        };
        let before = mounts();
        let spec = ContainerSpec {
            mounts: vec![
                image(&id, None, "/img"),
                image(&id, Some("data"), "/img/data/deep"),
            ],
            ..sleeper()
        };
        let lost = mounting(image(&id, Some("nothing"), "/img"), "true");
        assert!(runtime.create_container(&pod.id, lost).await.is_err());
        let container = run(&runtime, &pod.id, spec).await;
        assert_eq!(mounts(), before);
        let words = ["cat", "/img/data/kept", "/img/data/deep/kept"];
        let words = words.map(str::to_owned).into();
        let read = runtime
            .exec(&container, words, Duration::from_secs(20))
            .await
            .unwrap();
        assert_eq!(String::from_utf8(read.stdout).unwrap(), "aboveabove");
        runtime.remove_sandbox(&pod.id).await.unwrap();
        lab.assert_nothing_left();
    });
}
