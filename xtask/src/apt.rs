//! What `up`, `build` and `test` need of Debian, and how it gets here.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::steps::Step;
use crate::{image, process, tools};

/// What shows that a package's part is here; not only by that package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    Program(&'static str),
    File(&'static str),
    /// A busybox that runs in an image without libraries.
    StaticBusybox,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    pub proof: Proof,
    pub package: &'static str,
}

const fn program(name: &'static str, package: &'static str) -> Need {
    Need {
        proof: Proof::Program(name),
        package,
    }
}

const fn file(path: &'static str, package: &'static str) -> Need {
    Need {
        proof: Proof::File(path),
        package,
    }
}

/// For the daemons' build: protoc, for etcd's client.
pub const BUILD: &[Need] = &[
    program("cc", "gcc"),
    file("/usr/include/stdlib.h", "libc6-dev"),
    program("protoc", "protobuf-compiler"),
    file(
        "/usr/include/google/protobuf/descriptor.proto",
        "libprotobuf-dev",
    ),
];

/// For a cluster.
pub const RUN: &[Need] = &[
    program("etcd", "etcd-server"),
    program("kubectl", "kubernetes-client"),
    program("curl", "curl"),
    Need {
        proof: Proof::StaticBusybox,
        package: "busybox-static",
    },
];

/// For the scenarios.
pub const TEST: &[Need] = &[
    program("docker-registry", "docker-registry"),
    program("nft", "nftables"),
    program("iptables-save", "iptables"),
    program("conntrack", "conntrack"),
    program("nsenter", "util-linux"),
    program("chromium", "chromium"),
];

/// For virtual machines: QEMU, and what their disks are made with.
pub const VM: &[Need] = &[
    QEMU,
    program("qemu-img", "qemu-utils"),
    program("mmdebstrap", "mmdebstrap"),
    program("mkfs.ext4", "e2fsprogs"),
    program("depmod", "kmod"),
    program("ssh", "openssh-client"),
    program("strip", "binutils"),
    program("setsid", "util-linux"),
];

pub const QEMU: Need = program("qemu-system-x86_64", "qemu-system-x86");

/// The compiler that has the source of `core` beside it, for the programs in the kernel.
pub const EBPF_COMPILER: &[Need] = &[
    file("/usr/bin/rustc", "rustc-web"),
    file("/usr/bin/cargo", "cargo-web"),
    file(
        "/usr/lib/rustlib/src/rust/library/core/src/lib.rs",
        "rust-web-src",
    ),
    file("/usr/share/doc/rust-web-llvm", "rust-web-llvm"),
];

/// For the build of bpf-linker against that compiler's LLVM.
pub const EBPF_LINKER: &[Need] = &[
    file("/usr/lib/llvm-22/include/llvm-c/Core.h", "llvm-22-dev"),
    file("/usr/lib/llvm-22/lib/libPolly.a", "libpolly-22-dev"),
    file("/usr/include/zstd.h", "libzstd-dev"),
    file("/usr/include/zlib.h", "zlib1g-dev"),
    program("c++", "g++"),
];

/// Packages that start a server at every boot, and its unit.
const SERVICES: [(&str, &str); 2] = [
    ("etcd-server", "etcd.service"),
    ("docker-registry", "docker-registry.service"),
];

/// The packages to install, each once.
pub fn plan(needs: &[Need], is_here: impl Fn(Proof) -> bool) -> Vec<&'static str> {
    let mut packages = Vec::new();
    for need in needs {
        if !is_here(need.proof) && !packages.contains(&need.package) {
            packages.push(need.package);
        }
    }
    packages
}

pub fn is_here(proof: Proof) -> bool {
    match proof {
        Proof::Program(name) => process::find(name).is_some(),
        Proof::File(path) => Path::new(path).exists(),
        Proof::StaticBusybox => image::static_busybox().is_some(),
    }
}

pub fn install(step: &Step, packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let words = packages.join(" ");
    if process::find("apt-get").is_none() {
        bail!(
            "there is no apt-get to install {words}: install what these Debian packages hold, then run this again"
        );
    }
    step.tell(&format!("apt-get install {words}"));
    // A daemon that Debian starts for its package is not ours to start.
    let _quiet = NoServices::begin()?;
    let install = ["install", "--yes", "--no-install-recommends"];
    let once = || apt(step, &[&install, packages].concat());
    if !lists_are_here() {
        apt(step, &["update"])?;
        once()?;
    } else if once().is_err() {
        // The lists may be of another day.
        apt(step, &["update"])?;
        once()?;
    }
    for (package, unit) in SERVICES {
        if packages.contains(&package) {
            // Clusters start their own. Where there is no systemd, nothing starts it anyway.
            tools::answer("systemctl", &["disable", unit]);
        }
    }
    Ok(())
}

fn lists_are_here() -> bool {
    let entries = fs::read_dir("/var/lib/apt/lists")
        .into_iter()
        .flatten()
        .flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .any(|name| name.contains("_Packages"))
}

fn apt(step: &Step, arguments: &[&str]) -> Result<()> {
    get(step, Path::new("/"), arguments)
}

/// `apt-get`, run in `directory`.
pub fn get(step: &Step, directory: &Path, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command
        .args(["--quiet", "-o", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .current_dir(directory)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("PATH", process::search_path())
        .stdin(Stdio::null());
    tools::run(step, &mut command).with_context(|| {
        format!(
            "`apt-get {}` failed: mend that by hand, then run this again",
            arguments.join(" ")
        )
    })
}

/// While it lives, packages install without starting their services: Debian policy 9.3.3.2.
struct NoServices {
    path: PathBuf,
}

impl NoServices {
    fn begin() -> Result<Option<NoServices>> {
        let path = PathBuf::from("/usr/sbin/policy-rc.d");
        let mut file = match File::options().write(true).create_new(true).open(&path) {
            Ok(file) => file,
            // The machine has a policy of its own.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("create {}", path.display())),
        };
        let policy = NoServices { path };
        file.write_all(b"#!/bin/sh\nexit 101\n")?;
        file.set_permissions(fs::Permissions::from_mode(0o755))?;
        Ok(Some(policy))
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_machine_gets_everything_once_and_a_whole_one_nothing() {
        let needs = [BUILD, RUN, TEST].concat();
        let all = plan(&needs, |_| false);
        assert_eq!(
            all,
            [
                "gcc",
                "libc6-dev",
                "protobuf-compiler",
                "libprotobuf-dev",
                "etcd-server",
                "kubernetes-client",
                "curl",
                "busybox-static",
                "docker-registry",
                "nftables",
                "iptables",
                "conntrack",
                "util-linux",
                "chromium",
            ]
        );
        assert!(plan(&needs, |_| true).is_empty());
        let twice = plan(&[RUN, RUN].concat(), |_| false);
        assert_eq!(twice, plan(RUN, |_| false));
    }

    #[test]
    fn only_what_is_missing_is_installed() {
        let packages = plan(RUN, |proof| proof != Proof::Program("kubectl"));
        assert_eq!(packages, ["kubernetes-client"]);
        // A kubectl from elsewhere is one.
        let packages = plan(RUN, |proof| proof == Proof::Program("kubectl"));
        assert!(!packages.contains(&"kubernetes-client"));
    }

    #[test]
    fn what_no_package_ever_had_is_not_here() {
        assert!(is_here(Proof::Program("sh")));
        assert!(!is_here(Proof::Program("no-such-program")));
        assert!(!is_here(Proof::File("/no/such/file")));
    }
}
