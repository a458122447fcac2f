//! Debian's static busybox as an image, in a tar as `docker save` writes it.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use sha2::{Digest, Sha256};

pub const BUSYBOX: &str = "vetch.local/busybox:1";

/// Its one layer, and its configuration.
pub fn busybox() -> (Vec<u8>, Vec<u8>) {
    let layer = layer();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    });
    (layer, config.to_string().into_bytes())
}

pub fn save_busybox(path: &Path) {
    let (layer, config) = busybox();
    let manifest = serde_json::json!([
        {"Config": "config.json", "RepoTags": [BUSYBOX], "Layers": ["layer.tar"]}
    ]);
    let mut tar = tar::Builder::new(File::create(path).unwrap());
    for (name, bytes) in [
        ("layer.tar", layer),
        ("config.json", config),
        ("manifest.json", manifest.to_string().into_bytes()),
    ] {
        let mut header = header(tar::EntryType::Regular, 0o644, bytes.len() as u64);
        tar.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    tar.finish().unwrap();
}

fn layer() -> Vec<u8> {
    let program = std::fs::read("/bin/busybox").expect("Debian's busybox-static");
    let list = Command::new("/bin/busybox").arg("--list").output().unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    for (dir, mode) in [("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777)] {
        let mut header = header(tar::EntryType::Directory, mode, 0);
        tar.append_data(&mut header, dir, &[][..]).unwrap();
    }
    let mut header = header(tar::EntryType::Regular, 0o755, program.len() as u64);
    tar.append_data(&mut header, "bin/busybox", &program[..])
        .unwrap();
    for applet in String::from_utf8(list.stdout).unwrap().lines() {
        if applet != "busybox" {
            let mut header = self::header(tar::EntryType::Symlink, 0o777, 0);
            tar.append_link(&mut header, format!("bin/{applet}"), "busybox")
                .unwrap();
        }
    }
    tar.into_inner().unwrap()
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header.set_size(size);
    header
}

pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}
