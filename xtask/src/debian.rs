//! Packages of a Debian suite that is not this machine's: by lists of their own, so that nothing
//! else on the machine changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::steps::Step;
use crate::{apt, tools};

const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where apt on this machine gets Debian from.
pub fn mirror() -> Result<String> {
    let targets = [
        "indextargets",
        "--format",
        "$(SITE)",
        "Created-By: Packages",
        "Label: Debian",
    ];
    tools::answer("apt-get", &targets)
        .and_then(|sites| sites.lines().next().map(str::to_owned))
        .context("apt-get names no Debian mirror: run `apt-get update`, then this again")
}

#[derive(Debug)]
pub struct Suite {
    directory: PathBuf,
    options: Vec<String>,
}

impl Suite {
    /// Fetches the lists of these suites; they are kept below `folder`.
    pub fn open(step: &Step, folder: &Path, suites: &[&str]) -> Result<Suite> {
        let directory = folder.join(suites.join("+"));
        for dir in ["lists/partial", "cache/archives/partial"] {
            let path = directory.join(dir);
            fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        }
        let mirror = mirror()?;
        let sources: String = suites
            .iter()
            .map(|suite| format!("deb [signed-by={KEYS}] {mirror} {suite} main\n"))
            .collect();
        let list = directory.join("sources.list");
        fs::write(&list, sources).with_context(|| format!("write {}", list.display()))?;
        let options = [
            format!("Dir::Etc::SourceList={}", list.display()),
            "Dir::Etc::SourceParts=/dev/null".into(),
            format!("Dir::State::Lists={}", directory.join("lists").display()),
            format!("Dir::Cache={}", directory.join("cache").display()),
            // Its user may not write into a directory of root's.
            "APT::Sandbox::User=root".into(),
        ];
        let options = options
            .into_iter()
            .flat_map(|option| ["-o".to_owned(), option])
            .collect();
        let suite = Suite { directory, options };
        suite.get(step, &["update"])?;
        Ok(suite)
    }

    fn get(&self, step: &Step, arguments: &[&str]) -> Result<()> {
        let options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        apt::get(step, &self.directory, &[&options, arguments].concat())
    }

    /// What a package depends on, by name.
    pub fn dependencies(&self, package: &str) -> Result<Vec<String>> {
        let output = Command::new("apt-cache")
            .args(&self.options)
            .args(["depends", "--no-recommends", "--no-suggests", package])
            .stdin(Stdio::null())
            .output()
            .context("run apt-cache")?;
        Ok(dependencies(&String::from_utf8_lossy(&output.stdout)))
    }

    /// Unpacks the package into `folder`, without installing it.
    pub fn unpack(&self, step: &Step, package: &str, folder: &Path) -> Result<()> {
        for old in self.packages()? {
            fs::remove_file(old)?;
        }
        self.get(step, &["download", package])?;
        let file = self
            .packages()?
            .pop()
            .with_context(|| format!("apt-get did not download {package}"))?;
        extract(step, &file, folder)?;
        fs::remove_file(file)?;
        Ok(())
    }

    fn packages(&self) -> Result<Vec<PathBuf>> {
        let files = fs::read_dir(&self.directory)?.flatten();
        Ok(files
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .collect())
    }

    /// Installs it on this machine, from this suite.
    pub fn install(&self, step: &Step, suite: &str, packages: &[&str]) -> Result<()> {
        let install = [
            "install",
            "--yes",
            "--no-install-recommends",
            "--target-release",
            suite,
        ];
        self.get(step, &[&install, packages].concat())
    }
}

pub fn extract(step: &Step, package: &Path, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let mut command = Command::new("dpkg");
    command
        .arg("--extract")
        .arg(package)
        .arg(folder)
        .stdin(Stdio::null());
    tools::run(step, &mut command).with_context(|| format!("unpack {}", package.display()))
}

/// From what `apt-cache depends` prints.
fn dependencies(words: &str) -> Vec<String> {
    words
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("Depends: "))
        .map(|name| name.trim().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_told_from_alternatives_and_conflicts() {
        let words = "linux-image-7\n  PreDepends: linux-base\n |Depends: dracut\n  Depends: linux-binary-7\n    tiny\n  Breaks: other\n";
        assert_eq!(dependencies(words), ["linux-binary-7"]);
        assert!(dependencies("nothing\n").is_empty());
    }
}
