//! The kernel's side: whether it has AppArmor, what is loaded, and the parser that loads.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::AppArmorError;

const ENABLED: &str = "/sys/module/apparmor/parameters/enabled";
/// Of securityfs: `name (mode)` a line.
const PROFILES: &str = "/sys/kernel/security/apparmor/profiles";
/// Debian's package apparmor; elsewhere /sbin is a place of its own.
const PARSERS: [&str; 2] = ["/usr/sbin/apparmor_parser", "/sbin/apparmor_parser"];
/// What a policy of ABI 3.0 says of features it does not name; comes with AppArmor 3.0.
const ABI: &str = "/etc/apparmor.d/abi/3.0";

/// All paths may be other ones in tests.
pub struct Host {
    enabled: PathBuf,
    profiles: PathBuf,
    parsers: Vec<PathBuf>,
    abi: PathBuf,
    /// Texts of what we loaded.
    dir: PathBuf,
}

impl Host {
    pub fn of_machine(dir: PathBuf) -> Host {
        Host {
            enabled: ENABLED.into(),
            profiles: PROFILES.into(),
            parsers: PARSERS.map(PathBuf::from).into(),
            abi: ABI.into(),
            dir,
        }
    }

    /// In the kubelet's words where it has some.
    pub fn problem(&self) -> Option<String> {
        match fs::read_to_string(&self.enabled) {
            Ok(text) if text.starts_with('Y') => None,
            _ => Some("AppArmor is not enabled on the host".to_owned()),
        }
    }

    pub fn loaded(&self) -> Result<Vec<String>, AppArmorError> {
        let text =
            fs::read_to_string(&self.profiles).map_err(|source| AppArmorError::Profiles {
                path: self.profiles.clone(),
                source,
            })?;
        Ok(names(&text))
    }

    /// Unless it is, by an earlier daemon, from the same text.
    pub fn load(&self, name: &str, text: fn(abi: bool) -> String) -> Result<(), String> {
        let text = text(self.abi.exists());
        let file = self.dir.join(name);
        let same = fs::read_to_string(&file).is_ok_and(|kept| kept == text);
        let loaded = self
            .loaded()
            .map_err(|error| crate::Chain(&error).to_string())?;
        if same && loaded.iter().any(|loaded| loaded == name) {
            return Ok(());
        }
        let parser = self.parsers.iter().find(|parser| parser.exists());
        let parser = parser.ok_or_else(|| {
            let paths: Vec<String> = self
                .parsers
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            format!(
                "there is no {}: install the package apparmor",
                paths.join(" and no ")
            )
        })?;
        parse(parser, &text)?;
        // Kept when it is loaded: without it, the next daemon loads it again.
        let kept = fs::create_dir_all(&self.dir).and_then(|()| fs::write(&file, &text));
        kept.map_err(|error| format!("writing {}: {error}", file.display()))
    }
}

/// Replaces what is loaded under the text's names; no cache is read or written.
fn parse(parser: &Path, text: &str) -> Result<(), String> {
    let failed = |error: io::Error| format!("{}: {error}", parser.display());
    let mut child = Command::new(parser)
        .args(["--replace", "--skip-cache", "--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    // A few kilobytes: a pipe takes them, and one that ends early says why.
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = said.split_whitespace().collect();
    Err(format!(
        "{}: {}: {}",
        parser.display(),
        output.status,
        said.join(" ")
    ))
}

/// A name may have blanks in it; the mode is the last word.
fn names(text: &str) -> Vec<String> {
    let name = |line: &str| Some(line.rsplit_once(" (")?.0.to_owned());
    text.lines().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn host(dir: &Path) -> Host {
        Host {
            enabled: dir.join("enabled"),
            profiles: dir.join("profiles"),
            parsers: vec![dir.join("none"), dir.join("parser")],
            abi: dir.join("abi"),
            dir: dir.join("kept"),
        }
    }

    /// Loads whatever it is given, and counts how often.
    fn parser(dir: &Path, script: &str) {
        let path = dir.join("parser");
        fs::write(
            &path,
            format!("#!/bin/sh\ncd {}\n{script}\n", dir.display()),
        )
        .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn names_of_profiles() {
        let text = "/usr/bin/man (enforce)\nman_filter (enforce)\na b (with) (complain)\n";
        assert_eq!(names(text), ["/usr/bin/man", "man_filter", "a b (with)"]);
        assert_eq!(names(""), [""; 0]);
    }

    #[test]
    fn whether_the_kernel_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let host = host(dir.path());
        for (text, has) in [(None, false), (Some("N\n"), false), (Some("Y\n"), true)] {
            if let Some(text) = text {
                fs::write(dir.path().join("enabled"), text).unwrap();
            }
            assert_eq!(host.problem().is_none(), has, "{text:?}");
        }
    }

    #[test]
    fn ours_is_loaded_once() {
        let dir = tempfile::tempdir().unwrap();
        let host = host(dir.path());
        let load = |text| host.load("p", text);
        assert!(
            load(|_| "one".into())
                .unwrap_err()
                .contains("which AppArmor profiles")
        );
        fs::write(dir.path().join("profiles"), "").unwrap();
        let error = load(|_| "one".into()).unwrap_err();
        assert!(error.contains("install the package apparmor"), "{error}");

        parser(dir.path(), "cat > given; echo no >&2; exit 3");
        let error = load(|_| "one".into()).unwrap_err();
        assert!(error.ends_with("exit status: 3: no"), "{error}");

        parser(
            dir.path(),
            "cat > given; echo run >> runs; echo 'p (enforce)' > profiles",
        );
        let runs = || {
            fs::read_to_string(dir.path().join("runs"))
                .unwrap()
                .lines()
                .count()
        };
        load(|_| "one".into()).unwrap();
        load(|_| "one".into()).unwrap();
        assert_eq!(runs(), 1, "the same is there");
        assert_eq!(fs::read_to_string(dir.path().join("given")).unwrap(), "one");
        load(|_| "two".into()).unwrap();
        assert_eq!(runs(), 2, "another version");
        fs::write(dir.path().join("profiles"), "").unwrap();
        load(|_| "two".into()).unwrap();
        assert_eq!(runs(), 3, "the machine was restarted");
    }
}
