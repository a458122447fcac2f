//! What this machine must be before anything is made on it.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::mounts::Mount;
use crate::paths::{Profile, Tree};
use crate::up;

/// The oldest kernel that has all the hooks: Debian 12's.
const KERNEL: (u32, u32) = (6, 1);

/// The checkout that this program was built from: its release build, unless another is told of.
pub fn tree() -> Tree {
    let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut tree = Tree::at(package.parent().map(PathBuf::from).unwrap_or_default());
    if std::env::var_os(up::PREBUILT).is_some_and(|folder| folder == Profile::Dev.folder()) {
        tree.profile = Profile::Dev;
    }
    tree
}

pub fn require_root() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("not root: nodes are namespaces and cgroups of this machine; run it as root");
    }
    Ok(())
}

/// Where the cgroup v2 hierarchy is mounted.
pub fn cgroup_mount() -> Result<PathBuf> {
    Mount::all("self")?
        .into_iter()
        .find(|mount| mount.kind == "cgroup2")
        .map(|mount| mount.point)
        .context(
            "no cgroup v2 is mounted: run `mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified`, \
             or boot with systemd.unified_cgroup_hierarchy=1",
        )
}

pub fn require_kernel() -> Result<()> {
    let release = nix::sys::utsname::uname()?
        .release()
        .to_string_lossy()
        .into_owned();
    check_kernel(&release)
}

fn check_kernel(release: &str) -> Result<()> {
    let mut numbers = release
        .split(|byte: char| !byte.is_ascii_digit())
        .map_while(|part| part.parse().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < KERNEL {
        let (major, minor) = KERNEL;
        bail!(
            "kernel {release} is too old: boot {major}.{minor} or newer (Debian 12: apt-get install linux-image-amd64)"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_from_6_1_on_will_do() {
        for release in [
            "6.1.0-37-cloud-amd64",
            "6.1",
            "6.18.44-fc",
            "7.0.0",
            "10.2-rc1",
        ] {
            assert!(check_kernel(release).is_ok(), "{release}");
        }
        for release in ["6.0.12", "5.10.0-35-amd64", "4.19", "what"] {
            let error = check_kernel(release).unwrap_err().to_string();
            assert!(
                error.contains(release) && error.contains("boot 6.1"),
                "{error}"
            );
        }
    }
}
