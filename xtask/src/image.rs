//! The echo image: our static echo server and busybox's tools, as an archive that every node's
//! store imports. Needs neither registry nor internet.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use sha2::{Digest as _, Sha256};

const REPOSITORY: &str = "vetch.local/echo";
const VERSIONS: [&str; 2] = ["v1", "v2"];
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";

/// Where Debian's busybox-static puts it, on old and on merged file systems.
const BUSYBOX: [&str; 2] = ["/bin/busybox", "/usr/bin/busybox"];

/// A busybox that runs in an image without libraries.
pub fn static_busybox() -> Option<PathBuf> {
    BUSYBOX
        .iter()
        .map(PathBuf::from)
        .find(|path| fs::read(path).is_ok_and(|program| is_static(&program)))
}

/// An ELF file of 64 bits whose program headers name no loader: elf(5).
fn is_static(program: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    let number = |at: usize, length: usize| -> Option<usize> {
        let bytes = program.get(at..at.checked_add(length)?)?;
        let value = bytes.iter().rev().try_fold(0_u64, |value, byte| {
            value.checked_mul(256)?.checked_add(u64::from(*byte))
        })?;
        usize::try_from(value).ok()
    };
    let headers = || -> Option<Vec<usize>> {
        let (first, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        (0..count)
            .map(|header| number(first.checked_add(header * size)?, 4))
            .collect()
    };
    program.starts_with(b"\x7fELF")
        && headers()
            .is_some_and(|kinds| !kinds.is_empty() && !kinds.contains(&(PT_INTERP as usize)))
}

/// Writes the archive and returns its digest, which says whether a store has it already.
pub fn write(echo: &Path, archive: &Path) -> Result<String> {
    let busybox = static_busybox()
        .context("there is no static busybox: run `apt-get install busybox-static`")?;
    let output = Command::new(&busybox)
        .arg("--list")
        .output()
        .context("list busybox's tools")?;
    ensure!(output.status.success(), "busybox --list: {}", output.status);
    let tools = String::from_utf8(output.stdout)?;
    let program = fs::read(echo).with_context(|| format!("read {}", echo.display()))?;
    if !is_static(&program) {
        bail!("{} is not static: run `cargo xtask build`", echo.display());
    }
    let layers = [
        tools_layer(&fs::read(&busybox)?, tools.lines())?,
        file_layer("echo", &program)?,
    ];
    let bytes = archive_of(&layers)?;
    let digest = hex(&bytes);
    if fs::read(archive).is_ok_and(|before| before == bytes) {
        return Ok(digest);
    }
    if let Some(parent) = archive.parent() {
        fs::create_dir_all(parent)?;
    }
    let draft = archive.with_extension("tmp");
    fs::write(&draft, bytes).with_context(|| format!("write {}", draft.display()))?;
    fs::rename(&draft, archive).with_context(|| format!("write {}", archive.display()))?;
    Ok(digest)
}

/// As `docker save` writes images that share layers.
fn archive_of(layers: &[Vec<u8>]) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let names: Vec<String> = layers
        .iter()
        .map(|layer| format!("{}.tar", hex(layer)))
        .collect();
    for (name, layer) in names.iter().zip(layers) {
        append(&mut archive, name, layer, 0o644)?;
    }
    let mut manifest = Vec::new();
    for version in VERSIONS {
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Entrypoint": ["/echo"],
                "Env": ["PATH=/bin", format!("VERSION={version}")],
                "WorkingDir": "/",
            },
            "rootfs": {
                "type": "layers",
                "diff_ids": layers.iter().map(|layer| format!("sha256:{}", hex(layer))).collect::<Vec<_>>(),
            },
        })
        .to_string();
        let name = format!("{}.json", hex(config.as_bytes()));
        append(&mut archive, &name, config.as_bytes(), 0o644)?;
        manifest.push(json!({
            "Config": name,
            "RepoTags": [format!("{REPOSITORY}:{version}")],
            "Layers": names,
        }));
    }
    append(
        &mut archive,
        "manifest.json",
        json!(manifest).to_string().as_bytes(),
        0o644,
    )?;
    Ok(archive.into_inner()?)
}

fn tools_layer<'a>(busybox: &[u8], tools: impl Iterator<Item = &'a str>) -> Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::new());
    for (dir, mode) in [
        ("bin", 0o755),
        ("etc", 0o755),
        ("root", 0o700),
        ("tmp", 0o1777),
    ] {
        let mut header = header(0, mode);
        header.set_entry_type(tar::EntryType::Directory);
        layer.append_data(&mut header, format!("{dir}/"), std::io::empty())?;
    }
    append(&mut layer, "etc/passwd", PASSWD.as_bytes(), 0o644)?;
    append(&mut layer, "etc/group", GROUP.as_bytes(), 0o644)?;
    append(&mut layer, "bin/busybox", busybox, 0o755)?;
    for tool in tools.filter(|tool| !tool.is_empty() && *tool != "busybox") {
        let mut header = header(0, 0o777);
        header.set_entry_type(tar::EntryType::Symlink);
        layer.append_link(&mut header, format!("bin/{tool}"), "busybox")?;
    }
    Ok(layer.into_inner()?)
}

fn file_layer(name: &str, content: &[u8]) -> Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::new());
    append(&mut layer, name, content, 0o755)?;
    Ok(layer.into_inner()?)
}

fn append(
    archive: &mut tar::Builder<Vec<u8>>,
    name: &str,
    content: &[u8],
    mode: u32,
) -> Result<()> {
    archive
        .append_data(&mut header(content.len() as u64, mode), name, content)
        .with_context(|| format!("archive {name}"))
}

/// The same at every build: no owner, no time.
fn header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// As OCI names them.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The digest of the archive in `path`'s store, if any was imported.
pub fn imported(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

pub fn record_import(path: &Path, digest: &str) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    File::create(path)?;
    fs::write(path, digest).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read as _;

    use super::*;

    fn members(archive: &[u8]) -> BTreeMap<String, (tar::Header, Vec<u8>)> {
        tar::Archive::new(archive)
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let name = entry.path().unwrap().to_string_lossy().into_owned();
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                (name, (entry.header().clone(), content))
            })
            .collect()
    }

    #[test]
    fn both_versions_share_their_layers_and_differ_in_the_environment() {
        let layers = [
            tools_layer(b"program", ["busybox", "sh", "cat"].into_iter()).unwrap(),
            file_layer("echo", b"server").unwrap(),
        ];
        let archive = archive_of(&layers).unwrap();
        assert_eq!(archive, archive_of(&layers).unwrap(), "not reproducible");
        let members = members(&archive);
        let manifest: serde_json::Value =
            serde_json::from_slice(&members["manifest.json"].1).unwrap();
        let config = |image: &serde_json::Value| -> serde_json::Value {
            serde_json::from_slice(&members[image["Config"].as_str().unwrap()].1).unwrap()
        };
        let images = manifest.as_array().unwrap();
        assert_eq!(images.len(), 2);
        assert_eq!(images[0]["Layers"], images[1]["Layers"]);
        for (image, version) in images.iter().zip(VERSIONS) {
            assert_eq!(image["RepoTags"][0], format!("vetch.local/echo:{version}"));
            let config = config(image);
            assert_eq!(
                config["config"]["Env"],
                json!(["PATH=/bin", format!("VERSION={version}")])
            );
            let layers = image["Layers"].as_array().unwrap();
            for (layer, diff_id) in layers
                .iter()
                .zip(config["rootfs"]["diff_ids"].as_array().unwrap())
            {
                let content = &members[layer.as_str().unwrap()].1;
                assert_eq!(*diff_id, format!("sha256:{}", hex(content)));
            }
        }
    }

    #[test]
    fn tools_are_links_and_everybody_may_write_to_tmp() {
        let layer =
            members(&tools_layer(b"program", ["busybox", "sh", "[", ""].into_iter()).unwrap());
        assert_eq!(layer["bin/busybox"].1, b"program");
        assert_eq!(layer["tmp/"].0.mode().unwrap(), 0o1777);
        for tool in ["bin/sh", "bin/["] {
            let header = &layer[tool].0;
            assert_eq!(header.link_name().unwrap().unwrap(), Path::new("busybox"));
        }
    }

    #[test]
    fn a_program_with_a_loader_is_not_static() {
        assert!(!is_static(
            &fs::read(std::env::current_exe().unwrap()).unwrap()
        ));
        assert!(!is_static(b"\x7fELF"));
        assert!(!is_static(b"#!/bin/sh"));
        let busybox = static_busybox().expect("busybox-static, which `up` installs");
        assert!(is_static(&fs::read(busybox).unwrap()));
    }
}
