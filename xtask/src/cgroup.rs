//! A subtree of the machine's cgroup v2 hierarchy.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

#[derive(Clone, Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    pub fn at(path: impl Into<PathBuf>) -> Cgroup {
        Cgroup { path: path.into() }
    }

    pub fn child(&self, name: &str) -> Cgroup {
        Cgroup::at(self.path.join(name))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn create(&self) -> Result<()> {
        fs::create_dir_all(&self.path)
            .with_context(|| format!("create cgroup {}", self.path.display()))
    }

    /// Hands every controller that it has on to its children. One that does not go on is missing
    /// there, and the node says so.
    pub fn delegate(&self) {
        let controllers =
            fs::read_to_string(self.path.join("cgroup.controllers")).unwrap_or_default();
        for controller in controllers.split_whitespace() {
            let _ = fs::write(
                self.path.join("cgroup.subtree_control"),
                format!("+{controller}"),
            );
        }
    }

    /// Moves the calling process in.
    pub fn enter(&self) -> Result<()> {
        fs::write(self.path.join("cgroup.procs"), "0")
            .with_context(|| format!("enter cgroup {}", self.path.display()))
    }

    /// Processes in this cgroup itself; none where it does not exist.
    pub fn pids(&self) -> Vec<i32> {
        let text = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// This cgroup and all below it, parents first.
    pub fn subtree(&self) -> Vec<Cgroup> {
        if !self.path.is_dir() {
            return Vec::new();
        }
        let mut all = vec![self.clone()];
        let mut next = 0;
        while let Some(cgroup) = all.get(next).cloned() {
            for entry in fs::read_dir(&cgroup.path).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    all.push(Cgroup::at(entry.path()));
                }
            }
            next += 1;
        }
        all
    }

    /// Does a process live in the subtree? Zombies do not count.
    pub fn populated(&self) -> bool {
        let events = fs::read_to_string(self.path.join("cgroup.events")).unwrap_or_default();
        populated(&events)
    }

    /// SIGKILL to the whole subtree. Needs kernel 5.14.
    pub fn kill(&self) -> Result<()> {
        match fs::write(self.path.join("cgroup.kill"), "1") {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("kill cgroup {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Waits until no process lives in the subtree; false when the limit ran out first.
    pub fn wait_empty(&self, limit: Duration) -> Result<bool> {
        let deadline = Instant::now() + limit;
        let path = self.path.join("cgroup.events");
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(error).with_context(|| format!("open {}", path.display())),
        };
        while self.populated() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            // The kernel notifies readers of this file: Documentation/admin-guide/cgroup-v2.rst.
            let mut watch = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)];
            let timeout = PollTimeout::try_from(left.min(Duration::from_millis(200)))
                .unwrap_or(PollTimeout::ZERO);
            poll(&mut watch, timeout)?;
        }
        Ok(true)
    }

    /// Removes the subtree, whose processes have ended.
    pub fn remove(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(5);
        for cgroup in self.subtree().iter().rev() {
            loop {
                match fs::remove_dir(&cgroup.path) {
                    Ok(()) => break,
                    Err(error) if error.kind() == ErrorKind::NotFound => break,
                    // The last process is on its way out.
                    Err(error)
                        if error.kind() == ErrorKind::ResourceBusy && Instant::now() < deadline =>
                    {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    Err(error) => bail!("remove cgroup {}: {error}", cgroup.path.display()),
                }
            }
        }
        Ok(())
    }
}

fn populated(events: &str) -> bool {
    events.lines().any(|line| line == "populated 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_say_whether_a_process_is_left() {
        assert!(populated("populated 1\nfrozen 0\n"));
        assert!(!populated("populated 0\nfrozen 1\n"));
        assert!(!populated(""));
    }

    #[test]
    fn a_killed_subtree_is_empty_and_goes_away() {
        let cgroup = Cgroup::at(crate::machine::cgroup_mount().unwrap())
            .child(&format!("xtask-test-{}", std::process::id()));
        cgroup.child("leaf").create().unwrap();
        assert!(!cgroup.populated());
        let procs = cgroup.path().join("leaf/cgroup.procs");
        let mut child = std::process::Command::new("sh")
            .args([
                "-c",
                &format!("echo $$ > {} && exec sleep 60", procs.display()),
            ])
            .spawn()
            .unwrap();
        while !cgroup.populated() {
            assert_eq!(child.try_wait().unwrap(), None, "the child could not enter");
            std::thread::yield_now();
        }
        assert_eq!(cgroup.child("leaf").pids(), [child.id() as i32]);
        assert!(!cgroup.wait_empty(Duration::from_millis(1)).unwrap());
        cgroup.kill().unwrap();
        assert!(cgroup.wait_empty(Duration::from_secs(10)).unwrap());
        child.wait().unwrap();
        cgroup.remove().unwrap();
        assert!(!cgroup.path().exists());
        // Nothing there is nothing to do.
        cgroup.kill().unwrap();
        cgroup.remove().unwrap();
        assert!(cgroup.wait_empty(Duration::ZERO).unwrap());
    }
}
