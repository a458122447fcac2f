//! From fork to exit code.

use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{WaitOptions, wait};
use vetch_shim::protocol::{Bundle, Identity, Reply};

use super::Supervisor;
use super::output::{Pump, Stream};
use crate::container::{MAX_SAID, SAYS_CONSOLE, SAYS_ERROR, SAYS_PROCESS, SAYS_USER};
use crate::failure::{Context, Failure, complain};
use crate::launch::Launched;
use crate::log::LogFile;
use crate::sys;
use vetch_shim::time::now;

pub struct Running {
    pub pidfd: OwnedFd,
    pub bundle: Bundle,
    /// Open until the child has become its program.
    pub sync: Option<OwnedFd>,
    pub pumps: Vec<Pump>,
    pub log: LogFile,
    error: Option<String>,
    /// Who asked for it.
    starter: u64,
    /// Held so that the program does not see its input end; none with a terminal.
    pub stdin: Option<OwnedFd>,
}

impl Running {
    pub fn new(launched: Launched, bundle: Bundle, log: LogFile, starter: u64) -> Running {
        let pumps = match launched.output {
            Some((stdout, stderr)) => vec![
                Pump::new(stdout, Stream::Stdout),
                Pump::new(stderr, Stream::Stderr),
            ],
            None => Vec::new(),
        };
        Running {
            pidfd: launched.pidfd,
            bundle,
            sync: Some(launched.sync),
            pumps,
            log,
            error: None,
            starter,
            stdin: launched.stdin,
        }
    }

    /// Of its terminal, where it has one that is open.
    pub fn terminal(&self) -> Option<BorrowedFd<'_>> {
        let pump = self.pumps.first().filter(|_| self.bundle.tty);
        pump.map(Pump::fd)
    }

    /// Where its input goes, while it has one that is open.
    pub fn input(&self) -> Option<BorrowedFd<'_>> {
        match self.bundle.tty {
            true => self.terminal().filter(|_| self.bundle.stdin),
            false => self.stdin.as_ref().map(AsFd::as_fd),
        }
    }

    /// The whole cgroup, and its first process in case there is no cgroup.kill.
    pub fn kill_all(&self) -> Result<(), Failure> {
        let killed = fs::write(self.bundle.cgroup.join("cgroup.kill"), "1");
        match sys::pidfd_send_signal(self.pidfd.as_fd(), libc::SIGKILL) {
            Ok(()) => Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            Err(error) if killed.is_err() => Err(error).context(|| "SIGKILL".into()),
            Err(_) => Ok(()),
        }
    }

    /// The kernel counts OOM kills where there is a memory controller.
    fn oom_killed(&self) -> bool {
        fs::read_to_string(self.bundle.cgroup.join("memory.events"))
            .is_ok_and(|events| counts_oom_kill(&events))
    }
}

fn counts_oom_kill(events: &str) -> bool {
    events
        .lines()
        .filter_map(|line| line.strip_prefix("oom_kill "))
        .any(|count| count.trim() != "0")
}

/// A process a client asked for.
pub struct Executed {
    pub pidfd: OwnedFd,
    pub sync: Option<OwnedFd>,
    pub error: Option<String>,
    pub connection: u64,
}

/// What the child said before it became its program.
enum Said {
    Nothing,
    Console(OwnedFd),
    User(Identity),
    /// Another process goes on in its place.
    Process(i32, OwnedFd),
    Error(String),
    /// exec closed the socket, or the child died.
    End,
}

fn listen(sync: &OwnedFd) -> Said {
    let mut bytes = [0; MAX_SAID];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        sync,
        &mut [std::io::IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
    );
    let length = match received {
        Ok(received) => received.bytes,
        Err(Errno::AGAIN | Errno::INTR) => return Said::Nothing,
        Err(_) => 0,
    };
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    match (bytes[..length].split_first(), fd) {
        (Some((&SAYS_CONSOLE, _)), Some(fd)) => Said::Console(fd),
        (Some((&SAYS_PROCESS, pid)), Some(pidfd)) => match pid.try_into() {
            Ok(pid) => Said::Process(i32::from_ne_bytes(pid), pidfd),
            Err(_) => Said::Nothing,
        },
        (Some((&SAYS_USER, text)), _) => match serde_json::from_slice(text) {
            Ok(ids) => Said::User(ids),
            Err(_) => Said::Nothing,
        },
        (Some((&SAYS_ERROR, text)), _) => Said::Error(String::from_utf8_lossy(text).into_owned()),
        _ => Said::End,
    }
}

impl Supervisor {
    pub(super) fn read_sync(&mut self, container: &str) {
        let Some(running) = self.running.get_mut(container) else {
            return;
        };
        if running.sync.is_none() {
            return;
        }
        while let Some(sync) = &running.sync {
            match listen(sync) {
                Said::Nothing => return,
                Said::Console(master) => {
                    let _ = rustix::io::ioctl_fionbio(&master, true);
                    running.pumps.push(Pump::new(master, Stream::Stdout));
                }
                Said::User(ids) => {
                    if let Some(record) = self.state.containers.get_mut(container) {
                        record.user = Some(ids);
                    }
                }
                Said::Process(pid, pidfd) => {
                    running.pidfd = pidfd;
                    if let Some(record) = self.state.containers.get_mut(container) {
                        record.pid = pid;
                    }
                }
                Said::Error(message) => running.error = Some(message),
                Said::End => running.sync = None,
            }
        }
        if running.error.is_none() {
            let starter = running.starter;
            let pid = self
                .state
                .containers
                .get(container)
                .map_or(0, |record| record.pid);
            self.publish(container);
            self.reply(starter, &Reply::Started { pid });
        }
    }

    pub(super) fn read_exec_sync(&mut self, pid: i32) {
        let Some(executed) = self.execs.get_mut(&pid) else {
            return;
        };
        if executed.sync.is_none() {
            return;
        }
        while let Some(sync) = &executed.sync {
            match listen(sync) {
                Said::Nothing => return,
                Said::Console(_) | Said::User(_) | Said::Process(..) => {}
                Said::Error(message) => executed.error = Some(message),
                Said::End => executed.sync = None,
            }
        }
        let connection = executed.connection;
        let reply = match executed.error.clone() {
            Some(message) => Reply::Failed { message },
            None => Reply::Started { pid },
        };
        self.reply(connection, &reply);
    }

    pub(super) fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get();
            if let Some(code) = status.exit_status() {
                self.exited(pid, code, None);
            } else if let Some(signal) = status.terminating_signal() {
                self.exited(pid, 128 + signal, Some(signal));
            }
        }
    }

    fn exited(&mut self, pid: i32, code: i32, signal: Option<i32>) {
        self.hear_of_processes();
        if self.execs.contains_key(&pid) {
            self.exec_exited(pid, code);
        } else if self
            .sandbox
            .pod_init
            .as_ref()
            .is_some_and(|(init, _)| *init == pid)
        {
            self.sandbox.pod_init = None;
        } else if let Some(container) = self
            .state
            .containers
            .iter()
            .find(|(_, record)| record.pid == pid && record.running())
            .map(|(container, _)| container.clone())
        {
            self.container_exited(&container, code, signal);
        }
        // Anything else is an orphan of a container without its own init.
    }

    /// A container's process that handed over to another is not its end, and the
    /// other may be: who it is was said before it could end.
    fn hear_of_processes(&mut self) {
        if self.sandbox.users.is_none() {
            return;
        }
        let starting: Vec<String> = self
            .running
            .iter()
            .filter(|(_, running)| running.sync.is_some())
            .map(|(container, _)| container.clone())
            .collect();
        for container in starting {
            self.read_sync(&container);
        }
    }

    fn container_exited(&mut self, container: &str, code: i32, signal: Option<i32>) {
        self.read_sync(container);
        // In a PID namespace that is not its own its other processes live on.
        if let Some(running) = self.running.get(container)
            && let Err(failure) = running.kill_all()
        {
            complain(failure);
        }
        self.finish_output(container);
        self.end_attached(container);
        let Some(running) = self.running.remove(container) else {
            return;
        };
        let Some(record) = self.state.containers.get_mut(container) else {
            return;
        };
        record.finished_at = Some(now());
        record.exit_code = Some(code);
        record.signal = signal;
        record.oom_killed = running.oom_killed();
        record.error = running.error.clone();
        self.publish(container);
        if let Some(message) = running.error {
            self.reply(running.starter, &Reply::Failed { message });
        }
    }

    fn exec_exited(&mut self, pid: i32, exit_code: i32) {
        self.read_exec_sync(pid);
        let Some(executed) = self.execs.remove(&pid) else {
            return;
        };
        if let Some(connection) = self.connections.get_mut(&executed.connection) {
            connection.exec = None;
        }
        if executed.error.is_none() {
            self.reply(executed.connection, &Reply::Exited { exit_code });
        }
    }

    /// It leads a session of its own: its children go with it where they
    /// stayed in its group.
    pub(super) fn kill_exec(&mut self, pid: i32) {
        if let Some(executed) = self.execs.get(&pid) {
            // Not reaped yet, so the pid, and the group's number, are its own.
            let _ = nix::sys::signal::killpg(
                nix::unistd::Pid::from_raw(pid),
                nix::sys::signal::Signal::SIGKILL,
            );
            let _ = sys::pidfd_send_signal(executed.pidfd.as_fd(), libc::SIGKILL);
        }
    }

    pub(super) fn nothing_runs(&self) -> bool {
        self.running.is_empty() && self.execs.is_empty() && self.sandbox.pod_init.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::counts_oom_kill;

    #[test]
    fn oom_kills_are_counted() {
        assert!(counts_oom_kill("low 0\noom 1\noom_kill 1\n"));
        assert!(!counts_oom_kill(
            "low 0\noom 1\noom_kill 0\noom_group_kill 3\n"
        ));
        assert!(!counts_oom_kill(""));
    }
}
