//! A kubectl that the scenarios can be run with.
//!
//! Debian 12's own is of 2021: it checks manifests itself instead of asking the server to, and knows
//! no tokens. Where there is no other, the next Debian's is unpacked into the target folder, by
//! lists of packages of its own: nothing else on the machine changes.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;

use crate::debian::Suite;
use crate::paths::Tree;
use crate::steps::Step;
use crate::tools;

/// The first that leaves the check of fields to the server.
const OLDEST: (u32, u32) = (1, 25);
const SUITE: &str = "trixie";

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
        let suite = Suite::open(step, &folder.join("apt"), &[SUITE])?;
        suite.unpack(step, "kubectl", &folder.join("kubectl"))?;
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
