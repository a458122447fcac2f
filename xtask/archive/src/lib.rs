//! Image archives, as `docker save` writes them, made of static programs: what a node's store (and
//! every other container runtime) imports without registry or internet.
//!
//! The same content gives the same bytes: no owner, no time.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::json;
use sha2::{Digest as _, Sha256};

mod elf;
mod layer;

pub use elf::is_static;
pub use layer::Layer;

/// One image of an archive; all of an archive have the same layers.
#[derive(Clone, Debug)]
pub struct Image<'a> {
    /// As pods name it, tag included.
    pub reference: String,
    /// A path in the layers.
    pub entrypoint: &'a str,
    /// `KEY=value`.
    pub env: Vec<String>,
}

/// The archive's bytes.
pub fn archive(layers: &[Vec<u8>], images: &[Image<'_>]) -> io::Result<Vec<u8>> {
    let mut archive = Layer::new();
    let names: Vec<String> = layers
        .iter()
        .map(|layer| format!("{}.tar", digest(layer)))
        .collect();
    for (name, layer) in names.iter().zip(layers) {
        archive.file(name, layer, 0o644)?;
    }
    let diff_ids: Vec<String> = layers
        .iter()
        .map(|layer| format!("sha256:{}", digest(layer)))
        .collect();
    let mut manifest = Vec::new();
    for image in images {
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Entrypoint": [image.entrypoint],
                "Env": image.env,
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        })
        .to_string();
        let name = format!("{}.json", digest(config.as_bytes()));
        archive.file(&name, config.as_bytes(), 0o644)?;
        manifest.push(json!({
            "Config": name,
            "RepoTags": [image.reference],
            "Layers": names,
        }));
    }
    archive.file(
        "manifest.json",
        json!(manifest).to_string().as_bytes(),
        0o644,
    )?;
    archive.finish()
}

/// SHA-256 in hexadecimal digits: says whether a store has these bytes already.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Whole or not at all, and not touched when it holds these bytes.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::read(path).is_ok_and(|before| before == bytes) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let draft = path.with_extension("tmp");
    fs::write(&draft, bytes)?;
    fs::rename(&draft, path)
}

/// As OCI names them.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests;
