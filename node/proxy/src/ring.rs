//! The programs' ring buffer of events, read without taking anything out: any
//! number of readers see the same, and what was told stays to be read.
//!
//! A record gives way when somebody moves the consumer's mark past it, which
//! every reader does when the buffer is more than half full: the newest half
//! stays. The daemon does so while it runs; while it is down, new records are
//! missed (and counted) once the buffer is full and nobody follows.

use std::{
    convert::Infallible,
    io,
    os::fd::AsFd as _,
    path::Path,
    sync::atomic::Ordering::{Acquire, Relaxed, Release},
    time::Duration,
};

use aya::maps::{MapData, MapInfo};
use tracing::warn;
use vetch_ebpf_common::maps;

use crate::sys::{self, Words};

/// How often room is made. A processor tells of some 100 drops a second, the
/// buffer's half holds 3,600.
const EVERY: Duration = Duration::from_secs(5);

/// The head of a record: its length, with two flags, then the kernel's own
/// (`BPF_RINGBUF_BUSY_BIT`, `BPF_RINGBUF_DISCARD_BIT`).
const BUSY: u64 = 1 << 31;
const DISCARDED: u64 = 1 << 30;
const WORD: u64 = size_of::<u64>() as u64;

/// A place in the buffer: bytes written before it since the buffer was made.
type Position = u64;

#[derive(Debug)]
pub struct Ring {
    /// One page: the mark up to which there is room again.
    consumer: Words,
    /// A page with the producer's mark, then the buffer, twice in a row.
    producer: Words,
    page_words: usize,
    size: u64,
}

impl Ring {
    /// Of drops and refusals.
    pub fn open(maps_dir: &Path) -> io::Result<Self> {
        Self::of(maps_dir, maps::EVENTS)
    }

    pub fn of(maps_dir: &Path, name: &str) -> io::Result<Self> {
        let path = maps_dir.join(name);
        let size = MapInfo::from_pin(&path).map_err(io::Error::other)?;
        let size = u64::from(size.max_entries());
        let map = MapData::from_pin(path).map_err(io::Error::other)?;
        let (fd, page) = (map.fd().as_fd(), sys::page_size());
        Ok(Self {
            consumer: Words::map(fd, page / size_of::<u64>())?,
            producer: Words::map_to_read(fd, page, (page + 2 * size as usize) / size_of::<u64>())?,
            page_words: page / size_of::<u64>(),
            size,
        })
    }

    /// The oldest record.
    fn start(&self) -> Position {
        self.consumer[0].load(Acquire)
    }

    fn end(&self) -> Position {
        self.producer[0].load(Acquire)
    }

    fn word(&self, at: Position, word: usize) -> u64 {
        let at = (at & (self.size - 1)) / WORD;
        self.producer[self.page_words + at as usize + word].load(Relaxed)
    }

    /// The head of the record at `at`, whole or not, and where the next begins.
    fn head(&self, at: Position) -> (u64, Position) {
        let index = self.page_words + ((at & (self.size - 1)) / WORD) as usize;
        let head = self.producer[index].load(Acquire) & u64::from(u32::MAX);
        let len = head & !(BUSY | DISCARDED);
        (head, at + WORD + len.next_multiple_of(WORD))
    }

    /// Lets the older half go when there is more.
    pub fn make_room(&self) {
        let mut at = self.start();
        let keep = self.end().saturating_sub(self.size / 2);
        while at < keep {
            let (head, next) = self.head(at);
            if head & BUSY != 0 {
                break;
            }
            at = next;
        }
        // Another reader may have been here already.
        self.consumer[0].fetch_max(at, Release);
    }
}

/// From the oldest record on.
#[derive(Debug)]
pub struct Reader {
    ring: Ring,
    at: Position,
}

impl Reader {
    pub fn new(ring: Ring) -> Self {
        let at = ring.start();
        Self { ring, at }
    }

    /// The words of the next record; None when there is no more for now.
    pub fn read(&mut self) -> Option<Vec<u64>> {
        loop {
            self.at = self.at.max(self.ring.start());
            if self.at >= self.ring.end() {
                return None;
            }
            let (head, next) = self.ring.head(self.at);
            if head & BUSY != 0 {
                return None;
            }
            let words = ((next - self.at) / WORD - 1) as usize;
            let record = (1..=words).map(|word| self.ring.word(self.at, word));
            // What looks longer than the buffer is no record any more.
            let record: Option<Vec<u64>> =
                (next - self.at <= self.ring.size).then(|| record.collect());
            // Given away while it was read?
            if self.ring.start() > self.at {
                continue;
            }
            self.at = next;
            if head & DISCARDED == 0 {
                return record;
            }
        }
    }

    pub fn make_room(&self) {
        self.ring.make_room();
    }
}

/// For as long as it is polled.
pub async fn keep_room(maps_dir: &Path) -> Infallible {
    let ring = match Ring::open(maps_dir) {
        Ok(ring) => ring,
        Err(error) => {
            warn!(%error, "no room is made for new events of the eBPF programs");
            return std::future::pending().await;
        }
    };
    loop {
        tokio::time::sleep(EVERY).await;
        ring.make_room();
    }
}
