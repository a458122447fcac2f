//! A look into a node of this machine: its daemon, and the maps pinned in its mount namespace.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nix::sched::{CloneFlags, setns, unshare};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use crate::target::LocalNode;

const MIB: f64 = 1024.0 * 1024.0;
/// How often the pins are looked at; looking is one stat.
const LOOK: Duration = Duration::from_millis(1);
/// Nobody waits longer for the Services of a node that starts.
const START_LIMIT: Duration = Duration::from_secs(120);
/// The program attached last, when all maps are filled.
const LAST_LINK: &str = "links/connect4";

/// Stops and starts the daemons of a cluster.
#[derive(Clone, Debug)]
pub struct Xtask {
    program: PathBuf,
    cluster: String,
}

#[derive(Clone, Copy, Debug)]
pub struct Started {
    /// From the start of the process until its programs answered with all maps filled.
    pub seconds: f64,
    pub pid: i32,
}

impl Xtask {
    /// Named by VETCH_XTASK, or beside this program.
    pub fn find(cluster: &str) -> Option<Xtask> {
        let named = std::env::var_os("VETCH_XTASK").map(PathBuf::from);
        let beside = || Some(std::env::current_exe().ok()?.with_file_name("xtask"));
        let program = named.or_else(beside).filter(|program| program.is_file())?;
        Some(Xtask {
            program,
            cluster: cluster.to_owned(),
        })
    }

    fn node(&self, action: &str, node: &str) -> Result<()> {
        let output = Command::new(&self.program)
            .args(["node", action, node, "--name", &self.cluster])
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("run {}", self.program.display()))?;
        ensure!(
            output.status.success(),
            "xtask node {action} {node}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }

    /// Ends the node's daemon, takes its programs and maps out of the kernel, and starts it anew.
    /// The daemon runs again also when this fails on the way.
    pub fn start_from_nothing(&self, node: &LocalNode) -> Result<Started> {
        let pin_dir = pin_dir(node)?;
        self.node("stop", &node.name)?;
        let removed = inside(node, {
            let pin_dir = pin_dir.clone();
            move || Ok(vetch_proxy::remove(&pin_dir)?)
        });
        let mount_namespace = node.mountns.clone();
        let watcher = std::thread::spawn(move || wait_attached(&mount_namespace, &pin_dir));
        let started = self.node("start", &node.name);
        let attached = watcher.join().map_err(|_| anyhow!("the watcher died"))?;
        removed.context("empty the maps")?;
        started?;
        let attached = attached?;
        let pid = daemon_pid(node)?;
        Ok(Started {
            seconds: attached - start_time(pid)?,
            pid,
        })
    }
}

/// Where the daemon pins, as it was told.
fn pin_dir(node: &LocalNode) -> Result<PathBuf> {
    let words = arguments(daemon_pid(node)?)?;
    Ok(flag(&words, "--pin-dir")
        .unwrap_or("/sys/fs/bpf/vetch")
        .into())
}

/// Whether the node's daemon serves only Services that carry this proxy name.
pub fn serves_only(node: &LocalNode, name: &str) -> Result<bool> {
    let words = arguments(daemon_pid(node)?)?;
    Ok(flag(&words, "--service-proxy-name") == Some(name))
}

pub fn arguments(pid: i32) -> Result<Vec<String>> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).context("the daemon's arguments")?;
    let words = line.split(|byte| *byte == 0);
    Ok(words
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect())
}

/// The word after this one.
fn flag<'a>(words: &'a [String], name: &str) -> Option<&'a str> {
    let place = words.iter().position(|word| word == name)?;
    words.get(place + 1).map(String::as_str)
}

/// The only process of the leaf that the daemon has for itself.
pub fn daemon_pid(node: &LocalNode) -> Result<i32> {
    let path = node.cgroup.join("daemon/cgroup.procs");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let pid = text.lines().next().and_then(|line| line.parse().ok());
    pid.with_context(|| format!("the daemon of {} does not run", node.name))
}

/// How many ports of Services the node's maps serve; the calls that they refuse count.
pub fn served(node: &LocalNode) -> Result<usize> {
    let pin_dir = pin_dir(node)?;
    inside(node, move || {
        Ok(vetch_proxy::dump(&pin_dir)?.frontends.len())
    })
}

/// Runs a job on a thread of its own in the node's mount namespace.
fn inside<T: Send + 'static>(
    node: &LocalNode,
    job: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let path = node.mountns.clone();
    let thread = std::thread::spawn(move || {
        enter(&path)?;
        job()
    });
    thread
        .join()
        .map_err(|_| anyhow!("the thread in the node died"))?
}

fn enter(mount_namespace: &Path) -> Result<()> {
    let file = File::open(mount_namespace)
        .with_context(|| format!("open {}", mount_namespace.display()))?;
    // setns(2) refuses a mount namespace to a thread that shares its file system view.
    unshare(CloneFlags::CLONE_FS).context("leave the shared file system view")?;
    setns(file, CloneFlags::CLONE_NEWNS)
        .with_context(|| format!("enter {}", mount_namespace.display()))
}

/// The moment, in seconds since the machine started, at which the last program was attached.
fn wait_attached(mount_namespace: &Path, pin_dir: &Path) -> Result<f64> {
    enter(mount_namespace)?;
    let link = pin_dir.join(LAST_LINK);
    let deadline = Instant::now() + START_LIMIT;
    while !link.exists() {
        if Instant::now() > deadline {
            bail!("no programs are attached after {} s", START_LIMIT.as_secs());
        }
        std::thread::sleep(LOOK);
    }
    Ok(since_boot())
}

fn since_boot() -> f64 {
    seconds(rustix::time::ClockId::Boottime)
}

/// CLOCK_MONOTONIC, which pods of this machine share.
pub fn monotonic_micros() -> f64 {
    seconds(rustix::time::ClockId::Monotonic) * 1e6
}

fn seconds(clock: rustix::time::ClockId) -> f64 {
    let now = rustix::time::clock_gettime(clock);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// Of a process, in seconds since the machine started; ticks of 10 ms, rounded down: proc(5).
fn start_time(pid: i32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    start_ticks(&stat)
        .map(|ticks| ticks as f64 / TICKS_A_SECOND)
        .with_context(|| format!("/proc/{pid}/stat has no start time"))
}

/// USER_HZ, which the kernel never changes for what it shows to programs.
pub const TICKS_A_SECOND: f64 = 100.0;

fn start_ticks(stat: &str) -> Option<u64> {
    // The name may hold blanks and brackets; the start time is field 22, the state field 3.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(22 - 3)?.parse().ok()
}

/// Nanoseconds of CPU time that a process has had, its ended threads' too: clock_getcpuclockid(3). The sum of those that
/// live falls when one ends.
pub fn cpu_nanos(pid: i32) -> Result<u64> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid)).context("the daemon's CPU-time clock")?;
    let spent = clock_gettime(clock).context("the daemon's CPU time")?;
    Ok(u64::try_from(Duration::from(spent).as_nanos())?)
}

/// MiB that are this process's alone and no file's: what its part of the work keeps in memory,
/// without maps and programs.
pub fn anonymous_mib(pid: i32) -> Result<f64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let kib = number(&text, "Anonymous:").with_context(|| format!("{path} has no Anonymous"))?;
    Ok(kib * 1024.0 / MIB)
}

/// MiB of kernel memory that the maps hold which this process has open.
pub fn maps_mib(pid: i32) -> Result<f64> {
    let mut maps = std::collections::BTreeMap::new();
    for file in fs::read_dir(format!("/proc/{pid}/fdinfo")).context("the daemon's files")? {
        let Ok(text) = fs::read_to_string(file?.path()) else {
            continue;
        };
        if let (Some(id), Some(bytes)) = (number(&text, "map_id:"), number(&text, "memlock:")) {
            maps.insert(id as u64, bytes);
        }
    }
    ensure!(!maps.is_empty(), "process {pid} has no BPF map open");
    Ok(maps.values().sum::<f64>() / MIB)
}

fn number(text: &str, key: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read_as_documented() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20";
        assert_eq!(start_ticks(stat), Some(4711));
        assert_eq!(
            number("map_id:\t12\nmemlock:\t4096\n", "memlock:"),
            Some(4096.0)
        );
        assert_eq!(
            number("Rss: 10 kB\nAnonymous:    8 kB\n", "Anonymous:"),
            Some(8.0)
        );
    }

    #[test]
    fn this_process_can_be_looked_into() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(cpu_nanos(pid).unwrap() > 0);
        assert!(anonymous_mib(pid).unwrap() > 0.0);
        assert!(start_time(pid).unwrap() <= since_boot());
        assert!(maps_mib(pid).is_err());
    }

    #[test]
    fn a_flags_value_is_the_word_after_it() {
        let words = ["p", "--pin-dir", "/a"].map(str::to_owned);
        assert_eq!(flag(&words, "--pin-dir"), Some("/a"));
        assert_eq!(flag(&words, "--other"), None);
    }
}
