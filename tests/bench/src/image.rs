//! The load image: one static program.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use vetch_archive::{Image, Layer};

/// What the nodes of `up` have it as.
pub const REFERENCE: &str = "vetch.local/load:v1";
const PROGRAM: &str = "vetch-load";

/// Writes the archive; `load` is looked for where it is built when it is not named.
pub fn write(load: Option<&Path>, reference: &str, out: &Path) -> Result<()> {
    let load = match load {
        Some(load) => load.to_owned(),
        None => built()?,
    };
    let program = fs::read(&load).with_context(|| format!("read {}", load.display()))?;
    ensure!(
        vetch_archive::is_static(&program),
        "{} is not a static program: `cargo xtask bench` builds one",
        load.display()
    );
    let mut layer = Layer::new();
    layer.file(PROGRAM, &program, 0o755)?;
    let image = Image {
        reference: reference.to_owned(),
        entrypoint: "/vetch-load",
        env: Vec::new(),
    };
    let archive = vetch_archive::archive(&[layer.finish()?], &[image])?;
    vetch_archive::write(out, &archive).with_context(|| format!("write {}", out.display()))
}

/// `target/release/vetch-bench` → `target/<triple>/release/vetch-load`.
fn built() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    own.ancestors()
        .skip(2)
        .take(2)
        .map(|target| target.join(&triple).join("release").join(PROGRAM))
        .find(|path| path.exists())
        .with_context(|| format!("{PROGRAM} is not built: name it with --load"))
}
