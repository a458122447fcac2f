//! Clients attached to containers: what a container writes goes to each beside
//! the log, what they say goes to its input.
//!
//! ```text
//! container ──stdout, stderr──▶ pump ──▶ log
//!     ▲                          ├─────▶ a client's two pipes ──▶ daemon
//!     │                          └─────▶ another's
//!     └──stdin or terminal── one chunk a client ◀── its pipe ◀── daemon
//! ```
//!
//! *Output.* Read much faster than any network carries it, it fills a client's
//! pipe in no time. What does not fit is kept, and the stream is read no
//! further until it does: so nothing is lost, and a client may slow its
//! container down, as any reader of a pipe may. One that takes nothing for
//! [`PATIENCE`] is given up: container and log go on without it. After the
//! container's end its last words wait here for the client in the same way.
//!
//! *Input.* It ends with the client's pipe: said so, gone away or killed with
//! the daemon is all the same, and nothing that was said before is lost. What
//! that means is containerd's rule: where the input is meant for one client
//! (stdinOnce) the container's ends too, and the client goes on hearing;
//! elsewhere, and at a terminal, it is the client that ends, and the input
//! waits for the next one.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::termios::{Winsize, tcsetwinsize};
use vetch_shim::protocol::{Attach, Reply};

use super::Supervisor;
use super::children::Running;
use super::output::{CHUNK, Stream};
use crate::failure::{Context, Failure};

/// At a time, with those who left and are still to be heard: descriptors are few.
const MOST: usize = 64;
/// For how long a client may take nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// Everybody, by connection.
#[derive(Default)]
pub struct Audience(BTreeMap<u64, Attached>);

pub struct Attached {
    pub container: String,
    stdout: Option<Tap>,
    stderr: Option<Tap>,
    input: Option<Input>,
    /// Nothing comes after what is kept.
    ending: bool,
}

/// A client's pipe for one of the streams.
struct Tap {
    pipe: OwnedFd,
    /// Read from the container, and not taken yet.
    kept: Vec<u8>,
    /// When it took something, or had nothing to take.
    took: Instant,
}

/// What a client says.
struct Input {
    pipe: OwnedFd,
    /// The container has not taken it yet.
    kept: Vec<u8>,
}

/// What has to be ready for a client's input to go on.
pub enum Waits<'a> {
    Client(BorrowedFd<'a>),
    Container,
}

#[derive(Debug, PartialEq, Eq)]
enum Passed {
    Some,
    /// The client's input is over.
    Ended,
    /// The container reads no more.
    Refused,
}

impl Tap {
    fn new(pipe: OwnedFd) -> Result<Tap, Failure> {
        rustix::io::ioctl_fionbio(&pipe, true).context(|| "the client's pipe".into())?;
        Ok(Tap {
            pipe,
            kept: Vec::new(),
            took: Instant::now(),
        })
    }

    /// `false` when nobody reads it any more.
    fn hear(&mut self, bytes: &[u8]) -> bool {
        if self.kept.is_empty() {
            self.took = Instant::now();
        }
        self.kept.extend_from_slice(bytes);
        self.go_on()
    }

    /// Puts in what fits.
    fn go_on(&mut self) -> bool {
        while !self.kept.is_empty() {
            match rustix::io::write(&self.pipe, &self.kept) {
                Ok(written) => {
                    self.kept.drain(..written);
                    self.took = Instant::now();
                }
                Err(Errno::AGAIN) => return true,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        // Gives the memory back.
        self.kept = Vec::new();
        true
    }

    /// Until it is given up; `None` while it has nothing to take.
    fn patience(&self, now: Instant) -> Option<Duration> {
        let waits = now.saturating_duration_since(self.took);
        (!self.kept.is_empty()).then(|| PATIENCE.saturating_sub(waits))
    }
}

impl Input {
    /// At most one read and one write.
    fn pass(&mut self, to: BorrowedFd<'_>) -> Passed {
        if self.kept.is_empty() {
            let mut bytes = [0; CHUNK];
            match rustix::io::read(&self.pipe, &mut bytes) {
                Ok(0) => return Passed::Ended,
                Ok(length) => self.kept.extend_from_slice(&bytes[..length]),
                Err(Errno::AGAIN | Errno::INTR) => return Passed::Some,
                Err(_) => return Passed::Ended,
            }
        }
        match rustix::io::write(to, &self.kept) {
            Ok(written) => {
                self.kept.drain(..written);
                Passed::Some
            }
            Err(Errno::AGAIN | Errno::INTR) => Passed::Some,
            Err(_) => Passed::Refused,
        }
    }
}

impl Attached {
    fn taps(&self) -> impl Iterator<Item = &Tap> {
        self.stdout.iter().chain(&self.stderr)
    }

    fn tap_mut(&mut self, stream: Stream) -> &mut Option<Tap> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    /// Pipes that have to take something before more is read for them.
    pub fn full(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let full = self.taps().filter(|tap| !tap.kept.is_empty());
        full.map(|tap| tap.pipe.as_fd())
    }

    pub fn waits(&self) -> Option<Waits<'_>> {
        let input = self.input.as_ref()?;
        Some(match input.kept.is_empty() {
            true => Waits::Client(input.pipe.as_fd()),
            false => Waits::Container,
        })
    }

    fn is_slow(&self, now: Instant) -> bool {
        let mut left = self.taps().filter_map(|tap| tap.patience(now));
        left.any(|left| left.is_zero())
    }
}

impl Audience {
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Attached)> {
        self.0.iter().map(|(id, attached)| (*id, attached))
    }

    fn of(&self, container: &str) -> impl Iterator<Item = (u64, &Attached)> {
        self.iter()
            .filter(move |(_, attached)| attached.container == container)
    }

    /// Whether somebody has to take what was read of a stream before.
    pub fn holds_up(&self, container: &str, stream: Stream) -> bool {
        self.of(container).any(|(_, attached)| {
            let tap = match stream {
                Stream::Stdout => &attached.stdout,
                Stream::Stderr => &attached.stderr,
            };
            tap.as_ref().is_some_and(|tap| !tap.kept.is_empty())
        })
    }

    pub fn hear(&mut self, container: &str, stream: Stream, bytes: &[u8]) {
        for attached in self.0.values_mut() {
            if attached.container == container && !attached.ending {
                let tap = attached.tap_mut(stream);
                tap.take_if(|tap| !tap.hear(bytes));
            }
        }
    }

    /// Until somebody has to be given up.
    pub fn patience(&self, now: Instant) -> Option<Duration> {
        let taps = self.0.values().flat_map(Attached::taps);
        taps.filter_map(|tap| tap.patience(now)).min()
    }
}

impl Supervisor {
    pub(super) fn attach(
        &mut self,
        connection: u64,
        attach: Attach,
        fds: Vec<OwnedFd>,
    ) -> Result<Reply, Failure> {
        let running = self
            .running
            .get(&attach.container)
            .filter(|running| running.sync.is_none())
            .ok_or_else(|| Failure("the container is not running".into()))?;
        let [stdin, stdout, stderr] = <[OwnedFd; 3]>::try_from(fds)
            .map_err(|fds| Failure(format!("attach needs 3 descriptors, got {}", fds.len())))?;
        if self.audience.0.contains_key(&connection) {
            return Err(Failure("this connection is attached already".into()));
        }
        if self.audience.0.len() >= MOST {
            let words = format!("{MOST} clients are attached to the pod's containers already");
            return Err(Failure(words));
        }
        rustix::io::ioctl_fionbio(&stdin, true).context(|| "the client's pipe".into())?;
        let input = Input {
            pipe: stdin,
            kept: Vec::new(),
        };
        let pid = self.state.containers.get(&attach.container);
        let pid = pid.map_or(0, |record| record.pid);
        // What is said to a container without an input goes nowhere, as with containerd.
        let heard = attach.stdin && running.input().is_some();
        let attached = Attached {
            stdout: Some(Tap::new(stdout)?),
            stderr: Some(Tap::new(stderr)?),
            input: Some(input).filter(|_| heard),
            container: attach.container,
            ending: false,
        };
        self.audience.0.insert(connection, attached);
        Ok(Reply::Started { pid })
    }

    /// A client that took nothing takes something again.
    pub(super) fn go_on(&mut self, connection: u64) {
        if let Some(attached) = self.audience.0.get_mut(&connection) {
            for tap in [&mut attached.stdout, &mut attached.stderr] {
                tap.take_if(|tap| !tap.go_on());
            }
        }
        self.let_go(connection);
    }

    pub(super) fn pass_input(&mut self, connection: u64) {
        let Some(attached) = self.audience.0.get_mut(&connection) else {
            return;
        };
        let Some(running) = self.running.get(&attached.container) else {
            return;
        };
        let (Some(input), Some(to)) = (&mut attached.input, running.input()) else {
            return;
        };
        let container = attached.container.clone();
        // containerd's rule: a terminal's input goes on.
        let once = running.bundle.stdin_once && !running.bundle.tty;
        match input.pass(to) {
            Passed::Some => {}
            Passed::Refused => self.close_input(&container),
            Passed::Ended if once => self.close_input(&container),
            Passed::Ended => {
                attached.input = None;
                attached.ending = true;
                self.let_go(connection);
            }
        }
    }

    /// For all: nobody says anything to the container any more.
    pub(super) fn close_input(&mut self, container: &str) {
        if let Some(running) = self.running.get_mut(container) {
            running.stdin = None;
        }
        let connections = &self.connections;
        self.audience.0.retain(|id, attached| {
            if attached.container == container {
                attached.input = None;
            }
            // Who has left stayed for what it had said.
            attached.input.is_some() || connections.contains_key(id)
        });
    }

    /// The client left, or is given up. What it had said still arrives.
    pub(super) fn detach(&mut self, connection: u64) {
        if let Some(attached) = self.audience.0.get_mut(&connection) {
            attached.stdout = None;
            attached.stderr = None;
            if attached.input.is_none() {
                self.audience.0.remove(&connection);
            }
        }
    }

    pub(super) fn give_up_slow(&mut self, now: Instant) {
        let slow = self.audience.iter();
        let slow = slow.filter(|(_, attached)| attached.is_slow(now));
        let slow: Vec<u64> = slow.map(|(id, _)| id).collect();
        for connection in slow {
            self.detach(connection);
            let message = format!(
                "the client took no output for {} s and was given up, the container goes on",
                PATIENCE.as_secs()
            );
            self.reply(connection, &Reply::Failed { message });
        }
    }

    /// The container is dead, and its output is read.
    pub(super) fn end_attached(&mut self, container: &str) {
        let of: Vec<u64> = self.audience.of(container).map(|(id, _)| id).collect();
        for connection in of {
            if let Some(attached) = self.audience.0.get_mut(&connection) {
                attached.input = None;
                attached.ending = true;
            }
            self.let_go(connection);
        }
    }

    /// Tells a client that there is no more, once it has everything.
    fn let_go(&mut self, connection: u64) {
        let attached = self.audience.0.get(&connection);
        if attached.is_some_and(|attached| attached.ending && attached.full().next().is_none()) {
            self.audience.0.remove(&connection);
            self.reply(connection, &Reply::Done);
        }
    }

    pub(super) fn resize_terminal(
        &mut self,
        container: &str,
        rows: u16,
        columns: u16,
    ) -> Result<(), Failure> {
        let running = self.running.get(container);
        let terminal = running
            .and_then(Running::terminal)
            .ok_or_else(|| Failure("the container has no terminal".into()))?;
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(terminal, size).context(|| "the terminal's size".into())
    }
}

#[cfg(test)]
mod tests {
    use rustix::pipe::pipe;

    use super::*;

    const A: &str = "a";

    /// A client of `A` with a pipe that is read at the other end.
    fn listener(audience: &mut Audience, id: u64) -> OwnedFd {
        let (reader, writer) = pipe().unwrap();
        let attached = Attached {
            container: A.into(),
            stdout: Some(Tap::new(writer).unwrap()),
            stderr: None,
            input: None,
            ending: false,
        };
        audience.0.insert(id, attached);
        reader
    }

    fn take(pipe: &OwnedFd) -> usize {
        rustix::io::read(pipe, &mut [0; CHUNK][..]).unwrap()
    }

    #[test]
    fn a_full_pipe_holds_up_its_stream_until_it_is_given_up() {
        let mut audience = Audience::default();
        let quick = listener(&mut audience, 1);
        let slow = listener(&mut audience, 2);
        let chunk = [b'x'; CHUNK];
        // A pipe holds 64 KiB.
        for _ in 0..4 {
            audience.hear(A, Stream::Stdout, &chunk);
            assert!(!audience.holds_up(A, Stream::Stdout));
            assert_eq!(take(&quick), CHUNK);
        }
        assert_eq!(audience.patience(Instant::now()), None);
        audience.hear(A, Stream::Stdout, b"more");
        assert!(audience.holds_up(A, Stream::Stdout));
        assert!(!audience.holds_up(A, Stream::Stderr));
        assert!(!audience.holds_up("b", Stream::Stdout));

        let now = Instant::now();
        let slow_ones = |audience: &Audience, now| -> Vec<u64> {
            let slow = audience.iter();
            let slow = slow.filter(|(_, attached)| attached.is_slow(now));
            slow.map(|(id, _)| id).collect()
        };
        assert!(audience.patience(now).is_some_and(|left| left <= PATIENCE));
        assert!(slow_ones(&audience, now).is_empty());
        assert_eq!(slow_ones(&audience, now + PATIENCE), [2]);

        assert_eq!(take(&slow), CHUNK);
        let attached = audience.0.get_mut(&2).unwrap();
        assert!(attached.stdout.as_mut().unwrap().go_on());
        assert!(!audience.holds_up(A, Stream::Stdout));
        assert!(slow_ones(&audience, now + PATIENCE).is_empty());
    }

    #[test]
    fn who_reads_no_more_is_no_matter() {
        let mut audience = Audience::default();
        drop(listener(&mut audience, 1));
        let other = listener(&mut audience, 2);
        audience.hear(A, Stream::Stdout, b"word");
        assert_eq!(take(&other), 4);
        assert!(audience.0[&1].stdout.is_none());
        assert!(!audience.holds_up(A, Stream::Stdout));
    }

    #[test]
    fn input_goes_on_and_ends() {
        let (theirs, client) = pipe().unwrap();
        let (container, ours) = pipe().unwrap();
        for end in [&theirs, &ours] {
            rustix::io::ioctl_fionbio(end, true).unwrap();
        }
        let mut input = Input {
            pipe: theirs,
            kept: Vec::new(),
        };
        assert_eq!(input.pass(ours.as_fd()), Passed::Some);
        let mut bytes = [0; CHUNK];
        // More than the container's pipe holds: the rest is kept, and what comes after it stays in the client's.
        for _ in 0..4 {
            rustix::io::write(&client, &bytes).unwrap();
            assert_eq!(input.pass(ours.as_fd()), Passed::Some);
        }
        rustix::io::write(&client, b"last").unwrap();
        assert_eq!(input.pass(ours.as_fd()), Passed::Some);
        assert_eq!(input.kept, b"last");
        assert_eq!(input.pass(ours.as_fd()), Passed::Some);
        drop(client);
        assert_eq!(rustix::io::read(&container, &mut bytes[..]).unwrap(), CHUNK);
        assert_eq!(input.pass(ours.as_fd()), Passed::Some);
        assert!(input.kept.is_empty());
        assert_eq!(input.pass(ours.as_fd()), Passed::Ended);

        drop(container);
        input.kept = b"nobody".to_vec();
        assert_eq!(input.pass(ours.as_fd()), Passed::Refused);
    }
}
