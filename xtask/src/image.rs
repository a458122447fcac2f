//! The images that every node's store imports: the echo image, which is our static echo server and
//! busybox's tools, and the benchmark's load image.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use vetch_archive::{Image, Layer, is_static};

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
    let mut server = Layer::new();
    server.file("echo", &program, 0o755)?;
    let layers = [
        tools_layer(&fs::read(&busybox)?, tools.lines())?,
        server.finish()?,
    ];
    let bytes = vetch_archive::archive(&layers, &images())?;
    vetch_archive::write(archive, &bytes)
        .with_context(|| format!("write {}", archive.display()))?;
    Ok(vetch_archive::digest(&bytes))
}

/// They differ in the environment alone, so that an update has something to roll out.
fn images() -> [Image<'static>; 2] {
    VERSIONS.map(|version| Image {
        reference: format!("{REPOSITORY}:{version}"),
        entrypoint: "/echo",
        env: vec!["PATH=/bin".into(), format!("VERSION={version}")],
    })
}

fn tools_layer<'a>(busybox: &[u8], tools: impl Iterator<Item = &'a str>) -> Result<Vec<u8>> {
    let mut layer = Layer::new();
    for (dir, mode) in [
        ("bin", 0o755),
        ("etc", 0o755),
        ("root", 0o700),
        ("tmp", 0o1777),
    ] {
        layer.directory(dir, mode)?;
    }
    layer.file("etc/passwd", PASSWD.as_bytes(), 0o644)?;
    layer.file("etc/group", GROUP.as_bytes(), 0o644)?;
    layer.file("bin/busybox", busybox, 0o755)?;
    for tool in tools.filter(|tool| !tool.is_empty() && *tool != "busybox") {
        layer.link(&format!("bin/{tool}"), "busybox")?;
    }
    Ok(layer.finish()?)
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
    fn versions_differ_in_the_environment() {
        let [one, two] = images();
        assert_eq!(one.reference, "vetch.local/echo:v1");
        assert_eq!(one.env, ["PATH=/bin", "VERSION=v1"]);
        assert_eq!(two.env, ["PATH=/bin", "VERSION=v2"]);
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
    fn busybox_is_static() {
        let busybox = static_busybox().expect("busybox-static, which `up` installs");
        assert!(is_static(&fs::read(busybox).unwrap()));
    }
}
