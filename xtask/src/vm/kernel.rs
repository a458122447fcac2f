//! Kernels of virtual machines: Debian's packages, fetched once, or what a path holds.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};

use crate::debian::{self, Suite};
use crate::steps::Step;
use crate::tools;

/// What `--kernel` takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// One of Debian's cloud kernels: its name here, and the suite it is from.
    Debian(&'static str, &'static str),
    /// A kernel package (.deb), or a directory as `dpkg --extract` leaves one.
    Path(PathBuf),
}

/// Debian 12's, its backports', and the newest Debian has.
pub const DEBIAN: [Choice; 3] = [
    Choice::Debian("6.1", "bookworm"),
    Choice::Debian("6.12", "bookworm-backports"),
    Choice::Debian("newest", "sid"),
];

/// Stands for the present kernel of a suite.
const META: &str = "linux-image-cloud-amd64";

/// A kernel that is here: its image and `lib/modules/*` below one folder.
#[derive(Clone, Debug)]
pub struct Kernel {
    pub release: String,
    pub image: PathBuf,
    /// `lib/modules`
    pub modules: PathBuf,
    /// The modules as a file system that guests mount.
    pub modules_disk: PathBuf,
}

impl fmt::Display for Choice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Choice::Debian(name, _) => formatter.write_str(name),
            Choice::Path(path) => path.display().fmt(formatter),
        }
    }
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Choice, String> {
        let known = DEBIAN.iter().find(|choice| choice.to_string() == text);
        match known {
            Some(choice) => Ok(choice.clone()),
            None if Path::new(text).exists() => Ok(Choice::Path(text.into())),
            None => Err(format!(
                "{text} is neither 6.1, 6.12, newest nor a path to a kernel package or its unpacked folder"
            )),
        }
    }
}

impl Choice {
    /// For names of clusters and folders.
    pub fn slug(&self) -> String {
        match self {
            Choice::Debian(name, _) => name.replace('.', "-"),
            Choice::Path(_) => "own".into(),
        }
    }
}

impl Kernel {
    /// Fetches and unpacks it unless that was done before.
    pub fn get(step: &Step, choice: &Choice, cache: &Path) -> Result<Kernel> {
        let folder = match choice {
            Choice::Debian(name, suite) => {
                let folder = cache.join("kernels").join(name);
                if !folder.exists() {
                    fetch(step, suite, cache, &folder)?;
                }
                folder
            }
            Choice::Path(path) if path.is_dir() => {
                fs::canonicalize(path).with_context(|| format!("find {}", path.display()))?
            }
            Choice::Path(package) => {
                let name = package.file_stem().context("a package has a name")?;
                let folder = cache.join("kernels/own").join(name);
                debian::extract(step, package, &folder)?;
                folder
            }
        };
        let kernel = Kernel::at(&folder)?;
        kernel.prepare(step)?;
        Ok(kernel)
    }

    fn at(folder: &Path) -> Result<Kernel> {
        // Debian before trixie has /lib, later ones /usr/lib.
        let modules = ["lib/modules", "usr/lib/modules"]
            .map(|place| folder.join(place))
            .into_iter()
            .find(|path| path.exists());
        let release = modules
            .as_deref()
            .and_then(|modules| entries(modules).first().map(|path| named(path)));
        let (Some(modules), Some(release)) = (modules, release) else {
            bail!(
                "{} holds no kernel: lib/modules is missing",
                folder.display()
            );
        };
        // Debian has it in /boot, and from 7.0 on beside its modules.
        let image = [
            folder.join("boot").join(format!("vmlinuz-{release}")),
            modules.join(&release).join("vmlinuz"),
        ]
        .into_iter()
        .find(|path| path.exists())
        .with_context(|| format!("{} holds no vmlinuz of {release}", folder.display()))?;
        Ok(Kernel {
            release,
            image,
            modules,
            modules_disk: folder.join("modules.ext4"),
        })
    }

    /// The list of dependencies, which Debian makes at installation, and the disk.
    fn prepare(&self, step: &Step) -> Result<()> {
        if self.modules_disk.exists() {
            return Ok(());
        }
        step.tell(&format!("the modules of {}", self.release));
        let base = self
            .modules
            .parent()
            .and_then(Path::parent)
            .context("lib/modules has parents")?;
        // depmod only knows /lib/modules below its base.
        let base = if base.ends_with("usr") {
            base.parent().unwrap_or(base)
        } else {
            base
        };
        let link = base.join("lib");
        if !link.exists() {
            std::os::unix::fs::symlink("usr/lib", &link)?;
        }
        let mut depmod = Command::new("depmod");
        depmod
            .arg("-b")
            .arg(base)
            .arg(&self.release)
            .stdin(Stdio::null());
        tools::run(step, &mut depmod).context("list the modules' dependencies")?;
        super::disk::make(
            step,
            &self.modules,
            &self.modules_disk,
            super::disk::Size::Fitting,
        )
    }

    pub fn module(&self, path: &str) -> PathBuf {
        self.modules.join(&self.release).join(path)
    }

    /// Of modules.dep(5) or modules.builtin.
    pub fn list(&self, name: &str) -> Result<String> {
        let path = self.module(name);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }
}

fn fetch(step: &Step, suite: &str, cache: &Path, folder: &Path) -> Result<()> {
    let lists = Suite::open(step, &cache.join("apt"), &[suite])?;
    let image = lists
        .dependencies(META)?
        .into_iter()
        .find(|name| name.starts_with("linux-image-"))
        .with_context(|| format!("Debian {suite} has no {META}"))?;
    step.tell(&format!("fetching {image} of Debian {suite}"));
    // From 7.0 on a kernel comes in several packages: linux-base-, -binary-, -modules-RELEASE.
    let release = image.trim_start_matches("linux-image-");
    let more = lists.dependencies(&image)?;
    let parts = more.iter().filter(|name| name.ends_with(release));
    // Whole or not at all.
    let draft = folder.with_extension("draft");
    if draft.exists() {
        fs::remove_dir_all(&draft)?;
    }
    for package in std::iter::once(&image).chain(parts) {
        lists.unpack(step, package, &draft)?;
    }
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::rename(&draft, folder).with_context(|| format!("create {}", folder.display()))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}

fn named(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_chosen_by_name_or_path() {
        for name in ["6.1", "6.12", "newest"] {
            let choice: Choice = name.parse().unwrap();
            assert_eq!(choice.to_string(), name);
            assert!(!choice.slug().contains('.'));
        }
        assert_eq!("/tmp".parse(), Ok(Choice::Path("/tmp".into())));
        assert!("5.10".parse::<Choice>().is_err());
    }

    #[test]
    fn a_folder_without_a_kernel_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let error = Kernel::at(folder.path()).unwrap_err();
        assert!(error.to_string().contains("holds no kernel"), "{error}");
        fs::create_dir_all(folder.path().join("usr/lib/modules/9.9-x")).unwrap();
        let error = Kernel::at(folder.path()).unwrap_err();
        assert!(error.to_string().contains("no vmlinuz of 9.9-x"), "{error}");
        fs::create_dir_all(folder.path().join("boot")).unwrap();
        fs::write(folder.path().join("boot/vmlinuz-9.9-x"), b"").unwrap();
        let kernel = Kernel::at(folder.path()).unwrap();
        assert_eq!(kernel.release, "9.9-x");
    }
}
