//! The CPU time of this pod so far.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::clock;

/// What GET /usage answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    pub cpu_micros: u64,
    /// `cgroup` or `rusage`.
    pub source: String,
}

#[derive(Debug, Error)]
pub enum UsageError {
    #[error("read {}", .path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} has no usage_usec", .0.display())]
    NoUsage(PathBuf),
    #[error("write it as JSON")]
    Encode(#[source] serde_json::Error),
}

#[derive(Debug)]
pub enum Source {
    /// `cpu.stat` of the process's own cgroup.
    Cgroup(PathBuf),
    /// This process alone.
    Process,
}

impl Source {
    /// The cgroup, where it can be seen. Not the root cgroup, which is the whole machine: it is the
    /// one without `cgroup.events`.
    pub fn of_this_pod() -> Source {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let found = directory(&text("/proc/self/cgroup"), &text("/proc/self/mountinfo"));
        let stat = found
            .filter(|cgroup| cgroup.join("cgroup.events").exists())
            .map(|cgroup| cgroup.join("cpu.stat"));
        match stat {
            Some(stat) if read_stat(&stat).is_ok() => Source::Cgroup(stat),
            _ => Source::Process,
        }
    }

    /// As JSON.
    pub fn read(&self) -> Result<String, UsageError> {
        let (cpu_micros, source) = match self {
            Source::Cgroup(stat) => (read_stat(stat)?, "cgroup"),
            Source::Process => (clock::cpu_micros(), "rusage"),
        };
        let usage = Usage {
            cpu_micros,
            source: source.into(),
        };
        serde_json::to_string(&usage).map_err(UsageError::Encode)
    }
}

fn read_stat(path: &Path) -> Result<u64, UsageError> {
    let text = fs::read_to_string(path).map_err(|source| UsageError::Read {
        path: path.into(),
        source,
    })?;
    text.lines()
        .find_map(|line| line.strip_prefix("usage_usec "))
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| UsageError::NoUsage(path.into()))
}

/// Where the process's own cgroup is mounted, by /proc/self/cgroup and /proc/self/mountinfo.
fn directory(cgroups: &str, mounts: &str) -> Option<PathBuf> {
    let own = cgroups.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        if !kind.starts_with("cgroup2 ") {
            return None;
        }
        let mut fields = place.split(' ').skip(3);
        let (root, mount) = (fields.next()?, fields.next()?);
        // A process or a mount outside of the cgroup namespace's root is shown with `/..`.
        if own.contains("/..") {
            return None;
        }
        let below = Path::new(own).strip_prefix(root).ok()?;
        Some(Path::new(mount).join(below))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_cgroup_is_found_where_it_is_mounted() {
        let mount = |root: &str, at: &str| {
            format!(
                "22 1 0:20 / /proc rw - proc proc rw\n\
                 31 25 0:26 {root} {at} rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"
            )
        };
        for (cgroups, mounts, expected) in [
            (
                "0::/\n",
                mount("/", "/sys/fs/cgroup"),
                Some("/sys/fs/cgroup"),
            ),
            ("0::/a/b\n", mount("/", "/mnt"), Some("/mnt/a/b")),
            ("0::/a/b\n", mount("/a", "/mnt"), Some("/mnt/b")),
            ("0::/a/b\n", mount("/c", "/mnt"), None),
            ("0::/../x\n", mount("/", "/mnt"), None),
            ("0::/a\n", mount("/../..", "/mnt"), None),
            ("2:cpu:/x\n0::/a\n", mount("/", "/mnt"), Some("/mnt/a")),
            ("2:cpu:/x\n", mount("/", "/mnt"), None),
            ("0::/a\n", String::new(), None),
        ] {
            let found = directory(cgroups, &mounts);
            assert_eq!(
                found.as_deref(),
                expected.map(Path::new),
                "{cgroups}{mounts}"
            );
        }
    }

    #[test]
    fn cpu_time_grows_with_work() {
        let read =
            |source: &Source| -> Usage { serde_json::from_str(&source.read().unwrap()).unwrap() };
        let before = read(&Source::Process);
        assert_eq!(before.source, "rusage");
        let until = clock::now() + 20 * clock::MILLISECOND;
        while clock::now() < until {}
        assert!(read(&Source::Process).cpu_micros > before.cpu_micros);
    }
}
