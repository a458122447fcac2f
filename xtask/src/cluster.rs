//! A cluster by its name, and the lock that keeps two commands from working on it at once.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};

use crate::cgroup::Cgroup;
use crate::paths::{Paths, Tree};
use crate::state::State;
use crate::{description, machine};

/// Names directories, cgroups and links of this machine, so it is short and plain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// The suite's own cluster, beside whatever else is up.
    pub fn of_tests() -> Name {
        Name("test".into())
    }

    /// The benchmark's own.
    pub fn of_benchmarks() -> Name {
        Name("bench".into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Name {
    fn default() -> Name {
        Name("vetch".into())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Name, String> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let fits = (1..=20).contains(&text.len())
            && text.bytes().all(plain)
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && !text.ends_with('-');
        if fits {
            return Ok(Name(text.to_owned()));
        }
        Err(
            "a name is 1 to 20 of a-z, 0-9 and -, starts with a letter and does not end with -"
                .into(),
        )
    }
}

#[derive(Debug)]
pub struct Cluster {
    pub name: Name,
    pub tree: Tree,
    pub paths: Paths,
    pub cgroup: Cgroup,
}

impl Cluster {
    /// Checks that this machine can have clusters at all.
    pub fn open(name: Name) -> Result<Cluster> {
        let tree = machine::tree();
        machine::require_root()?;
        let mount = machine::cgroup_mount()?;
        let paths = Paths::new(&tree, &name, &mount);
        Ok(Cluster {
            cgroup: Cgroup::at(&paths.cgroup),
            name,
            tree,
            paths,
        })
    }

    pub fn lock(&self) -> Result<Flock<File>> {
        let path = self.tree.lock(&self.name);
        fs::create_dir_all(self.tree.target())?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))?;
        let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => return Ok(held),
            Err((file, _)) => file,
        };
        eprintln!(
            "another xtask works on cluster {}: waiting for it",
            self.name
        );
        Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| errno)
            .with_context(|| format!("lock {}", path.display()))
    }

    /// A cluster of this name may be another checkout's.
    pub fn refuse_foreign(&self) -> Result<()> {
        if let Some(owner) = self.foreign_owner()
            && owner.exists()
            && self.cgroup.populated()
        {
            bail!(
                "the cluster {} is up from {}: take it down there, or choose another --name",
                self.name,
                owner.display()
            );
        }
        Ok(())
    }

    /// The other checkout that made what there is of this cluster.
    pub fn foreign_owner(&self) -> Option<PathBuf> {
        let owner = fs::read_to_string(self.paths.owner()).ok()?;
        (Path::new(&owner) != self.tree.root()).then(|| PathBuf::from(owner))
    }

    /// What an earlier `up` chose.
    pub fn state(&self) -> Result<State> {
        match State::load(&self.paths.state())? {
            Some(state) => Ok(state),
            None => bail!(
                "there is no cluster {}: run `cargo xtask up` first",
                self.name
            ),
        }
    }

    /// Rewrites `cluster.json`, so that its pids are those of now.
    pub fn describe(&self, state: &State) -> Result<()> {
        description::write(&self.paths.description(), &description::of(self, state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        for name in ["vetch", "vtlife", "a", "a-1", "bench-2x3"] {
            assert_eq!(
                name.parse::<Name>().map(|name| name.to_string()),
                Ok(name.to_owned())
            );
        }
        for name in [
            "",
            "A",
            "1a",
            "-a",
            "a-",
            "a/b",
            "a.b",
            "..",
            "aaaaaaaaaaaaaaaaaaaaa",
            "a b",
        ] {
            assert!(name.parse::<Name>().is_err(), "{name}");
        }
    }
}
