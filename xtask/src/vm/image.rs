//! The machines' root file system: Debian with systemd, etcd and Vetch's own packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};

use super::disk::{self, Size};
use crate::paths::Tree;
use crate::steps::Step;
use crate::{debian, image, package, tools};

const SUITE: &str = "bookworm";
/// Beside Debian's essential packages.
const PACKAGES: &str = "systemd-sysv,dbus,udev,kmod,iproute2,procps,curl,nftables,openssh-server,etcd-server,ca-certificates,apparmor,e2fsprogs";
/// Written sparsely: only what is used takes room.
const DISK: u64 = 4 << 30;

/// Files that all machines have.
const FILES: [(&str, &str); 4] = [
    // To the host by a paravirtual console of its own: the serial port is slow, and the kernel's.
    (
        "etc/systemd/journald.conf.d/vetch.conf",
        "[Journal]\nStorage=persistent\nForwardToConsole=yes\nTTYPath=/dev/hvc0\nMaxLevelConsole=debug\nRateLimitIntervalSec=0\n",
    ),
    (
        "etc/ssh/sshd_config.d/vetch.conf",
        "UseDNS no\nMaxSessions 64\nMaxStartups 64\n",
    ),
    // Processes that end at a reboot are killed soon: nobody waits for them.
    (
        "etc/systemd/system.conf.d/vetch.conf",
        "[Manager]\nDefaultTimeoutStopSec=10s\n",
    ),
    ("etc/fstab", ""),
];

#[derive(Debug)]
pub struct RootImage {
    pub disk: PathBuf,
}

/// Made anew when a program has changed.
pub fn make(step: &Step, tree: &Tree, cache: &Path) -> Result<RootImage> {
    let system = debian_system(step, cache)?;
    let packages = package::all(step, tree)?;
    let archive = tree.echo_image();
    image::write(&tree.echo(), &archive)?;
    let folder = tree.target().join("vm");
    let made = RootImage {
        disk: folder.join("root.ext4"),
    };
    let stamp = folder.join("root.stamp");
    let inputs = digest(
        &[&packages[0], &packages[1], &archive, &tree.echo()],
        &system,
    )?;
    if made.disk.exists() && tools::read(&stamp) == inputs {
        return Ok(made);
    }
    step.tell("the machines' root file system");
    let root = folder.join("root");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("remove {}", root.display()))?;
    }
    fs::create_dir_all(&root).with_context(|| format!("create {}", root.display()))?;
    let mut unpack = Command::new("tar");
    unpack
        .args([
            "--extract",
            "--numeric-owner",
            "--xattrs",
            "--xattrs-include=*",
            "--file",
        ])
        .arg(&system)
        .arg("--directory")
        .arg(&root);
    run(step, &mut unpack)?;
    let mut install = Command::new("dpkg");
    install.arg(format!("--root={}", root.display()));
    // Of Debian's own system the two libraries they need are there.
    install.arg("--install").args(&packages);
    run(step, &mut install)?;
    for (path, content) in FILES {
        let path = root.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
    }
    let mut services = Command::new("systemctl");
    services.arg(format!("--root={}", root.display())).args([
        "enable",
        "systemd-networkd.service",
        "ssh.service",
    ]);
    run(step, &mut services)?;
    let mut none = Command::new("systemctl");
    none.arg(format!("--root={}", root.display()))
        .args(["disable", "etcd.service"]);
    run(step, &mut none)?;
    fs::create_dir_all(root.join("lib/modules"))?;
    fs::copy(tree.echo(), root.join("usr/bin/vetch-echo"))?;
    fs::copy(&archive, root.join("usr/share/vetch-echo.tar"))?;
    let mut import = Command::new(tree.daemon("vetch-node"));
    import
        .args(["image", "import", "--root-dir"])
        .arg(root.join("var/lib/vetch"))
        .arg(&archive);
    run(step, &mut import)?;
    disk::make(step, &root, &made.disk, Size::Of(DISK))?;
    fs::remove_dir_all(&root)?;
    fs::write(&stamp, inputs).with_context(|| format!("write {}", stamp.display()))?;
    Ok(made)
}

/// Debian's packages alone, fetched once.
fn debian_system(step: &Step, cache: &Path) -> Result<PathBuf> {
    let name = Sha256::digest(format!("{SUITE} {PACKAGES}"));
    let system = cache
        .join("systems")
        .join(format!("{SUITE}-{}.tar", hex(&name)));
    if system.exists() {
        return Ok(system);
    }
    step.tell(&format!("fetching Debian {SUITE} for the machines"));
    let draft = system.with_extension("draft.tar");
    fs::create_dir_all(system.parent().unwrap_or(cache))?;
    let mut bootstrap = Command::new("mmdebstrap");
    bootstrap
        .arg("--variant=essential")
        .arg(format!("--include={PACKAGES}"))
        // Nobody reads them there.
        .arg("--dpkgopt=path-exclude=/usr/share/doc/*")
        .arg("--dpkgopt=path-exclude=/usr/share/man/*")
        .arg("--dpkgopt=path-exclude=/usr/share/locale/*")
        .arg(SUITE)
        .arg(&draft)
        .arg(debian::mirror()?);
    run(step, &mut bootstrap)?;
    fs::rename(&draft, &system).with_context(|| format!("create {}", system.display()))?;
    Ok(system)
}

fn digest(files: &[&Path], system: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(system.to_string_lossy().as_bytes());
    for (path, content) in FILES {
        hash.update(path);
        hash.update(content);
    }
    for file in files {
        hash.update(fs::read(file).with_context(|| format!("read {}", file.display()))?);
    }
    Ok(hex(&hash.finalize()))
}

fn hex(digest: &[u8]) -> String {
    digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn run(step: &Step, command: &mut Command) -> Result<()> {
    command
        .env("PATH", crate::process::search_path())
        .stdin(Stdio::null());
    tools::run(step, command)
}

/// What a machine's root file system cannot be made without.
pub fn check() -> Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "not root: the machines' root file system has files of several owners; run it as root"
    );
    Ok(())
}
