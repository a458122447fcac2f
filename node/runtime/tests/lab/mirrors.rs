//! Mirrors as `hosts.toml` names them, and downloads that break off.

use std::fs;
use std::path::Path;

use vetch_runtime::images::{LayerProgress, Progress, PullConfig};
use vetch_runtime::*;

use crate::guard::{Lab, entries};
use crate::image::{Image, Layer, digest};
use crate::liar::*;

fn image() -> Image {
    let layer = Layer::new().file("own", 0o644, &[7; 100_000]);
    Image::new("it", serde_json::json!({}), vec![layer])
}

fn store(lab: &Lab, hosts_dir: &Path) -> ImageStore {
    let config = PullConfig {
        hosts_dir: Some(hosts_dir.to_owned()),
        ..PullConfig::default()
    };
    ImageStore::open_with(&lab.config.root_dir, config).unwrap()
}

fn hosts(dir: &Path, registry: &str, text: &str) {
    let folder = dir.join(registry);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("hosts.toml"), text).unwrap();
}

#[test]
fn a_mirror_is_asked_before_the_registry() {
    let lab = Lab::enter();
    lab.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let images = store(&lab, dir.path());
        let image = image();
        let mirror = Liar::start(honest(&image, image.layers[0].clone()).answers);
        // Nobody listens at port 1.
        let text = format!("[host.\"http://{}\"]", mirror.address);
        hosts(dir.path(), "127.0.0.1_1_", &text);
        let pulled = images.pull("127.0.0.1:1/it:1", None).await.unwrap();
        assert_eq!(pulled.id, digest(&image.config));
        assert_eq!(pulled.repo_tags, ["127.0.0.1:1/it:1"]);
        let asked = mirror.asked.lock().unwrap().clone();
        let manifest = asked.iter().find(|path| path.contains("manifests"));
        assert_eq!(
            manifest.map(String::as_str),
            Some("/v2/it/manifests/1?ns=127.0.0.1%3A1")
        );
    });
}

#[test]
fn a_registry_stands_in_for_its_mirrors() {
    let lab = Lab::enter();
    lab.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let images = store(&lab, dir.path());
        let image = image();
        let mut half = honest(&image, image.layers[0].clone());
        half.answers.remove(&half.layer);
        let (half, none) = (Liar::start(half.answers), Liar::start(Default::default()));
        let registry = Liar::start(honest(&image, image.layers[0].clone()).answers);
        let text = format!(
            "[host.\"http://127.0.0.1:1\"]\n[host.\"http://{}\"]\n[host.\"http://{}\"]",
            none.address, half.address
        );
        hosts(dir.path(), &registry.address, &text);
        let pulled = images.pull(&registry.name("1"), None).await.unwrap();
        assert_eq!(pulled.id, digest(&image.config));
        let asked = |liar: &Liar, what: &str| {
            let asked = liar.asked.lock().unwrap();
            asked.iter().filter(|path| path.contains(what)).count()
        };
        assert_eq!(asked(&none, "manifests/1"), 1);
        assert_eq!(asked(&half, "manifests/1"), 1);
        assert_eq!(asked(&registry, "manifests/1"), 0);
        assert_eq!(asked(&registry, "blobs/"), 1);
    });
}

/// Said where the pull is, not at the daemon's start: the file may come and go.
#[test]
fn a_file_that_is_wrong_is_said_at_the_pull() {
    let lab = Lab::enter();
    lab.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let images = store(&lab, dir.path());
        let wrong = "[host.\"https://m\"]\nclient = 1";
        hosts(dir.path(), "registry.invalid", wrong);
        let error = images.pull("registry.invalid/it:1", None).await;
        let words = error.unwrap_err().to_string();
        assert!(
            words.contains("hosts.toml: host \"https://m\": client: something is neither"),
            "{words}"
        );
    });
}

#[test]
fn a_download_that_breaks_off_goes_on() {
    let lab = Lab::enter();
    lab.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let images = store(&lab, dir.path());
        for ranges in [true, false] {
            let name = if ranges { "ranges" } else { "whole" };
            let layer = Layer::new().file(name, 0o644, &[7; 100_000]);
            let image = Image::new("it", serde_json::json!({}), vec![layer]);
            let bytes = image.layers[0].clone();
            let after = 30_000;
            let mut it = honest(&image, bytes.clone());
            it.put(
                &it.layer.clone(),
                Body::Torn {
                    bytes: bytes.clone(),
                    after,
                    ranges,
                },
            );
            let path = it.layer.clone();
            let liar = Liar::start(it.answers);
            let progress = Progress::default();
            let pulled = images
                .pull_showing(&liar.name("1"), None, progress.clone())
                .await;
            assert_eq!(pulled.unwrap().id, digest(&image.config));
            let times = {
                let asked = liar.asked.lock().unwrap();
                asked.iter().filter(|asked| asked.ends_with(&path)).count()
            };
            assert_eq!(times, bytes.len().div_ceil(after), "{name}");
            let (digest, size) = (digest(&bytes), bytes.len() as u64);
            let done = size;
            assert_eq!(
                progress.layers(),
                [LayerProgress {
                    digest,
                    done,
                    size,
                    complete: true
                }]
            );
        }
    });
}

#[test]
fn a_download_without_a_byte_more_is_given_up() {
    let lab = Lab::enter();
    lab.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let images = store(&lab, dir.path());
        let image = image();
        let bytes = image.layers[0].clone();
        let mut it = honest(&image, bytes.clone());
        it.put(
            &it.layer.clone(),
            Body::Torn {
                bytes,
                after: 0,
                ranges: false,
            },
        );
        let liar = Liar::start(it.answers);
        let error = images.pull(&liar.name("1"), None).await.unwrap_err();
        assert!(
            error.to_string().contains("error decoding response body"),
            "{error}"
        );
        assert_eq!(entries(&lab.config.root_dir.join("images/layers")), [""; 0]);
    });
}
