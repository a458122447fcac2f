//! From a container's pipes to its log.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::Supervisor;
use crate::log::{LineBuffer, LogFile};
use crate::time::now;

/// Reads before other descriptors get their turn.
const READS_A_TURN: usize = 8;

pub struct Pump {
    fd: OwnedFd,
    lines: LineBuffer,
}

enum Pumped {
    /// Empty for now, or more than a turn's worth.
    Open,
    Ended,
}

impl Pump {
    pub fn new(fd: OwnedFd, stream: &'static str) -> Pump {
        Pump {
            fd,
            lines: LineBuffer::new(stream),
        }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn pump(&mut self, log: &mut LogFile, reads: usize) -> Pumped {
        let mut bytes = [0; 16 * 1024];
        for _ in 0..reads {
            match rustix::io::read(&self.fd, &mut bytes) {
                // A terminal whose last process is gone says EIO.
                Ok(0) | Err(Errno::IO) => return Pumped::Ended,
                Ok(length) => {
                    let mut entries = Vec::new();
                    self.lines.push(&bytes[..length], now(), &mut entries);
                    if !entries.is_empty() {
                        log.write(&entries);
                    }
                }
                Err(Errno::INTR) => {}
                Err(_) => return Pumped::Open,
            }
        }
        Pumped::Open
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
        let log = &mut running.log;
        running
            .pumps
            .retain_mut(|pump| match pump.pump(log, READS_A_TURN) {
                Pumped::Open => true,
                Pumped::Ended => {
                    pump.finish(log);
                    false
                }
            });
    }

    /// The container is dead: takes what is left in its pipes. A pipe holds a
    /// mebibyte at most, so a writer elsewhere cannot keep us here.
    pub(super) fn finish_output(&mut self, container: &str) {
        let Some(running) = self.running.get_mut(container) else {
            return;
        };
        for mut pump in std::mem::take(&mut running.pumps) {
            pump.pump(&mut running.log, 1024);
            pump.finish(&mut running.log);
        }
    }
}
