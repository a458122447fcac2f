//! What a registry that lies gets: an error in words, soon, and nothing in the store.

use std::time::{Duration, Instant};

use vetch_runtime::images::PullConfig;
use vetch_runtime::*;

use crate::guard::{Lab, entries, memory, wait_for};
use crate::image::{Image, Layer, digest};
use crate::liar::*;
use crate::registry::INDEX;

const SILENCE: Duration = Duration::from_secs(2);

fn image() -> Image {
    let layer = Layer::new().file("own", 0o644, &[7; 100_000]);
    Image::new("it", serde_json::json!({}), vec![layer])
}

fn store(lab: &Lab) -> ImageStore {
    let config = PullConfig {
        silence: SILENCE,
        ..PullConfig::default()
    };
    ImageStore::open_with(&lab.config.root_dir, config).unwrap()
}

type Lie = Box<dyn Fn(&mut Honest)>;

fn lies() -> Vec<(&'static str, Lie, &'static str)> {
    let lie = |lie: fn(&mut Honest)| -> Lie { Box::new(lie) };
    let described = |part: &'static str, size: i64| -> Lie {
        Box::new(move |it| {
            let mut manifest = it.manifest.clone();
            let mut found = &mut manifest[part];
            if part == "layers" {
                found = &mut found[0];
            }
            found["size"] = (found["size"].as_i64().unwrap() + size).into();
            it.describe(&manifest);
        })
    };
    let redirect = |path: fn(&Honest) -> String| -> Lie {
        Box::new(move |it| {
            let path = path(it);
            let answer = Answer {
                status: "307 Temporary Redirect",
                headers: vec![("Location", format!("/v2/it/{path}"))],
                body: Body::Whole(Vec::new()),
            };
            it.answers.insert(path, answer);
        })
    };
    vec![
        (
            "a manifest without an end",
            lie(|it| it.put("manifests/1", Body::Endless(vec![b' '; 64 << 10]))),
            "a manifest of over 4194304 bytes",
        ),
        (
            "a manifest of 100 MB",
            lie(|it| it.put("manifests/1", Body::Whole(vec![b' '; 100_000_000]))),
            "a manifest of over 4194304 bytes",
        ),
        (
            "a refusal without an end",
            lie(|it| {
                let answer = Answer {
                    status: "500 Internal Server Error",
                    ..ok(Body::Endless(vec![b'x'; 64 << 10]))
                };
                it.answers.insert(it.layer.clone(), answer);
            }),
            "code: 500",
        ),
        (
            "a page where the manifest should be",
            lie(|it| {
                let mut answer = ok(Body::Whole(b"<html>Sign in</html>".to_vec()));
                answer.headers.push(("Content-Type", "text/html".into()));
                it.answers.insert("manifests/1".into(), answer);
            }),
            "manifest: ",
        ),
        (
            "another digest in the header than in the body",
            lie(|it| {
                let mut answer = it.answers["manifests/1"].clone();
                let said = digest(b"other");
                answer.headers.push(("Docker-Content-Digest", said));
                it.answers.insert("manifests/1".into(), answer);
            }),
            "its manifest is sha256:",
        ),
        (
            "an index of itself",
            lie(|it| {
                // No index has its own digest in it; this one comes under any.
                let inner = serde_json::json!({"schemaVersion": 2, "manifests": [
                    {"mediaType": INDEX, "digest": digest(b""), "size": 0},
                ]});
                let name = digest(inner.to_string().as_bytes());
                let outer = serde_json::json!({"schemaVersion": 2, "manifests": [
                    {"mediaType": INDEX, "digest": name, "size": inner.to_string().len()},
                ]});
                it.describe(&outer);
                it.put(
                    &format!("manifests/{name}"),
                    Body::Whole(inner.to_string().into()),
                );
            }),
            "an index within an index is not supported",
        ),
        (
            "another manifest than the index names",
            lie(|it| {
                let name = digest(b"another");
                let outer = serde_json::json!({"schemaVersion": 2, "manifests": [
                    {"digest": name, "size": 7},
                ]});
                let inner = it.manifest.to_string();
                it.describe(&outer);
                it.put(&format!("manifests/{name}"), Body::Whole(inner.into()));
            }),
            "its manifest is sha256:",
        ),
        (
            "a digest that is a path",
            lie(|it| {
                let mut manifest = it.manifest.clone();
                manifest["layers"][0]["digest"] = "sha256:../../../etc".into();
                it.describe(&manifest);
            }),
            "unsupported digest \"sha256:../../../etc\"",
        ),
        (
            "another layer",
            lie(|it| it.put(&it.layer.clone(), Body::Whole(vec![0; 102_400]))),
            "failed to extract layer",
        ),
        (
            "a layer without an end",
            lie(|it| it.put(&it.layer.clone(), Body::Endless(vec![0; 64 << 10]))),
            "bytes that its manifest says",
        ),
        (
            "a layer of more than is said",
            described("layers", -1),
            "bytes that its manifest says",
        ),
        (
            "a layer of less than is said",
            described("layers", 1),
            "and its manifest says",
        ),
        (
            "a layer of more than there are bytes in the world",
            Box::new(|it| {
                let mut manifest = it.manifest.clone();
                manifest["layers"][0]["size"] = u64::MAX.into();
                it.describe(&manifest);
            }),
            "and its manifest says 18446744073709551615",
        ),
        (
            "a config without an end",
            lie(|it| it.put(&it.config.clone(), Body::Endless(vec![b' '; 64 << 10]))),
            "bytes that its manifest says",
        ),
        (
            "a config of more than a config has",
            described("config", 9 << 20),
            "config of ",
        ),
        (
            "a manifest that never comes whole",
            lie(|it| it.put("manifests/1", Body::Stuck(b"{".to_vec()))),
            "timed out",
        ),
        (
            "a layer that never comes whole",
            lie(|it| it.put(&it.layer.clone(), Body::Stuck(vec![0; 600]))),
            "timed out",
        ),
        (
            "a manifest that is always elsewhere",
            redirect(|_| "manifests/1".into()),
            "too many redirects",
        ),
        (
            "a layer that is always elsewhere",
            redirect(|it| it.layer.clone()),
            "too many redirects",
        ),
    ]
}

#[test]
fn a_registry_that_lies_is_refused() {
    let lab = Lab::enter();
    lab.block_on(async {
        let images = store(&lab);
        let dir = lab.config.root_dir.join("images");
        for (what, lie, words) in lies() {
            let image = image();
            let mut it = honest(&image, image.layers[0].clone());
            lie(&mut it);
            let liar = Liar::start(std::mem::take(&mut it.answers));
            // What the test itself keeps of it is in there already.
            let (before, start) = (memory("self", "VmRSS"), Instant::now());
            let name = liar.name("1");
            let error = images.pull(&name, None).await.unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("failed to pull and unpack image \"{name}\": "))
                    && error.contains(words),
                "{what}: {error}"
            );
            let took = start.elapsed();
            assert!(took < SILENCE + Duration::from_secs(18), "{what}: {took:?}");
            let grown = memory("self", "VmRSS").saturating_sub(before) >> 10;
            assert!(grown < 64, "{what}: {grown} MiB more");
            wait_for("the unpacker", || entries(&dir.join("tmp")).is_empty());
            for place in ["layers", "blobs/sha256"] {
                assert_eq!(entries(&dir.join(place)), [""; 0], "{what}: {place}");
            }
            assert_eq!(images.list().await, [], "{what}");
        }
        // The same without a lie, so that nothing above is refused for another reason.
        let image = image();
        let it = honest(&image, image.layers[0].clone());
        let honest = Liar::start(it.answers);
        let pulled = images.pull(&honest.name("1"), None).await.unwrap();
        assert_eq!(pulled.id, digest(&image.config));
    });
}

/// An end comes to it by the read timeout, whoever else is pulling.
#[test]
fn a_registry_that_hangs_holds_up_no_other() {
    let lab = Lab::enter();
    lab.block_on(async {
        let images = store(&lab);
        let image = image();
        let mut stuck = honest(&image, image.layers[0].clone());
        stuck.put("manifests/1", Body::Stuck(b"{".to_vec()));
        let stuck = Liar::start(stuck.answers);
        let it = honest(&image, image.layers[0].clone());
        let good = Liar::start(it.answers);
        let (stuck, good) = (stuck.name("1"), good.name("1"));
        let other = async {
            let start = Instant::now();
            images.pull(&good, None).await.unwrap();
            start.elapsed()
        };
        let (refused, took) = tokio::join!(images.pull(&stuck, None), other);
        assert!(refused.unwrap_err().to_string().contains("timed out"));
        assert!(took < SILENCE, "{took:?}");
    });
}
