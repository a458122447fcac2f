//! Images from a real registry: what arrives, and what is refused.

use std::fs;
use std::path::Path;

use tar::EntryType;
use vetch_runtime::*;

use crate::guard::{Lab, entries, wait_for};
use crate::image::{Image, Layer, busybox_layer, digest};
use crate::registry::*;
use crate::specs::*;

fn store(lab: &Lab) -> ImageStore {
    ImageStore::open(&lab.config.root_dir).unwrap()
}

fn layers(lab: &Lab) -> usize {
    entries(&lab.config.root_dir.join("images/layers")).len()
}

/// Base and two layers over it that take away, replace and add.
fn tools() -> Image {
    let middle = Layer::new()
        .dir("etc", 0o755)
        .dir("opt", 0o755)
        .dir("opt/app", 0o750)
        .file("opt/app/old", 0o644, b"old")
        .file("opt/app/keep", 0o4755, b"keep")
        .dir("opt/whole", 0o755)
        .file("opt/whole/a", 0o644, b"a")
        .dir("opt/gone", 0o755)
        .file("opt/gone/b", 0o644, b"b")
        .link(EntryType::Link, "opt/app/hard", "opt/app/keep")
        .link(EntryType::Symlink, "opt/app/soft", "../../etc/passwd");
    let top = Layer::new()
        .dir("opt/app", 0o700)
        .file("opt/app/.wh.old", 0, b"")
        .file("opt/app/new", 0o600, b"new")
        .dir("opt/whole", 0o755)
        .file("opt/whole/.wh..wh..opq", 0, b"")
        .file("opt/whole/c", 0o644, b"c")
        .file("opt/.wh.gone", 0, b"")
        .file("etc/.wh.group", 0, b"");
    Image::new(
        "tools",
        serde_json::json!({"Env": ["PATH=/bin", "FROM=image"], "Entrypoint": ["/bin/sh", "-c"],
            "WorkingDir": "/opt/app", "User": "root", "StopSignal": "SIGUSR1"}),
        vec![busybox_layer(), middle, top],
    )
}

fn pack(number: usize, layer: &[u8]) -> Vec<u8> {
    match number {
        0 => gzip(layer),
        1 => zstd(layer),
        _ => layer.to_vec(),
    }
}

#[test]
fn an_image_is_what_its_layers_say() {
    let lab = Lab::enter();
    let registry = Registry::start(&lab.path("registry"), Options::default());
    lab.block_on(async {
        let manifest = registry.push("test/tools", None, &tools(), pack).await;
        let mut foreign = manifest.clone();
        foreign["platform"] = serde_json::json!({"os": "linux", "architecture": "s390x"});
        let mut ours = manifest.clone();
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        ours["platform"] = serde_json::json!({"os": "linux", "architecture": architecture});
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [foreign, ours]});
        let index = registry.manifest("test/tools", Some("v1"), INDEX, &index).await;

        let runtime = lab.open().await;
        let name = registry.name("test/tools:v1");
        assert_eq!(runtime.images().status(&name).await, None);
        let image = runtime.images().pull(&name, None).await.unwrap();
        assert_eq!(image.id, digest(&tools().config));
        assert_eq!(image.repo_tags, [name.as_str()]);
        let by_digest = registry.name(&format!("test/tools@{}", index["digest"].as_str().unwrap()));
        assert_eq!(image.repo_digests, [by_digest.as_str()]);
        assert_eq!(image.env, [("PATH", "/bin"), ("FROM", "image")].map(|(a, b)| (a.into(), b.into())));
        assert_eq!((image.working_dir.as_str(), image.user.as_str()), ("/opt/app", "root"));
        assert_eq!(image.stop_signal.as_deref(), Some("SIGUSR1"));
        let status = runtime.images().status(&by_digest).await;
        assert_eq!(status, Some(image.clone()));
        // Again, also by digest, is the same and brings no layer.
        assert_eq!(runtime.images().pull(&by_digest, None).await.unwrap().id, image.id);
        assert_eq!(layers(&lab), 3);

        let pod = runtime.create_sandbox(sandbox(&lab.logs, "pod")).await.unwrap();
        let spec = |script: &str| ContainerSpec {
            image_id: image.id.clone(),
            command: vec![],
            ..shell(script)
        };
        let script = "pwd; echo $FROM; ls /opt /opt/whole | xargs; ls | xargs; stat -c %a . keep new; \
                      test keep -ef hard && cat hard; echo; head -n 1 soft; test -e /etc/group || echo no group";
        let (code, said) = outcome(&runtime, &pod, spec(script)).await;
        assert_eq!(
            said,
            "/opt/app\nimage\n/opt: app whole /opt/whole: c\nhard keep new soft\n700\n4755\n600\n\
             keep\nroot:x:0:0:root:/root:/bin/sh\nno group"
        );
        assert_eq!(code, 0);
        // Written by one container, seen by no other.
        outcome(&runtime, &pod, spec("echo changed > new; rm -r /opt/whole")).await;
        let (_, said) = outcome(&runtime, &pod, spec("cat new; ls /opt/whole")).await;
        assert_eq!(said, "newc");
        runtime.remove_sandbox(&pod.id).await.unwrap();
        lab.assert_nothing_left();
    });
}

#[test]
fn layers_are_shared_and_go_with_their_last_user() {
    let lab = Lab::enter();
    let registry = Registry::start(&lab.path("registry"), Options::default());
    lab.block_on(async {
        let own = Layer::new().file("own", 0o644, b"own");
        let other = Image::new(
            "other",
            serde_json::json!({"Cmd": ["sleep", "1000"]}),
            vec![busybox_layer(), own],
        );
        registry.push("tools", Some("1"), &tools(), pack).await;
        registry
            .push("other", Some("1"), &other, |_, layer| layer.to_vec())
            .await;
        let runtime = lab.open().await;
        let images = runtime.images();
        let (tools, other) = (registry.name("tools:1"), registry.name("other:1"));
        let (first, second) = tokio::join!(images.pull(&tools, None), images.pull(&other, None));
        let (first, second) = (first.unwrap(), second.unwrap());
        assert_eq!(layers(&lab), 4);

        let pod = runtime
            .create_sandbox(sandbox(&lab.logs, "pod"))
            .await
            .unwrap();
        let spec = ContainerSpec {
            image_id: second.id.clone(),
            ..sleeper()
        };
        let id = run(&runtime, &pod.id, spec).await;
        images.remove(&other).await.unwrap();
        assert_eq!(images.list().await, std::slice::from_ref(&first));
        assert_eq!(layers(&lab), 4, "a container has them");
        // Also for who knows nothing of the daemon's containers.
        store(&lab).remove(&first.id).await.unwrap();
        assert_eq!(layers(&lab), 2);
        runtime.remove_container(&id).await.unwrap();
        assert_eq!(layers(&lab), 0);
        assert_eq!(
            entries(&lab.config.root_dir.join("images/blobs/sha256")),
            [""; 0]
        );
        let gone = images.remove(&other).await;
        assert!(matches!(gone, Err(ImageError::NotFound(_))), "{gone:?}");
        runtime.remove_sandbox(&pod.id).await.unwrap();
        lab.assert_nothing_left();
    });
}

async fn refused(images: &ImageStore, name: &str) -> String {
    images.pull(name, None).await.unwrap_err().to_string()
}

/// Bytes for bytes, of the same length.
fn tamper(file: &Path) -> Vec<u8> {
    let good = fs::read(file).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    fs::write(file, bad).unwrap();
    good
}

#[test]
fn bytes_that_are_not_what_was_named_are_refused() {
    let lab = Lab::enter();
    let registry = Registry::start(&lab.path("registry"), Options::default());
    lab.block_on(async {
        let images = store(&lab);
        let mut noise = 1_u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 24) as u8
        })
        .take(100_000)
        .collect();
        let own = Layer::new().file("own", 0o644, &noise);
        let image = Image::new("it", serde_json::json!({}), vec![own]);
        // Plain, the tar itself may stay readable; packed, it may not.
        for (tag, packed) in [("plain", false), ("packed", true)] {
            let pack = |layer: &[u8]| if packed { gzip(layer) } else { layer.to_vec() };
            registry
                .push("it", Some(tag), &image, |_, layer| pack(layer))
                .await;
            let name = registry.name(&format!("it:{tag}"));
            let blob = digest(&pack(&image.layers[0]));
            let file = registry.file(&blob);
            let good = tamper(&file);
            let words = refused(&images, &name).await;
            assert!(
                words.starts_with(&format!(
                    "failed to pull and unpack image \"{name}\": failed to extract layer"
                )),
                "{words}"
            );
            if !packed {
                assert!(
                    words.contains(&format!("expected {blob}, got sha256:")),
                    "{words}"
                );
            }
            assert_eq!(images.list().await, []);
            assert_eq!(layers(&lab), 0, "{tag}");
            // Cut short.
            fs::write(&file, &good[..good.len() - 600]).unwrap();
            refused(&images, &name).await;
            assert_eq!(layers(&lab), 0, "{tag}");
            assert_eq!(entries(&lab.config.root_dir.join("images/tmp")), [""; 0]);

            fs::write(&file, good).unwrap();
            images.pull(&name, None).await.unwrap();
            images.remove(&name).await.unwrap();
            assert_eq!(layers(&lab), 0, "{tag}");
        }

        let name = registry.name("it:plain");
        let config = registry.file(&digest(&image.config));
        let good = tamper(&config);
        let words = refused(&images, &name).await;
        assert!(
            words.contains(&format!("failed to fetch {}", digest(&image.config))),
            "{words}"
        );
        fs::write(&config, good).unwrap();

        // A layer that is what the manifest says, and not what the config says.
        let mut wrong = Image::new(
            "it",
            serde_json::json!({}),
            vec![Layer::new().file("a", 0o644, b"a")],
        );
        wrong.layers = vec![image.layers[0].clone()];
        registry
            .push("it", Some("wrong"), &wrong, |_, layer| layer.to_vec())
            .await;
        let words = refused(&images, &registry.name("it:wrong")).await;
        assert!(
            words.ends_with(&format!("its content is {}", digest(&image.layers[0]))),
            "{words}"
        );
        assert_eq!((layers(&lab), images.list().await), (0, vec![]));
    });
}

#[test]
fn refusals_have_the_registrys_words() {
    let lab = Lab::enter();
    let registry = Registry::start(&lab.path("registry"), Options::default());
    let locked = Registry::start(
        &lab.path("locked"),
        Options {
            password: true,
            ..Options::default()
        },
    );
    lab.block_on(async {
        let images = store(&lab);
        let image = Image::new("it", serde_json::json!({}), vec![]);
        registry.push("it", Some("1"), &image, |_, layer| layer.to_vec()).await;
        for (tag, said) in [("it:2", "manifest unknown"), ("no/such:1", "manifest unknown")] {
            let name = registry.name(tag);
            assert_eq!(
                refused(&images, &name).await,
                format!("failed to pull and unpack image \"{name}\": failed to resolve reference \
                         \"{name}\": {name}: not found: {said}")
            );
        }
        let nobody = "127.0.0.1:1/it:1";
        let words = refused(&images, nobody).await;
        assert!(words.contains("failed to do request") && words.ends_with("Connection refused (os error 111)"), "{words}");
        let invalid = images.pull("UPPER:1", None).await;
        assert!(matches!(invalid, Err(ImageError::InvalidReference { .. })), "{invalid:?}");

        locked.push("it", Some("1"), &image, |_, layer| layer.to_vec()).await;
        let name = locked.name("it:1");
        for auth in [None, Some("wrong")] {
            let auth = auth.map(|password| RegistryAuth {
                username: USER.into(),
                password: password.into(),
            });
            let words = images.pull(&name, auth).await.unwrap_err().to_string();
            assert!(
                words.starts_with(&format!("failed to pull and unpack image \"{name}\": failed to resolve reference \
                    \"{name}\": pull access denied, repository does not exist or may require authorization: ")),
                "{words}"
            );
        }
        let auth = RegistryAuth {
            username: USER.into(),
            password: PASSWORD.into(),
        };
        assert_eq!(images.pull(&name, Some(auth)).await.unwrap().id, digest(&image.config));
    });
}

#[test]
fn pulls_go_through_the_network_they_are_told() {
    let lab = Lab::enter();
    let registry = Registry::start(
        &lab.path("registry"),
        Options {
            own_network: true,
            ..Options::default()
        },
    );
    let image = Image::new("it", serde_json::json!({}), vec![]);
    // Pushed from in there, too.
    let netns = registry.netns();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = fs::File::open(&netns).unwrap();
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let tokio = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            tokio.block_on(registry.push("it", Some("1"), &image, |_, layer| layer.to_vec()));
        });
    });
    lab.block_on(async {
        let name = registry.name("it:1");
        let here = lab.open().await;
        here.images().pull(&name, None).await.unwrap_err();
        let config = RuntimeConfig {
            pull_netns: Some(netns),
            ..lab.config.clone()
        };
        let there = Runtime::open(config.clone()).await.unwrap();
        there.images().pull(&name, None).await.unwrap();
        let nowhere = RuntimeConfig {
            pull_netns: Some("/dev/null".into()),
            ..config
        };
        let error = Runtime::open(nowhere).await.unwrap_err().to_string();
        assert_eq!(
            error,
            "image store: joining /dev/null: Invalid argument (os error 22)"
        );
    });
}

#[test]
fn a_pull_that_is_dropped_leaves_nothing() {
    let lab = Lab::enter();
    let registry = Registry::start(&lab.path("registry"), Options::default());
    lab.block_on(async {
        registry.push("tools", Some("1"), &tools(), pack).await;
        let images = store(&lab);
        let name = registry.name("tools:1");
        let tmp = lab.config.root_dir.join("images/tmp");
        let mut pull = Box::pin(images.pull(&name, None));
        assert!(futures::poll!(&mut pull).is_pending());
        drop(pull);
        // It is carried to its end, and is whole then.
        wait_for("the layers", || {
            layers(&lab) == 3 && entries(&tmp).is_empty()
        });
        images.pull(&name, None).await.unwrap();
    });
}
