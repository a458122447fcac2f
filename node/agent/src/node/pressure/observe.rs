//! The numbers behind the conditions, from /proc, the cgroup and the disk.

use std::fs;
use std::path::Path;

use rustix::fs::StatVfs;

use super::{Observed, Room};
use crate::node::NodeError;
use crate::node::machine::Machine;
use crate::node::meminfo::Meminfo;

pub fn observe(
    machine: &Machine,
    root_dir: &Path,
    cgroup_root: &Path,
) -> Result<Observed, NodeError> {
    let meminfo = Meminfo::read()?;
    let disk = statvfs(root_dir)?;
    let text = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let in_cgroup = |file: &str| text(&cgroup_root.join(file));
    let memory = Room {
        available: meminfo.available,
        total: meminfo.total,
    };
    let memory_in_cgroup = machine.limits.memory_bytes.map(|limit| Room {
        available: limit.saturating_sub(working_set(
            &in_cgroup("memory.current"),
            &in_cgroup("memory.stat"),
        )),
        total: limit,
    });
    let pids = pids(
        &text(Path::new("/proc/sys/kernel/pid_max")),
        &text(Path::new("/proc/loadavg")),
    );
    let pids_in_cgroup = machine.limits.pids.map(|limit| Room {
        available: limit.saturating_sub(number(&in_cgroup("pids.current"))),
        total: limit,
    });
    Ok(Observed {
        memory: tighter(memory, memory_in_cgroup),
        disk: bytes(&disk),
        inodes: Room {
            available: disk.f_favail,
            total: disk.f_files,
        },
        pids: tighter(pids, pids_in_cgroup),
    })
}

/// Of the disk that a path is on, in bytes.
pub fn disk(path: &Path) -> Result<Room, NodeError> {
    Ok(bytes(&statvfs(path)?))
}

fn statvfs(path: &Path) -> Result<StatVfs, NodeError> {
    rustix::fs::statvfs(path).map_err(|errno| NodeError::FileSystem {
        path: path.to_owned(),
        source: errno.into(),
    })
}

fn bytes(disk: &StatVfs) -> Room {
    Room {
        available: disk.f_bavail.saturating_mul(disk.f_frsize),
        total: disk.f_blocks.saturating_mul(disk.f_frsize),
    }
}

fn tighter(one: Room, other: Option<Room>) -> Room {
    match other {
        Some(other) if other.available < one.available => other,
        _ => one,
    }
}

/// Without page cache that nobody used lately, as the kubelet counts.
fn working_set(current: &str, stat: &str) -> u64 {
    let inactive = stat
        .lines()
        .find_map(|line| line.strip_prefix("inactive_file "))
        .map_or(0, number);
    number(current).saturating_sub(inactive)
}

/// loadavg's fourth field is running/all threads, and each has a number.
fn pids(pid_max: &str, loadavg: &str) -> Room {
    let total = number(pid_max);
    let used = loadavg
        .split(' ')
        .nth(3)
        .and_then(|field| field.split_once('/'))
        .map_or(0, |(_, all)| number(all));
    Room {
        available: total.saturating_sub(used),
        total,
    }
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_from_the_kernels_files() {
        assert_eq!(
            working_set("1000\n", "anon 1\ninactive_file 300\nx 2\n"),
            700
        );
        assert_eq!(working_set("100", "inactive_file 300"), 0);
        let want = Room {
            available: 32568,
            total: 32768,
        };
        assert_eq!(pids("32768\n", "0.1 0.2 0.3 1/200 4567\n"), want);
    }

    #[test]
    fn this_machine_has_room_for_a_test() {
        let dir = tempfile::tempdir().unwrap();
        let observed = observe(&Machine::default(), dir.path(), dir.path()).unwrap();
        for room in [observed.memory, observed.disk, observed.pids] {
            assert!(
                room.total > 0 && room.available <= room.total,
                "{observed:?}"
            );
        }
    }
}
