//! The real program, run in a node's network namespace.

use std::{
    ffi::OsString,
    fs::File,
    io::{BufRead, BufReader, Write},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    sync::{
        Mutex,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{Error, Mode, Namespace, program};

/// How long it may take to end once asked to.
const GRACE: Duration = Duration::from_secs(10);

/// A kube-proxy that runs; killed when dropped, ended by [`Self::stop`].
pub struct KubeProxy {
    program: PathBuf,
    namespace: Namespace,
    log: PathBuf,
    started: Instant,
    child: Child,
    progress: Mutex<Progress>,
    reader: Option<JoinHandle<()>>,
}

struct Progress {
    synced: Option<Duration>,
    /// Says when rules were written; its other end closes with the program.
    events: Receiver<Instant>,
}

impl KubeProxy {
    /// Starts `program` inside the namespace at `namespace`, with kube-proxy's
    /// defaults but for what would reach the machine: it leaves conntrack's
    /// size and its own OOM score alone, and listens on the namespace's
    /// loopback only. Its log is `work_dir/kube-proxy.log`.
    #[expect(clippy::too_many_arguments, reason = "each is one flag of the program")]
    pub fn start(
        program: &Path,
        namespace: &Path,
        mode: Mode,
        kubeconfig: &Path,
        node_name: &str,
        node_ip: Ipv4Addr,
        cluster_cidr: Ipv4Net,
        work_dir: &Path,
    ) -> Result<Self, Error> {
        let log = work_dir.join("kube-proxy.log");
        let file = File::create(&log).map_err(|source| Error::Log {
            path: log.clone(),
            source,
        })?;
        let mut command = program::inside(namespace, program);
        command
            .args(arguments(
                mode,
                kubeconfig,
                node_name,
                node_ip,
                cluster_cidr,
            ))
            .current_dir(work_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let started = Instant::now();
        let mut child = command.spawn().map_err(|source| Error::Start {
            program: program.display().to_string(),
            source,
        })?;
        let (sender, events) = channel();
        let reader = child
            .stderr
            .take()
            .map(|stderr| std::thread::spawn(move || follow(stderr, file, &sender)));
        Ok(Self {
            program: program.to_owned(),
            namespace: Namespace(namespace.to_owned()),
            log,
            started,
            child,
            progress: Mutex::new(Progress {
                synced: None,
                events,
            }),
            reader,
        })
    }

    /// Waits until it has written its first rules, which are those of all
    /// Services it found, and says how long after its start that was.
    pub fn wait_synced(&self, limit: Duration) -> Result<Duration, Error> {
        let mut progress = self
            .progress
            .lock()
            .unwrap_or_else(|held| held.into_inner());
        if let Some(synced) = progress.synced {
            return Ok(synced);
        }
        match progress.events.recv_timeout(limit) {
            Ok(at) => Ok(*progress.synced.insert(at - self.started)),
            Err(RecvTimeoutError::Timeout) => Err(Error::Slow {
                program: self.program.clone(),
                limit,
                log: self.log.clone(),
            }),
            Err(RecvTimeoutError::Disconnected) => Err(Error::Ended {
                program: self.program.clone(),
                log: self.log.clone(),
            }),
        }
    }

    /// As the program says it: `Kubernetes v1.36.2`.
    pub fn version(program: &Path) -> Result<String, Error> {
        let mut command = Command::new(program);
        command.arg("--version");
        program::run(command, "").map(|output| output.stdout.trim().to_owned())
    }

    /// Its process: nsenter becomes the program.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it, has it clean up after itself, and removes what it leaves.
    pub fn stop(mut self) -> Result<(), Error> {
        self.end()?;
        let mut cleanup = program::inside(&self.namespace.0, &self.program);
        cleanup.arg("--cleanup");
        let cleaned = program::run(cleanup, "").map(drop);
        for mode in [Mode::Iptables, Mode::Nftables] {
            self.namespace.remove(mode)?;
        }
        // It also fails where there never was an IPVS to clean.
        if self.namespace.is_clean()? {
            return Ok(());
        }
        cleaned
    }

    fn end(&mut self) -> Result<(), Error> {
        let signal = |source| Error::Signal {
            program: self.program.clone(),
            source,
        };
        if self.child.try_wait().map_err(signal)?.is_none() {
            let pid = Pid::from_raw(self.child.id().cast_signed());
            kill(pid, Signal::SIGTERM).map_err(|errno| signal(errno.into()))?;
        }
        if !self.is_gone_within(GRACE) {
            self.child.kill().map_err(signal)?;
        }
        self.child.wait().map_err(signal)?;
        if let Some(reader) = self.reader.take() {
            // A panic of the log's reader is no reason to leave rules behind.
            let _ = reader.join();
        }
        Ok(())
    }

    /// Its standard error closes with it, which ends the events.
    fn is_gone_within(&self, limit: Duration) -> bool {
        let progress = self
            .progress
            .lock()
            .unwrap_or_else(|held| held.into_inner());
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match progress.events.recv_timeout(left) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }
}

impl Drop for KubeProxy {
    fn drop(&mut self) {
        // After `stop` both say that there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn arguments(
    mode: Mode,
    kubeconfig: &Path,
    node_name: &str,
    node_ip: Ipv4Addr,
    cluster_cidr: Ipv4Net,
) -> Vec<OsString> {
    let mode = match mode {
        Mode::Iptables => "iptables",
        Mode::Nftables => "nftables",
    };
    let mut file = OsString::from("--kubeconfig=");
    file.push(kubeconfig);
    let flags = [
        format!("--proxy-mode={mode}"),
        format!("--hostname-override={node_name}"),
        format!("--bind-address={node_ip}"),
        format!("--cluster-cidr={cluster_cidr}"),
        "--healthz-bind-address=127.0.0.1:10256".to_owned(),
        "--metrics-bind-address=127.0.0.1:10249".to_owned(),
        // The table's size is the machine's, not the namespace's.
        "--conntrack-max-per-core=0".to_owned(),
        "--conntrack-min=0".to_owned(),
        "--oom-score-adj=0".to_owned(),
        // At this level it says when its rules are written.
        "--v=2".to_owned(),
    ];
    [file]
        .into_iter()
        .chain(flags.map(OsString::from))
        .collect()
}

/// Copies the log and tells of each time that IPv4 rules were written. (It
/// says nothing of the kind before it knows all Services.)
fn follow(stderr: ChildStderr, mut log: File, events: &Sender<Instant>) {
    for line in BufReader::new(stderr).lines() {
        let Ok(line) = line else { return };
        if is_sync(&line) {
            // Nobody may be waiting any more.
            let _ = events.send(Instant::now());
        }
        // A log that cannot be written must not stop the program by a full pipe.
        let _ = writeln!(log, "{line}");
    }
}

fn is_sync(line: &str) -> bool {
    line.contains("SyncProxyRules complete") && !line.contains("IPv6")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_say_that_rules_are_written() {
        let table = [
            (
                r#"I1125 22:00:00.1 7 proxier.go:786] "SyncProxyRules complete" ipFamily="IPv4" elapsed="31ms""#,
                true,
            ),
            (
                r#"I1125 22:00:00.1 7 proxier.go:820] "SyncProxyRules complete" elapsed="31ms""#,
                true,
            ),
            (
                r#"I1125 22:00:00.1 7 proxier.go:786] "SyncProxyRules complete" ipFamily="IPv6" elapsed="31ms""#,
                false,
            ),
            (
                r#"I1125 22:00:00.1 7 proxier.go:700] "Syncing nftables rules" ipFamily="IPv4""#,
                false,
            ),
        ];
        for (line, expected) in table {
            assert_eq!(is_sync(line), expected, "{line}");
        }
    }
}
