//! Disk images: ext4 file systems made of folders, and what a machine writes over them.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::steps::Step;
use crate::tools;

#[derive(Clone, Copy, Debug)]
pub enum Size {
    /// For a disk that is only read.
    Fitting,
    /// Bytes; the file is sparse.
    Of(u64),
}

/// Makes `image` hold the files of `folder`, with their owners.
pub fn make(step: &Step, folder: &Path, image: &Path, size: Size) -> Result<()> {
    let bytes = match size {
        Size::Of(bytes) => bytes,
        // Blocks, inodes and the journal come on top of the files.
        Size::Fitting => used(folder)? * 5 / 4 + (32 << 20),
    };
    let draft = image.with_extension("draft");
    File::create(&draft)
        .and_then(|file| file.set_len(bytes))
        .with_context(|| format!("create {}", draft.display()))?;
    let mut command = Command::new("mkfs.ext4");
    command
        .args(["-q", "-F", "-d"])
        .args([folder, &draft])
        .env("PATH", crate::process::search_path())
        .stdin(Stdio::null());
    tools::run(step, &mut command).with_context(|| format!("make {}", image.display()))?;
    fs::rename(&draft, image).with_context(|| format!("create {}", image.display()))
}

/// A disk that reads as `base` until something else is written.
pub fn over(base: &Path, image: &Path) -> Result<()> {
    let output = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
        .args([base, image])
        .stdin(Stdio::null())
        .output()
        .context("run qemu-img")?;
    anyhow::ensure!(
        output.status.success(),
        "qemu-img: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

fn used(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    let mut pending = vec![folder.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
            let entry = entry?;
            let data = entry.metadata()?;
            // At least a block each.
            sum += data.len().max(4096);
            if data.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    Ok(sum)
}
