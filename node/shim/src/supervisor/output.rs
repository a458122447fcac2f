//! From a container's pipes to its log, and to those who are attached.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::Supervisor;
use super::attached::Audience;
use crate::log::LogFile;
use vetch_shim::lines::LineBuffer;
use vetch_shim::time::now;

/// Reads before other descriptors get their turn.
const READS_A_TURN: usize = 8;
/// Most that is read at once.
pub const CHUNK: usize = 16 * 1024;

/// A terminal has the first alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

pub struct Pump {
    fd: OwnedFd,
    stream: Stream,
    lines: LineBuffer,
}

enum Pumped {
    More,
    /// For now.
    Empty,
    Ended,
}

impl Pump {
    pub fn new(fd: OwnedFd, stream: Stream) -> Pump {
        Pump {
            fd,
            stream,
            lines: LineBuffer::new(stream.name()),
        }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub fn stream(&self) -> Stream {
        self.stream
    }

    /// One read; `hear` gets it as it is.
    fn pump(&mut self, log: &mut LogFile, hear: impl FnOnce(&[u8])) -> Pumped {
        let mut bytes = [0; CHUNK];
        match rustix::io::read(&self.fd, &mut bytes) {
            // A terminal whose last process is gone says EIO.
            Ok(0) | Err(Errno::IO) => Pumped::Ended,
            Ok(length) => {
                let mut entries = Vec::new();
                self.lines.push(&bytes[..length], now(), &mut entries);
                if !entries.is_empty() {
                    log.write(&entries);
                }
                hear(&bytes[..length]);
                Pumped::More
            }
            Err(Errno::INTR) => Pumped::More,
            Err(_) => Pumped::Empty,
        }
    }

    /// As long as nobody who is attached holds it up; whether it goes on later.
    fn turn(&mut self, container: &str, log: &mut LogFile, audience: &mut Audience) -> bool {
        for _ in 0..READS_A_TURN {
            if audience.holds_up(container, self.stream) {
                break;
            }
            let stream = self.stream;
            match self.pump(log, |bytes| audience.hear(container, stream, bytes)) {
                Pumped::More => {}
                Pumped::Empty => break,
                Pumped::Ended => {
                    self.finish(log);
                    return false;
                }
            }
        }
        true
    }

    fn finish(&mut self, log: &mut LogFile) {
        let mut entries = Vec::new();
        self.lines.finish(now(), &mut entries);
        if !entries.is_empty() {
            log.write(&entries);
        }
    }
}

impl Supervisor {
    pub(super) fn read_output(&mut self, container: &str) {
        let Some(running) = self.running.get_mut(container) else {
            return;
        };
        let (log, audience) = (&mut running.log, &mut self.audience);
        running
            .pumps
            .retain_mut(|pump| pump.turn(container, log, audience));
        // A terminal's input goes with it.
        if running.bundle.tty && running.pumps.is_empty() {
            self.close_input(container);
        }
    }

    /// The container is dead: takes what is left in its pipes. A pipe holds a
    /// mebibyte at most, so a writer elsewhere cannot keep us here.
    pub(super) fn finish_output(&mut self, container: &str) {
        let Some(running) = self.running.get_mut(container) else {
            return;
        };
        let (log, audience) = (&mut running.log, &mut self.audience);
        for mut pump in std::mem::take(&mut running.pumps) {
            let stream = pump.stream;
            for _ in 0..1024 {
                match pump.pump(log, |bytes| audience.hear(container, stream, bytes)) {
                    Pumped::More => {}
                    Pumped::Empty | Pumped::Ended => break,
                }
            }
            pump.finish(log);
        }
    }
}
