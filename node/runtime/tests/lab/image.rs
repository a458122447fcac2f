//! Images made by hand, layer by layer.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use sha2::{Digest, Sha256};

pub const BUSYBOX: &str = "vetch.local/busybox:1";

/// A layer's tar, not compressed.
pub struct Layer {
    tar: tar::Builder<Vec<u8>>,
}

pub fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header.set_size(size);
    header
}

impl Layer {
    pub fn new() -> Layer {
        Layer {
            tar: tar::Builder::new(Vec::new()),
        }
    }

    pub fn dir(mut self, path: &str, mode: u32) -> Layer {
        let mut header = header(tar::EntryType::Directory, mode, 0);
        self.tar.append_data(&mut header, path, &[][..]).unwrap();
        self
    }

    pub fn file(mut self, path: &str, mode: u32, content: &[u8]) -> Layer {
        let mut header = header(tar::EntryType::Regular, mode, content.len() as u64);
        self.tar.append_data(&mut header, path, content).unwrap();
        self
    }

    pub fn link(mut self, kind: tar::EntryType, path: &str, target: &str) -> Layer {
        let mut header = header(kind, 0o777, 0);
        self.tar.append_link(&mut header, path, target).unwrap();
        self
    }

    fn bytes(self) -> Vec<u8> {
        self.tar.into_inner().unwrap()
    }
}

pub struct Image {
    pub name: String,
    pub config: Vec<u8>,
    pub layers: Vec<Vec<u8>>,
}

pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

impl Image {
    /// `process` is the config's own `config`.
    pub fn new(name: &str, process: serde_json::Value, layers: Vec<Layer>) -> Image {
        let layers: Vec<Vec<u8>> = layers.into_iter().map(Layer::bytes).collect();
        let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "config": process,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        Image {
            name: name.into(),
            config: config.to_string().into_bytes(),
            layers,
        }
    }

    /// What `docker save` writes.
    pub fn save(&self, path: &Path) {
        let mut tar = tar::Builder::new(File::create(path).unwrap());
        let mut add = |name: &str, bytes: &[u8]| {
            let mut header = header(tar::EntryType::Regular, 0o644, bytes.len() as u64);
            tar.append_data(&mut header, name, bytes).unwrap();
        };
        let names: Vec<String> = self
            .layers
            .iter()
            .map(|layer| format!("{}/layer.tar", digest(layer).replace(':', "-")))
            .collect();
        for (name, layer) in names.iter().zip(&self.layers) {
            add(name, layer);
        }
        add("config.json", &self.config);
        let manifest = serde_json::json!([
            {"Config": "config.json", "RepoTags": [self.name], "Layers": names}
        ]);
        add("manifest.json", manifest.to_string().as_bytes());
        tar.finish().unwrap();
    }
}

/// Debian's static busybox with all its applets.
pub fn busybox() -> Image {
    Image::new(
        BUSYBOX,
        serde_json::json!({"Env": ["PATH=/bin"], "Cmd": ["sh"]}),
        vec![busybox_layer()],
    )
}

pub fn busybox_layer() -> Layer {
    let program = std::fs::read("/bin/busybox").expect("Debian's busybox-static");
    let list = Command::new("/bin/busybox").arg("--list").output().unwrap();
    let mut layer = Layer::new()
        .dir("bin", 0o755)
        .dir("etc", 0o755)
        .dir("tmp", 0o1777)
        .file("bin/busybox", 0o755, &program)
        .file(
            "etc/passwd",
            0o644,
            b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n",
        )
        .file("etc/group", 0o644, b"root:x:0:\nlogs:x:40:web\n");
    for applet in String::from_utf8(list.stdout).unwrap().lines() {
        if applet != "busybox" {
            let path = format!("bin/{applet}");
            layer = layer.link(tar::EntryType::Symlink, &path, "busybox");
        }
    }
    layer
}
