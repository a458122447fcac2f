//! Images from files: both layouts, and files that are no image.

use std::fs::{self, File};
use std::path::Path;

use vetch_runtime::*;

use crate::guard::{Lab, entries};
use crate::image::{Image, Layer, digest, header};
use crate::registry::{INDEX, MANIFEST, gzip};

fn write(path: &Path, members: &[(&str, &[u8])]) {
    let mut tar = tar::Builder::new(File::create(path).unwrap());
    for (name, bytes) in members {
        let mut header = header(tar::EntryType::Regular, 0o644, bytes.len() as u64);
        tar.append_data(&mut header, name, *bytes).unwrap();
    }
    tar.finish().unwrap();
}

fn blob(bytes: &[u8]) -> String {
    format!(
        "blobs/sha256/{}",
        digest(bytes).strip_prefix("sha256:").unwrap()
    )
}

fn described(kind: &str, bytes: &[u8]) -> serde_json::Value {
    serde_json::json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()})
}

fn image() -> Image {
    let layers = ["one", "two"].map(|name| Layer::new().file(name, 0o644, name.as_bytes()));
    Image::new(
        "vetch.local/it:1",
        serde_json::json!({"Cmd": ["/one"]}),
        layers.into(),
    )
}

/// Layout in a tar: index → index → manifest, as buildkit writes it.
fn oci(path: &Path, break_config: bool) {
    let image = image();
    let layers: Vec<Vec<u8>> = image.layers.iter().map(|layer| gzip(layer)).collect();
    let layer_kind = "application/vnd.oci.image.layer.v1.tar+gzip";
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "config": described("application/vnd.oci.image.config.v1+json", &image.config),
        "layers": layers.iter().map(|layer| described(layer_kind, layer)).collect::<Vec<_>>(),
    });
    let manifest = manifest.to_string().into_bytes();
    let inner = serde_json::json!({
        "schemaVersion": 2, "manifests": [described(MANIFEST, &manifest)],
    });
    let inner = inner.to_string().into_bytes();
    let mut entry = described(INDEX, &inner);
    entry["annotations"] = serde_json::json!({
        "io.containerd.image.name": "vetch.local/it:1",
        "org.opencontainers.image.ref.name": "1",
    });
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]});
    let index = index.to_string();
    let config: &[u8] = if break_config { b"{}" } else { &image.config };
    let mut members: Vec<(String, &[u8])> = vec![
        ("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#),
        ("index.json".into(), index.as_bytes()),
        (blob(&inner), &inner),
        (blob(&manifest), &manifest),
        (blob(&image.config), config),
    ];
    members.extend(layers.iter().map(|layer| (blob(layer), &layer[..])));
    let members: Vec<(&str, &[u8])> = members
        .iter()
        .map(|(name, bytes)| (&name[..], *bytes))
        .collect();
    write(path, &members);
}

#[test]
fn both_layouts_are_the_same_image() {
    let lab = Lab::enter();
    let images = ImageStore::open(&lab.config.root_dir).unwrap();
    lab.block_on(async {
        let (docker, layout) = (lab.path("docker.tar"), lab.path("oci.tar"));
        image().save(&docker);
        oci(&layout, false);
        let first = images.import(&docker).await.unwrap().remove(0);
        assert_eq!(first.id, digest(&image().config));
        assert_eq!(
            (&first.repo_tags[..], first.repo_digests.len()),
            (&["vetch.local/it:1".to_owned()][..], 0)
        );
        let second = images.import(&layout).await.unwrap().remove(0);
        assert_eq!(
            (&second.id, &second.repo_tags),
            (&first.id, &first.repo_tags)
        );
        assert_eq!(second.repo_digests.len(), 1);
        assert_eq!(images.list().await, [second]);
        let layers = lab.config.root_dir.join("images/layers");
        let contents = entries(&layers)
            .into_iter()
            .map(|layer| entries(&layers.join(layer)));
        let mut contents: Vec<Vec<String>> = contents.collect();
        contents.sort();
        assert_eq!(contents, [["one"], ["two"]]);
    });
}

#[test]
fn what_is_no_image_is_refused_whole() {
    let lab = Lab::enter();
    let images = ImageStore::open(&lab.config.root_dir).unwrap();
    let path = lab.path("bad.tar");
    let refused = |words: &str| {
        let error = lab.block_on(images.import(&path)).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("cannot import {}: ", path.display()))
                && error.contains(words),
            "{error:?}, not {words:?}"
        );
        assert_eq!(lab.block_on(images.list()), []);
    };
    refused("No such file or directory");
    fs::write(&path, gzip(b"anything")).unwrap();
    refused("");
    write(&path, &[("README", b"hello")]);
    refused("neither an OCI layout (index.json) nor a docker archive (manifest.json)");
    let manifest = br#"[{"Config":"config.json","RepoTags":["a:1"],"Layers":["gone.tar"]}]"#;
    write(
        &path,
        &[
            ("manifest.json", manifest),
            ("config.json", &image().config),
        ],
    );
    refused("mismatched image rootfs and manifest layers: 2 and 1");
    let manifest =
        br#"[{"Config":"config.json","RepoTags":["a:1"],"Layers":["a.tar","gone.tar"]}]"#;
    write(
        &path,
        &[
            ("manifest.json", manifest),
            ("config.json", &image().config),
            ("a.tar", &image().layers[0]),
        ],
    );
    refused("it lacks gone.tar");
    oci(&path, true);
    refused(&format!(
        "blob {} is {}",
        digest(&image().config),
        digest(b"{}")
    ));
}
