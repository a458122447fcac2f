//! What a cgroup allows everything in it: a node that lives in a subtree has
//! no more than that.

use std::fs;
use std::path::Path;

/// `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub memory_bytes: Option<u64>,
    pub cpu_millis: Option<u64>,
    pub pids: Option<u64>,
}

impl Limits {
    /// The smallest from `cgroup` up to the top of the mount.
    pub fn read(cgroup: &Path) -> Limits {
        cgroup
            .ancestors()
            .take_while(|dir| dir.join("cgroup.procs").exists())
            .map(|dir| {
                let text = |file: &str| fs::read_to_string(dir.join(file)).unwrap_or_default();
                Limits {
                    memory_bytes: amount(&text("memory.max")),
                    cpu_millis: cpu_millis(&text("cpu.max")),
                    pids: amount(&text("pids.max")),
                }
            })
            .fold(Limits::default(), Limits::and)
    }

    fn and(self, other: Limits) -> Limits {
        Limits {
            memory_bytes: smaller(self.memory_bytes, other.memory_bytes),
            cpu_millis: smaller(self.cpu_millis, other.cpu_millis),
            pids: smaller(self.pids, other.pids),
        }
    }
}

fn smaller(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

/// `max` is none.
fn amount(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// Quota and period in microseconds.
fn cpu_millis(text: &str) -> Option<u64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    quota.checked_mul(1000)?.checked_div(period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_thousandths_of_a_cpu() {
        for (text, want) in [
            ("max 100000\n", None),
            ("150000 100000\n", Some(1500)),
            ("25000 50000", Some(500)),
            ("1 0", None),
            ("", None),
        ] {
            assert_eq!(cpu_millis(text), want, "{text}");
        }
    }

    #[test]
    fn the_smallest_of_the_way_up_counts() {
        let top = tempfile::tempdir().unwrap();
        let leaf = top.path().join("a/b");
        fs::create_dir_all(&leaf).unwrap();
        // Above the mount is no cgroup, whatever its files say.
        fs::write(top.path().join("memory.max"), "1").unwrap();
        for (dir, memory, cpu) in [("a", "4096", "max 100000"), ("a/b", "max", "200000 100000")] {
            let dir = top.path().join(dir);
            fs::write(dir.join("cgroup.procs"), "").unwrap();
            fs::write(dir.join("memory.max"), memory).unwrap();
            fs::write(dir.join("cpu.max"), cpu).unwrap();
        }
        assert_eq!(
            Limits::read(&leaf),
            Limits {
                memory_bytes: Some(4096),
                cpu_millis: Some(2000),
                pids: None
            }
        );
    }
}
