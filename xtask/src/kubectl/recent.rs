//! A kubectl that the scenarios can be run with.
//!
//! Debian 12's own is of 2021: it checks manifests itself instead of asking the server to, and knows
//! no tokens. Where there is no other, the next Debian's is unpacked into the target folder, by
//! lists of packages of its own: nothing else on the machine changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::apt;
use crate::paths::Tree;
use crate::steps::Step;
use crate::tools;

/// The first that leaves the check of fields to the server.
const OLDEST: (u32, u32) = (1, 25);
const SUITE: &str = "trixie";
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The usual one where it is recent enough.
pub fn program(step: &Step, tree: &Tree) -> Result<PathBuf> {
    let usual = super::program()?;
    if is_recent(&usual) {
        return Ok(usual);
    }
    let folder = tree.target().join("tools");
    let unpacked = folder.join("kubectl/usr/bin/kubectl");
    if !is_recent(&unpacked) {
        step.tell(&format!(
            "{} is older than Kubernetes 1.25: unpacking kubectl of Debian {SUITE}",
            usual.display()
        ));
        unpack(step, &folder)?;
    }
    Ok(unpacked)
}

fn is_recent(program: &Path) -> bool {
    tools::answer(program, &["version", "--client", "-o", "json"])
        .and_then(|words| version(&words))
        .is_some_and(|version| version >= OLDEST)
}

/// From what `kubectl version -o json` prints; vendors append a sign to the minor number.
fn version(words: &str) -> Option<(u32, u32)> {
    let value: Value = serde_json::from_str(words).ok()?;
    let number = |key: &str| {
        let text = value["clientVersion"][key].as_str()?;
        text.trim_end_matches(|sign: char| !sign.is_ascii_digit())
            .parse()
            .ok()
    };
    Some((number("major")?, number("minor")?))
}

fn unpack(step: &Step, folder: &Path) -> Result<()> {
    let apt = folder.join("apt");
    for dir in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(apt.join(dir)).with_context(|| format!("create {}", apt.display()))?;
    }
    let mirror = tools::answer(
        "apt-get",
        &[
            "indextargets",
            "--format",
            "$(SITE)",
            "Created-By: Packages",
            "Label: Debian",
        ],
    )
    .and_then(|sites| sites.lines().next().map(str::to_owned))
    .context("apt-get names no Debian mirror: run `apt-get update`, then this again")?;
    fs::write(
        apt.join("sources.list"),
        format!("deb [signed-by={KEYS}] {mirror} {SUITE} main\n"),
    )?;
    let options = [
        format!(
            "Dir::Etc::SourceList={}",
            apt.join("sources.list").display()
        ),
        "Dir::Etc::SourceParts=/dev/null".into(),
        format!("Dir::State::Lists={}", apt.join("lists").display()),
        format!("Dir::Cache={}", apt.join("cache").display()),
        // Its user may not write into a checkout of root's.
        "APT::Sandbox::User=root".into(),
    ];
    let run = |arguments: &[&str]| {
        let options: Vec<&str> = options
            .iter()
            .flat_map(|option| ["-o", option.as_str()])
            .collect();
        apt::get(step, &apt, &[&options, arguments].concat())
    };
    run(&["update"])?;
    run(&["download", "kubectl"])?;
    let package = fs::read_dir(&apt)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get downloaded no package")?;
    let mut extract = Command::new("dpkg");
    extract
        .arg("--extract")
        .arg(&package)
        .arg(folder.join("kubectl"))
        .stdin(Stdio::null());
    tools::run(step, &mut extract).context("unpack kubectl")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_with_vendors_signs() {
        let words =
            |minor: &str| format!(r#"{{"clientVersion": {{"major": "1", "minor": "{minor}"}}}}"#);
        assert_eq!(version(&words("20")), Some((1, 20)));
        assert_eq!(version(&words("32+")), Some((1, 32)));
        assert_eq!(version("not json"), None);
        assert!(!is_recent(Path::new("/bin/true")));
    }
}
