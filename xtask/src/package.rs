//! `package`: the daemons as Debian packages, with their systemd units.
//!
//! dpkg-deb makes them, which is on every Debian: cargo-deb would be one more program to build on two cores, for four
//! control files that it would have to be told as well, and would not strip another profile's vetch-shim.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::paths::Tree;
use crate::steps::{Step, Steps};
use crate::{build, tools};

/// One package: which programs it brings, and what starts them.
#[derive(Debug)]
struct Package {
    name: &'static str,
    summary: &'static str,
    /// Its own program comes first.
    programs: &'static [&'static str],
    /// Where runtimes look for CNI plugins.
    cni_plugins: &'static [&'static str],
    depends: &'static str,
    /// What apt brings with it unless told otherwise.
    recommends: &'static str,
    unit: &'static str,
    /// Before the package's files go for good: what it made on the machine goes as well.
    purge: &'static str,
}

const NODE: Package = Package {
    name: "vetch-node",
    summary: "Node daemon of Vetch: pods from kernel parts, Services by eBPF",
    programs: &["vetch-node", "vetch-shim"],
    cni_plugins: &["vetch-cni"],
    // Images are pulled from registries that show certificates.
    depends: "libc6 (>= 2.36), libgcc-s1, ca-certificates",
    // Local volumes on block devices get their file systems from it.
    recommends: "e2fsprogs",
    unit: include_str!("package/vetch-node.service"),
    purge: "/usr/bin/vetch-node cleanup || true",
};

const CONTROL: Package = Package {
    name: "vetch-control",
    summary: "Control plane of Vetch: API server, scheduler and controllers over etcd",
    programs: &["vetch-control"],
    cni_plugins: &[],
    depends: "libc6 (>= 2.36), libgcc-s1",
    // On the same machine, for the first cluster; elsewhere for others.
    recommends: "etcd-server",
    unit: include_str!("package/vetch-control.service"),
    purge: "true",
};

pub fn run(tree: &Tree) -> Result<()> {
    let steps = Steps::new();
    build::install(&steps, crate::apt::BUILD)?;
    build::everything(&steps, tree, build::Wanted::Daemons)?;
    let made = steps.run("Make the packages", |step| all(step, tree))?;
    for path in made {
        println!("{}", path.display());
    }
    Ok(())
}

/// Makes `target/debian/*.deb` from the programs as they are built; returns the node's and the
/// control plane's.
pub fn all(step: &Step, tree: &Tree) -> Result<[PathBuf; 2]> {
    let folder = tree.target().join("debian");
    Ok([
        make(step, &NODE, tree, &folder)?,
        make(step, &CONTROL, tree, &folder)?,
    ])
}

/// Where the package of this name is made.
pub fn path(tree: &Tree, name: &str) -> PathBuf {
    tree.target()
        .join("debian")
        .join(format!("{name}_{}_amd64.deb", version()))
}

fn make(step: &Step, package: &Package, tree: &Tree, folder: &Path) -> Result<PathBuf> {
    let root = folder.join(package.name);
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("remove {}", root.display()))?;
    }
    let programs = package.programs.iter().map(|name| ("usr/bin", *name));
    let plugins = package
        .cni_plugins
        .iter()
        .map(|name| ("opt/cni/bin", *name));
    for (dir, program) in programs.chain(plugins) {
        let source = match program {
            "vetch-shim" => tree.shim(),
            other => tree.daemon(other),
        };
        let target = root.join(dir).join(program);
        write(&target, &[], 0o755)?;
        strip(step, &source, &target)?;
    }
    let unit = format!("lib/systemd/system/{}.service", package.name);
    write(&root.join(unit), package.unit.as_bytes(), 0o644)?;
    for (name, text, mode) in control_files(package) {
        write(&root.join("DEBIAN").join(name), text.as_bytes(), mode)?;
    }
    let file = path(tree, package.name);
    let mut command = Command::new("dpkg-deb");
    command
        // Installed within seconds counts for more than the size on a disk of ours.
        .args(["--root-owner-group", "-Zgzip", "-z1", "--build"])
        .args([&root, &file])
        // The same programs make the same package, byte by byte.
        .env("SOURCE_DATE_EPOCH", "1")
        .stdin(Stdio::null());
    tools::run(step, &mut command).with_context(|| format!("make {}", file.display()))?;
    Ok(file)
}

fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Line tables are for whoever builds; a package has the program alone.
fn strip(step: &Step, source: &Path, target: &Path) -> Result<()> {
    let mut command = Command::new("strip");
    command
        .arg("-o")
        .args([target, source])
        .stdin(Stdio::null());
    tools::run(step, &mut command).with_context(|| format!("strip {}", source.display()))
}

fn write(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let failed = || format!("write {}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(failed)?;
    }
    fs::write(path, content).with_context(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).with_context(failed)
}

/// What dpkg reads and runs: deb-control(5), deb-postinst(5), deb-prerm(5), deb-postrm(5).
fn control_files(package: &Package) -> [(&'static str, String, u32); 4] {
    let Package {
        name,
        summary,
        depends,
        recommends,
        purge,
        ..
    } = package;
    let version = version();
    let recommends = match *recommends {
        "" => String::new(),
        others => format!("Recommends: {others}\n"),
    };
    [
        (
            "control",
            format!(
                "Package: {name}\nVersion: {version}\nArchitecture: amd64\nSection: admin\n\
                 Priority: optional\nMaintainer: The Vetch founders <vetch@localhost>\n\
                 Depends: {depends}\n{recommends}Description: {summary}\n"
            ),
            0o644,
        ),
        (
            "postinst",
            format!(
                "#!/bin/sh\nset -e\n[ \"$1\" = configure ] || exit 0\n\
                 systemctl enable {name}.service\n\
                 # Where systemd runs, and not in an image that is being made.\n\
                 if [ -d /run/systemd/system ]; then\n\
                 \x20   systemctl daemon-reload\n    systemctl restart {name}.service\nfi\n"
            ),
            0o755,
        ),
        (
            "prerm",
            format!(
                "#!/bin/sh\nset -e\n[ \"$1\" = remove ] || exit 0\n\
                 if [ -d /run/systemd/system ]; then\n    systemctl disable --now {name}.service\n\
                 \x20   {purge}\nfi\n"
            ),
            0o755,
        ),
        (
            "postrm",
            "#!/bin/sh\nset -e\nif [ -d /run/systemd/system ]; then systemctl daemon-reload; fi\n"
                .to_owned(),
            0o755,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_starts_the_packages_own_program_and_only_where_it_was_configured() {
        for package in [&NODE, &CONTROL] {
            let start = format!("ExecStart=/usr/bin/{}\n", package.programs[0]);
            assert!(package.unit.contains(&start), "{}", package.unit);
            assert!(package.unit.contains("ConditionPathExists=/etc/vetch/"));
        }
        // Pods outlive their daemon.
        assert!(NODE.unit.contains("KillMode=process\n"));
    }

    #[test]
    fn a_control_plane_comes_with_its_etcd() {
        let (_, text, _) = &control_files(&CONTROL)[0];
        assert!(
            text.contains("\nRecommends: etcd-server\nDescription: "),
            "{text}"
        );
    }

    #[test]
    fn scripts_are_for_sh_and_leave_an_image_in_the_making_alone() {
        for (name, text, mode) in control_files(&NODE) {
            if name == "control" {
                assert!(text.ends_with('\n') && text.contains("Package: vetch-node\n"));
                assert!(
                    text.contains("\nRecommends: e2fsprogs\n") && !text.contains("\n\n"),
                    "{text}"
                );
                continue;
            }
            assert_eq!(mode, 0o755, "{name}");
            assert!(text.starts_with("#!/bin/sh\nset -e\n"), "{name}: {text}");
            assert!(text.contains("[ -d /run/systemd/system ]"), "{name}");
        }
    }
}
