use std::collections::BTreeMap;
use std::io::Read as _;

use serde_json::Value;

use super::*;

fn members(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    tar::Archive::new(archive)
        .entries()
        .unwrap()
        .map(|entry| {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_string_lossy().into_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (name, content)
        })
        .collect()
}

fn layer(name: &str, content: &[u8]) -> Vec<u8> {
    let mut layer = Layer::new();
    layer.file(name, content, 0o755).unwrap();
    layer.finish().unwrap()
}

#[test]
fn images_of_one_archive_share_their_layers() {
    let layers = [layer("a", b"one"), layer("b", b"two")];
    let images = ["v1", "v2"].map(|version| Image {
        reference: format!("vetch.local/x:{version}"),
        entrypoint: "/a",
        env: vec![format!("VERSION={version}")],
    });
    let bytes = archive(&layers, &images).unwrap();
    assert_eq!(
        bytes,
        archive(&layers, &images).unwrap(),
        "not reproducible"
    );
    let members = members(&bytes);
    let manifest: Value = serde_json::from_slice(&members["manifest.json"]).unwrap();
    assert_eq!(manifest[0]["Layers"], manifest[1]["Layers"]);
    for (described, image) in manifest.as_array().unwrap().iter().zip(&images) {
        assert_eq!(described["RepoTags"][0], image.reference);
        let config: Value =
            serde_json::from_slice(&members[described["Config"].as_str().unwrap()]).unwrap();
        assert_eq!(config["config"]["Entrypoint"][0], "/a");
        assert_eq!(config["config"]["Env"][0], image.env[0]);
        let names = described["Layers"].as_array().unwrap();
        let diff_ids = config["rootfs"]["diff_ids"].as_array().unwrap();
        assert_eq!(names.len(), 2);
        for (name, diff_id) in names.iter().zip(diff_ids) {
            let content = &members[name.as_str().unwrap()];
            assert_eq!(*diff_id, format!("sha256:{}", digest(content)));
        }
    }
}

#[test]
fn an_archive_that_is_there_is_not_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/x.tar");
    write(&path, b"one").unwrap();
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let before = inode(&path);
    write(&path, b"one").unwrap();
    assert_eq!(inode(&path), before);
    write(&path, b"two").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"two");
}
