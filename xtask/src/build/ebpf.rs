//! The programs in the kernel: which compiler builds them here, and whether it has to.
//!
//! They need a compiler with the source of `core` beside it and a linker for its LLVM's bitcode:
//! Debian's rustc-web with a bpf-linker of our own build, or rustup's nightly with rust-src.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::paths::Tree;
use crate::steps::{Step, Steps};
use crate::{apt, process, tools};

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const CORE: &str = "lib/rustlib/src/rust/library/core/src/lib.rs";
/// bpf-linker is built against this LLVM, and reads what that one or an older wrote.
const LLVM: u32 = 22;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compiler {
    Debian,
    Nightly,
}

/// What there is on this machine.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    debian: bool,
    nightly: bool,
    linker: bool,
    apt: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    compiler: Compiler,
    install_compiler: bool,
    install_linker: bool,
}

/// What is there whole comes first, then Debian's: a linker for a nightly's LLVM is the user's to
/// find, as no registry has one for each.
fn plan(found: Found) -> Option<Plan> {
    let with = |compiler, install_compiler| {
        Some(Plan {
            compiler,
            install_compiler,
            install_linker: !found.linker,
        })
    };
    match found {
        Found {
            debian: true,
            linker: true,
            ..
        } => with(Compiler::Debian, false),
        Found {
            nightly: true,
            linker: true,
            ..
        } => with(Compiler::Nightly, false),
        Found {
            debian: true,
            apt: true,
            ..
        } => with(Compiler::Debian, false),
        Found { apt: true, .. } => with(Compiler::Debian, true),
        _ => None,
    }
}

pub fn build(steps: &Steps, tree: &Tree) -> Result<PathBuf> {
    let object = tree.ebpf_object();
    let stamp = object.with_extension("sources");
    let sources = digest(&tree.root().join("ebpf"))?;
    if object.exists() && tools::read(&stamp) == sources {
        return Ok(object);
    }
    steps.run("Build the programs in the kernel", |step| {
        let found = look();
        let Some(plan) = plan(found) else {
            bail!(
                "no compiler for them: run `rustup toolchain install nightly --component rust-src` and \
                 `cargo install bpf-linker`, or use a machine with apt-get"
            );
        };
        prepare(step, plan)?;
        let target = tree.target().join("ebpf-build");
        tools::run(step, &mut cargo(plan.compiler, &tree.root().join("ebpf/programs"), &target))
            .context("if it is the linker that fails, it may be of another LLVM: `cargo uninstall bpf-linker`")?;
        replace(&target.join("bpfel-unknown-none/release/vetch-ebpf"), &object)?;
        fs::write(&stamp, &sources).with_context(|| format!("write {}", stamp.display()))
    })?;
    Ok(object)
}

fn look() -> Found {
    Found {
        debian: Path::new("/usr").join(CORE).exists()
            && tools::answer(DEBIAN_RUSTC, &["-vV"]).and_then(|words| llvm_version(&words))
                >= Some(LLVM),
        nightly: tools::answer("rustc", &["+nightly", "--print", "sysroot"])
            .is_some_and(|sysroot| Path::new(sysroot.trim()).join(CORE).exists()),
        linker: process::find("bpf-linker").is_some(),
        apt: process::find("apt-get").is_some(),
    }
}

/// From what `rustc -vV` prints.
fn llvm_version(words: &str) -> Option<u32> {
    let version = words
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.parse().ok()
}

fn prepare(step: &Step, plan: Plan) -> Result<()> {
    let mut needs = Vec::new();
    if plan.install_compiler {
        needs.extend_from_slice(apt::EBPF_COMPILER);
    }
    if plan.install_linker {
        needs.extend_from_slice(apt::EBPF_LINKER);
    }
    let packages = apt::plan(&needs, apt::is_here);
    if !packages.is_empty() {
        crate::machine::require_root()?;
        apt::install(step, &packages)?;
    }
    if plan.install_linker {
        step.tell("cargo install bpf-linker (a minute, once)");
        tools::run(step, &mut install_linker()).context(
            "`cargo install bpf-linker` failed: install it by hand, then run this again",
        )?;
    }
    Ok(())
}

fn install_linker() -> Command {
    let prefix = format!("/usr/lib/llvm-{LLVM}");
    let mut command = tools::cargo("cargo");
    command
        .args([
            "install",
            "--locked",
            "bpf-linker",
            "--no-default-features",
            "--features",
        ])
        .arg(format!("llvm-{LLVM}"))
        // Outside the checkout, whose settings are not for it.
        .current_dir(std::env::temp_dir())
        // Its own build script's, and that of its bindings.
        .env("LLVM_PREFIX", &prefix)
        .env(format!("LLVM_SYS_{LLVM}1_PREFIX"), &prefix)
        // Without it: "unable to find library -lLLVM".
        .env("RUSTFLAGS", format!("-L native={prefix}/lib"));
    command
}

fn cargo(compiler: Compiler, programs: &Path, target: &Path) -> Command {
    let mut command = match compiler {
        Compiler::Debian => {
            let mut command = tools::cargo(DEBIAN_CARGO);
            command
                .env("RUSTC_BOOTSTRAP", "1")
                .env("RUSTC", DEBIAN_RUSTC);
            command
        }
        Compiler::Nightly => {
            let mut command = tools::cargo("cargo");
            command.arg("+nightly");
            command
        }
    };
    command
        .args([
            "build",
            "--locked",
            "--release",
            "--target",
            "bpfel-unknown-none",
            "-Z",
            "build-std=core",
        ])
        .current_dir(programs)
        .env("CARGO_TARGET_DIR", target)
        // Belongs to this command and overrides flags of the user's.
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            "-Clinker=bpf-linker\u{1f}-Cdebuginfo=2\u{1f}-Clink-arg=--btf",
        );
    command
}

/// Only where it differs: the daemon that embeds it is built anew when it changes.
fn replace(built: &Path, object: &Path) -> Result<()> {
    let bytes = fs::read(built).with_context(|| format!("read {}", built.display()))?;
    if fs::read(object).is_ok_and(|before| before == bytes) {
        return Ok(());
    }
    if let Some(parent) = object.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(object, bytes).with_context(|| format!("write {}", object.display()))
}

/// Of all files below `dir`, but for what a build leaves there.
fn digest(dir: &Path) -> Result<String> {
    let mut files = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true if entry.file_name() != "target" => pending.push(entry.path()),
                true => {}
                false => files.push(entry.path()),
            }
        }
    }
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        let name = file.strip_prefix(dir)?.to_string_lossy().into_owned();
        let content = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
        hash.update(format!("{name}\0{}\0", content.len()));
        hash.update(content);
    }
    Ok(hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_whole_is_used_and_the_least_is_installed() {
        let found = |debian, nightly, linker, apt| Found {
            debian,
            nightly,
            linker,
            apt,
        };
        for (found, compiler, install_compiler, install_linker) in [
            (
                found(true, true, true, true),
                Compiler::Debian,
                false,
                false,
            ),
            (
                found(false, true, true, true),
                Compiler::Nightly,
                false,
                false,
            ),
            (
                found(true, true, false, true),
                Compiler::Debian,
                false,
                true,
            ),
            (
                found(false, true, false, true),
                Compiler::Debian,
                true,
                true,
            ),
            (
                found(false, false, true, true),
                Compiler::Debian,
                true,
                false,
            ),
            (
                found(false, false, false, true),
                Compiler::Debian,
                true,
                true,
            ),
        ] {
            let wanted = Plan {
                compiler,
                install_compiler,
                install_linker,
            };
            assert_eq!(plan(found), Some(wanted), "{found:?}");
        }
        for found in [
            found(false, false, true, false),
            found(true, true, false, false),
        ] {
            assert_eq!(plan(found), None, "{found:?}");
        }
    }

    #[test]
    fn the_compilers_llvm_is_read() {
        assert_eq!(
            llvm_version("rustc 1.96.0\nhost: x\nLLVM version: 22.1.8\n"),
            Some(22)
        );
        assert_eq!(llvm_version("rustc 1.0\n"), None);
    }

    #[test]
    fn the_digest_is_of_names_and_contents_but_not_of_build_output() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("src")).unwrap();
        fs::write(dir.path().join("src/a"), "1").unwrap();
        let first = digest(dir.path()).unwrap();
        fs::create_dir_all(dir.path().join("target")).unwrap();
        fs::write(dir.path().join("target/x"), "built").unwrap();
        assert_eq!(digest(dir.path()).unwrap(), first);
        fs::rename(dir.path().join("src/a"), dir.path().join("src/b")).unwrap();
        let renamed = digest(dir.path()).unwrap();
        assert_ne!(renamed, first);
        fs::write(dir.path().join("src/b"), "2").unwrap();
        assert_ne!(digest(dir.path()).unwrap(), renamed);
    }

    #[test]
    fn the_flags_of_the_programs_reach_their_build_alone() {
        let command = cargo(Compiler::Debian, Path::new("/p"), Path::new("/t"));
        let flags = command
            .get_envs()
            .find_map(|(key, value)| (key == "CARGO_ENCODED_RUSTFLAGS").then_some(value?));
        assert!(flags.is_some_and(|flags| flags.to_string_lossy().contains("bpf-linker")));
        // Removed, not inherited.
        assert!(
            command
                .get_envs()
                .any(|(key, value)| key == "RUSTUP_TOOLCHAIN" && value.is_none())
        );
    }
}
