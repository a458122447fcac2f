//! What this process uses, by its /proc (proc(5)), for the names that every Prometheus client has.

use std::fs;
use std::io;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::node::{NodeError, boot};

/// Of the numbers in stat(5): sysconf(_SC_CLK_TCK) on every architecture this is built for.
const TICKS_A_SECOND: i64 = 100;

#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    pub started: Timestamp,
    pub descriptors: u64,
    /// None where there is no limit.
    pub max_descriptors: Option<u64>,
}

impl Process {
    pub fn read() -> Result<Process, NodeError> {
        let own = Path::new("/proc/self");
        let status = read(&own.join("status"))?;
        let path = own.join("stat");
        let since_boot = since_boot(&read(&path)?)
            .ok_or_else(|| NodeError::read(path)(io::Error::other("it has no start time")))?;
        let dir = own.join("fd");
        let descriptors = fs::read_dir(&dir).map_err(NodeError::read(dir))?.count();
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Ok(Process {
            cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
            resident_bytes: bytes(&status, "VmRSS"),
            virtual_bytes: bytes(&status, "VmSize"),
            started: boot::time()? + since_boot,
            // Without the one that the directory was read by.
            descriptors: (descriptors as u64).saturating_sub(1),
            max_descriptors: getrlimit(Resource::Nofile).current,
        })
    }
}

fn read(path: &Path) -> Result<String, NodeError> {
    fs::read_to_string(path).map_err(NodeError::read(path))
}

/// `name: number kB`.
fn bytes(status: &str, name: &str) -> u64 {
    let mut fields = status.lines().filter_map(|line| line.split_once(':'));
    let value = fields.find_map(|(key, value)| (key == name).then_some(value));
    let kib = value.and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// Field 22. The second is a name in parentheses, which may have anything in it.
fn since_boot(stat: &str) -> Option<SignedDuration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: i64 = fields.split_whitespace().nth(19)?.parse().ok()?;
    Some(SignedDuration::from_millis(ticks * 1000 / TICKS_A_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 9 0 12345 1000 50 18446";
        let started = SignedDuration::from_millis(123_450);
        assert_eq!(since_boot(stat), Some(started));
        assert_eq!(since_boot("7 (a) S 1"), None);
        let status = "Name:\tx\nVmSize:\t    2048 kB\nVmRSS:\t     512 kB\n";
        assert_eq!(bytes(status, "VmRSS"), 512 << 10);
        assert_eq!(bytes(status, "VmSwap"), 0);
    }

    #[test]
    fn this_process() {
        let before = Process::read().unwrap();
        assert!(before.cpu_seconds > 0.0, "{before:?}");
        assert!(before.resident_bytes > 1 << 16, "{before:?}");
        assert!(before.virtual_bytes >= before.resident_bytes, "{before:?}");
        assert!(before.descriptors >= 3, "{before:?}");
        let age = Timestamp::now().duration_since(before.started);
        // The machine's start is known to the second.
        assert!(age >= SignedDuration::from_secs(-2), "{before:?}");
        assert!(age < SignedDuration::from_hours(24), "{before:?}");
    }
}
