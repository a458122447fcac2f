//! Running other people's programs, with their words where one needs them.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;

use anyhow::{Context as _, Result, bail};

use crate::steps::Step;
use crate::{cache, process};

/// The last that was tried: it still packs what the profile `dev` builds, though it says that a later one will not.
const CARGO_DEB: &str = "3.8.0";

/// How much of a failed program's output is told.
const TOLD: usize = 60;

/// Runs it to its end; what it says goes beside the step, and into the error when it fails.
pub fn run(step: &Step, command: &mut Command) -> Result<()> {
    told(step, command.stdout(Stdio::piped()))
}

/// As [`run`], with its standard output in this file.
pub fn run_into(step: &Step, command: &mut Command, path: &Path) -> Result<()> {
    let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    told(step, command.stdout(file))
}

fn told(step: &Step, command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {program}"))?;
    let (sender, lines) = mpsc::channel();
    let streams: [Option<Box<dyn std::io::Read + Send>>; 2] = [
        child.stdout.take().map(|stream| Box::new(stream) as _),
        child.stderr.take().map(|stream| Box::new(stream) as _),
    ];
    for stream in streams.into_iter().flatten() {
        let sender = sender.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
    }
    drop(sender);
    let mut said = Vec::new();
    for line in lines {
        step.note(&line);
        said.push(line);
    }
    let status = child.wait()?;
    if !status.success() {
        let end = said[said.len().saturating_sub(TOLD)..].join("\n");
        bail!("{program}: {status}\n{end}");
    }
    Ok(())
}

/// What a program prints, or None where it is not there or fails.
pub fn answer(program: impl Into<PathBuf>, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program.into())
        .args(arguments)
        .env("PATH", process::search_path())
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A cargo that is not told which one ran this program: rustup's proxy sets these for its children.
pub fn cargo(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env("PATH", process::search_path())
        .stdin(Stdio::null());
    for key in [
        "CARGO",
        "RUSTC",
        "RUSTC_WRAPPER",
        "RUSTUP_TOOLCHAIN",
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
    ] {
        command.env_remove(key);
    }
    forget_package(&mut command);
    command
}

/// What cargo tells a program about the package it is of.
pub fn forget_package(command: &mut Command) {
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(key);
        }
    }
}

/// `cargo nextest`, installed from crates.io where it is missing.
pub fn nextest(step: &Step) -> Result<()> {
    if process::find("cargo-nextest").is_some() {
        return Ok(());
    }
    step.tell("cargo install cargo-nextest (some minutes, once)");
    // Outside the checkout, whose settings are not for it.
    let mut command = cargo("cargo");
    command
        .args([
            "install",
            "--locked",
            "cargo-nextest",
            "--no-default-features",
            "--features",
            "default-no-update",
        ])
        .current_dir(std::env::temp_dir());
    run(step, &mut command)
        .context("`cargo install cargo-nextest` failed: install it by hand, then run this again")
}

/// cargo-deb of the version that is known to make what is wanted, installed from crates.io where it is missing: beside
/// what is fetched once for all checkouts, so that nobody's own is replaced.
pub fn cargo_deb(step: &Step) -> Result<PathBuf> {
    let folder = cache::folder().join("tools");
    let installed = folder.join("bin/cargo-deb");
    let is_it = |program: &PathBuf| {
        answer(program, &["--version"]).is_some_and(|words| is_version(&words, CARGO_DEB))
    };
    let found = process::find("cargo-deb").into_iter();
    if let Some(program) = found.chain([installed.clone()]).find(is_it) {
        return Ok(program);
    }
    step.tell(&format!(
        "cargo install cargo-deb {CARGO_DEB} (a minute, once)"
    ));
    let mut command = cargo("cargo");
    command
        .args(["install", "--locked", "cargo-deb", "--version", CARGO_DEB])
        // strip and gzip are programs of their own: nothing here needs to be fast.
        .args(["--debug", "--no-default-features", "--root"])
        .arg(&folder)
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        // Outside the checkout, whose settings are not for it.
        .current_dir(std::env::temp_dir());
    run(step, &mut command).with_context(|| {
        format!(
            "`cargo install cargo-deb@{CARGO_DEB}` failed: install it by hand, then run this again"
        )
    })?;
    Ok(installed)
}

/// Of what a program prints when it is asked for its version: its name, a space, the version.
fn is_version(words: &str, version: &str) -> bool {
    words.split_whitespace().nth(1) == Some(version)
}

/// The text of a file, or nothing.
pub fn read(path: &std::path::Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::Steps;

    #[test]
    fn a_failure_is_told_in_the_programs_words() {
        let run = |script: &str| {
            Steps::new().run("test", |step| {
                run(step, Command::new("sh").args(["-c", script]))
            })
        };
        run("echo fine").unwrap();
        let error = run("echo out; echo 'the reason' >&2; exit 3")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("exit status: 3") && error.contains("the reason"),
            "{error}"
        );
        assert_eq!(answer("echo", &["a"]).as_deref(), Some("a\n"));
        assert_eq!(answer("false", &[]), None);
        assert_eq!(answer("no-such-program", &[]), None);
    }

    #[test]
    fn another_version_is_not_the_one() {
        assert!(is_version("cargo-deb 3.8.0\n", "3.8.0"));
        assert!(!is_version("cargo-deb 3.8.01\n", "3.8.0"));
        assert!(!is_version("cargo-deb 13.8.0\n", "3.8.0"));
        assert!(!is_version("", "3.8.0"));
    }
}
