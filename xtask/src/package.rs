//! `package`: the daemons as Debian packages, with their systemd units.
//!
//! cargo-deb makes them. What is in them is said by `[package.metadata.deb]` in the daemons' manifests, and their units
//! and scripts are in `debian` beside those.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::paths::Tree;
use crate::steps::{Step, Steps};
use crate::{build, process, tools};

const NODE: &str = "vetch-node";
const CONTROL: &str = "vetch-control";

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
    let program = tools::cargo_deb(step)?;
    Ok([
        make(step, &program, tree, NODE)?,
        make(step, &program, tree, CONTROL)?,
    ])
}

/// Where the package of this name is made.
pub fn path(tree: &Tree, name: &str) -> PathBuf {
    folder(tree).join(format!("{name}_{}_amd64.deb", env!("CARGO_PKG_VERSION")))
}

fn folder(tree: &Tree) -> PathBuf {
    tree.target().join("debian")
}

fn make(step: &Step, program: &Path, tree: &Tree, name: &str) -> Result<PathBuf> {
    let file = path(tree, name);
    let mut command = Command::new(program);
    command
        .args(["--package", name, "--no-build", "--locked", "--output"])
        .arg(&file)
        // It reads `target/release` in the manifests as this profile's folder. That it warns of `dev` is right for
        // packages that are given away: those of `run` are of `release`.
        .args(["--profile", tree.profile.name()])
        // Line tables are for whoever builds; a package has the program alone.
        .arg("--strip")
        // Installed within seconds counts for more than the size on a disk of ours.
        .args(["--compress-type", "gz", "--compress-system", "--fast"])
        .current_dir(tree.root())
        .env("CARGO_TARGET_DIR", tree.target())
        // For what it strips: beside the target folder's own it would be where a cluster's data may be.
        .env("CARGO_BUILD_BUILD_DIR", folder(tree).join("stripped"))
        // The same programs make the same package, byte by byte.
        .env("SOURCE_DATE_EPOCH", "1")
        .env("PATH", process::search_path())
        .stdin(Stdio::null());
    tools::forget_package(&mut command);
    tools::run(step, &mut command).with_context(|| format!("make {}", file.display()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const UNITS: [(&str, &str); 2] = [
        (NODE, include_str!("../../node/debian/vetch-node.service")),
        (
            CONTROL,
            include_str!("../../control/debian/vetch-control.service"),
        ),
    ];

    /// What cargo says of the workspace's own packages.
    fn workspace() -> Vec<Value> {
        let tree = crate::machine::tree();
        let output = build::cargo(&tree)
            .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        told["packages"].as_array().unwrap().clone()
    }

    #[test]
    fn a_unit_starts_the_packages_own_program_and_only_where_it_was_configured() {
        for (name, unit) in UNITS {
            let start = format!("ExecStart=/usr/bin/{name}\n");
            assert!(unit.contains(&start), "{unit}");
            assert!(unit.contains("ConditionPathExists=/etc/vetch/"));
        }
        // Pods outlive their daemon.
        assert!(UNITS[0].1.contains("KillMode=process\n"));
    }

    #[test]
    fn packages_bring_programs_that_the_build_makes() {
        let workspace = workspace();
        let built = build::arguments(crate::paths::Profile::Release, build::Wanted::Daemons);
        for (name, _) in UNITS {
            let package = workspace.iter().find(|one| one["name"] == name).unwrap();
            let assets = package["metadata"]["deb"]["assets"].as_array().unwrap();
            let programs = assets
                .iter()
                .filter_map(|asset| asset[0].as_str().unwrap().strip_prefix("target/release/"));
            let mut own = false;
            for program in programs {
                let of = workspace.iter().find(|one| {
                    let targets = one["targets"].as_array().unwrap();
                    targets
                        .iter()
                        .any(|target| target["kind"][0] == "bin" && target["name"] == program)
                });
                let of = of.unwrap_or_else(|| panic!("nothing makes {program}"));
                assert!(
                    built.iter().any(|argument| of["name"] == *argument),
                    "{program} is not built"
                );
                own |= program == name;
            }
            assert!(own, "{name} is not in its own package");
        }
    }

    #[test]
    fn a_control_plane_comes_with_its_etcd() {
        let workspace = workspace();
        let package = workspace.iter().find(|one| one["name"] == CONTROL).unwrap();
        assert_eq!(package["metadata"]["deb"]["recommends"], "etcd-server");
    }

    #[test]
    fn a_node_is_cleaned_up_after_its_daemon_has_stopped() {
        let script = include_str!("../../node/debian/prerm");
        assert!(script.starts_with("#!/bin/sh\nset -e\n"), "{script}");
        // Where cargo-deb puts what stops the unit.
        let stop = script.find("#DEBHELPER#\n").unwrap();
        let clean = script.find("/usr/bin/vetch-node cleanup").unwrap();
        assert!(stop < clean, "{script}");
    }
}
