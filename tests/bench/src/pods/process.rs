//! What processes of this machine keep in memory.
//!
//! Rss counts every resident page, shared ones in full; Pss gives each process its part of a page
//! that several map (the supervisors' program, say), so that Pss may be summed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

const MIB: f64 = 1024.0 * 1024.0;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    pub rss_bytes: u64,
    pub pss_bytes: u64,
}

impl Memory {
    pub fn rss_mib(self) -> f64 {
        self.rss_bytes as f64 / MIB
    }

    pub fn pss_mib(self) -> f64 {
        self.pss_bytes as f64 / MIB
    }
}

/// Of several processes together.
///
/// # Errors
/// When there is none of them, or one cannot be read.
pub fn memory_of(pids: &[i32]) -> Result<Memory> {
    anyhow::ensure!(!pids.is_empty(), "no such process");
    let mut sum = Memory::default();
    for pid in pids {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let memory = parse(&text).with_context(|| format!("{path} has no Rss and Pss"))?;
        sum.rss_bytes += memory.rss_bytes;
        sum.pss_bytes += memory.pss_bytes;
    }
    Ok(sum)
}

/// Lines like `Pss:                 812 kB`.
fn parse(smaps_rollup: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let line = smaps_rollup
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kilobytes * 1024)
    };
    Some(Memory {
        rss_bytes: bytes("Rss")?,
        pss_bytes: bytes("Pss")?,
    })
}

/// The processes that supervise this pod: those in `…/pod<uid>/shim-<sandbox>` of the node's cgroup.
pub fn supervisors(node_cgroup: &Path, pod_uid: &str) -> io::Result<Vec<i32>> {
    let mut pids = Vec::new();
    for class in ["", "burstable", "besteffort"] {
        let pod: PathBuf = [Path::new("kubepods"), Path::new(class)].iter().collect();
        let pod = node_cgroup.join(pod).join(format!("pod{pod_uid}"));
        let entries = match fs::read_dir(&pod) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("shim-") {
                let procs = fs::read_to_string(entry.path().join("cgroup.procs"))?;
                pids.extend(procs.lines().filter_map(|line| line.parse::<i32>().ok()));
            }
        }
    }
    Ok(pids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_the_kernels_lines() {
        let text = "5581a000-7ffd1000 ---p 00000000 00:00 0    [rollup]\n\
                    Rss:                2048 kB\n\
                    Pss:                 812 kB\n\
                    Pss_Dirty:           100 kB\n\
                    Shared_Clean:       1200 kB\n";
        let memory = parse(text).unwrap();
        assert_eq!(memory.rss_bytes, 2048 * 1024);
        assert_eq!(memory.pss_bytes, 812 * 1024);
        assert_eq!(memory.rss_mib(), 2.0);
        for text in [
            "",
            "Rss: 1 kB\n",
            "Pss_Dirty: 1 kB\nRss: 1 kB\n",
            "Rss: x\nPss: 1 kB",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn this_process_has_memory_and_nobody_has_none() {
        let own = i32::try_from(std::process::id()).unwrap();
        let memory = memory_of(&[own]).unwrap();
        assert!(memory.rss_bytes >= memory.pss_bytes && memory.pss_bytes > 0);
        assert!(memory_of(&[]).is_err());
        assert!(memory_of(&[i32::MAX]).is_err());
    }

    #[test]
    fn supervisors_are_found_in_every_class_and_nobody_else_is() {
        let root = tempfile::tempdir().unwrap();
        for (path, pids) in [
            ("kubepods/podaaa/shim-1", "11\n12\n"),
            ("kubepods/podaaa/container", "13\n"),
            ("kubepods/besteffort/podbbb/shim-1", "21\n"),
            ("kubepods/besteffort/podbbb/shim-2", ""),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("cgroup.procs"), pids).unwrap();
        }
        assert_eq!(supervisors(root.path(), "aaa").unwrap(), [11, 12]);
        assert_eq!(supervisors(root.path(), "bbb").unwrap(), [21]);
        assert!(supervisors(root.path(), "ccc").unwrap().is_empty());
    }
}
