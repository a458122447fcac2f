//! What the kernel starts from: busybox, the disks' drivers, and the files one machine alone has.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result};
use cpio::NewcBuilder;
use cpio::newc::trailer;

use super::kernel::Kernel;
use super::modules;
use super::seed::Seed;

/// What the root file system is reached by.
const DRIVERS: [&str; 3] = ["virtio_pci", "virtio_blk", "ext4"];
/// Busybox's tools that `init.sh` calls.
const TOOLS: [&str; 8] = [
    "sh",
    "mount",
    "umount",
    "insmod",
    "cp",
    "echo",
    "switch_root",
    "cat",
];
const INIT: &[u8] = include_bytes!("init.sh");

const FILE: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;

/// The archive of this machine, in the kernel's own format (newc).
pub fn make(kernel: &Kernel, busybox: &Path, seed: &Seed) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for dir in ["dev", "proc", "sys", "root", "seed"] {
        archive.directory(Path::new(dir))?;
    }
    archive.file("init", INIT, 0o755)?;
    archive.file("bin/busybox", &read(busybox)?, 0o755)?;
    for tool in TOOLS {
        archive.symlink(&format!("bin/{tool}"), "busybox")?;
    }
    let order = modules::in_order(
        &kernel.list("modules.dep")?,
        &kernel.list("modules.builtin")?,
        &DRIVERS,
    )?;
    let mut names = String::new();
    for (number, path) in order.iter().enumerate() {
        let name = format!("{number}.ko");
        let bytes = plain(path, read(&kernel.module(path))?)?;
        archive.file(&format!("modules/{name}"), &bytes, 0o644)?;
        names.push_str(&name);
        names.push('\n');
    }
    archive.file("modules/order", names.as_bytes(), 0o644)?;
    for file in &seed.files {
        let path = format!("seed/{}", file.path.trim_start_matches('/'));
        archive.file(&path, &file.content, file.mode)?;
    }
    for (path, target) in &seed.links {
        archive.symlink(&format!("seed/{}", path.trim_start_matches('/')), target)?;
    }
    archive.finish()
}

/// Debian packs modules from kernel 6.6 on.
fn plain(path: &str, bytes: Vec<u8>) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    match path.rsplit('.').next() {
        Some("xz") => lzma_rs::xz_decompress(&mut bytes.as_slice(), &mut out)
            .map_err(|error| anyhow::anyhow!("{error:?}"))
            .with_context(|| format!("unpack {path}"))?,
        Some("zst") => {
            out = zstd::decode_all(bytes.as_slice()).with_context(|| format!("unpack {path}"))?
        }
        _ => out = bytes,
    }
    Ok(out)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("read {}", path.display()))
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    directories: BTreeSet<PathBuf>,
    entries: u32,
}

impl Archive {
    fn file(&mut self, path: &str, content: &[u8], mode: u32) -> Result<()> {
        self.parents(Path::new(path))?;
        self.entry(path, FILE | mode, content)
    }

    fn symlink(&mut self, path: &str, target: &str) -> Result<()> {
        self.parents(Path::new(path))?;
        self.entry(path, SYMLINK | 0o777, target.as_bytes())
    }

    fn parents(&mut self, path: &Path) -> Result<()> {
        let Some(parent) = path.parent() else {
            return Ok(());
        };
        let mut so_far = PathBuf::new();
        for part in parent.components() {
            if let Component::Normal(name) = part {
                so_far.push(name);
                self.directory(&so_far)?;
            }
        }
        Ok(())
    }

    fn directory(&mut self, path: &Path) -> Result<()> {
        if !self.directories.insert(path.to_owned()) {
            return Ok(());
        }
        // sshd refuses keys that others could read.
        let private = path.ends_with("root/.ssh");
        let mode = if private { 0o700 } else { 0o755 };
        self.entry(&path.to_string_lossy(), DIRECTORY | mode, &[])
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.entries += 1;
        let builder = NewcBuilder::new(path).ino(self.entries).mode(mode).nlink(1);
        let mut writer = builder.write(&mut self.bytes, u32::try_from(content.len())?);
        writer.write_all(content)?;
        writer.finish()?;
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<u8>> {
        trailer(&mut self.bytes)?;
        Ok(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_comes_after_its_folders_which_come_once() {
        let mut archive = Archive::default();
        archive.file("seed/etc/a", b"1", 0o644).unwrap();
        archive.file("seed/etc/b", b"22", 0o600).unwrap();
        archive.symlink("seed/etc/c", "b").unwrap();
        let bytes = archive.finish().unwrap();
        let mut rest = bytes.as_slice();
        let mut seen = Vec::new();
        loop {
            let reader = cpio::NewcReader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            seen.push((reader.entry().name().to_owned(), reader.entry().mode()));
            rest = reader.finish().unwrap();
        }
        assert_eq!(
            seen,
            [
                ("seed".into(), 0o040_755),
                ("seed/etc".into(), 0o040_755),
                ("seed/etc/a".into(), 0o100_644),
                ("seed/etc/b".into(), 0o100_600),
                ("seed/etc/c".into(), 0o120_777),
            ]
        );
    }

    #[test]
    fn every_tool_of_the_script_is_there() {
        let script = std::str::from_utf8(INIT).unwrap();
        for tool in ["mount", "umount", "insmod", "cp", "switch_root"] {
            assert!(script.contains(tool) && TOOLS.contains(&tool), "{tool}");
        }
    }
}
