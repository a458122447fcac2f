//! Whether the node runs short of something.

mod observe;

use std::time::Duration;

use jiff::Timestamp;

use super::capacity::{MEMORY_RESERVE, disk_reserve};

pub use observe::{disk, observe};

/// The kubelet's evictionPressureTransitionPeriod: pressure that comes and
/// goes is one pressure.
pub const HOLD: Duration = Duration::from_secs(300);

/// What is left, and of how much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    pub available: u64,
    pub total: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    pub memory: Room,
    pub disk: Room,
    pub inodes: Room,
    pub pids: Room,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    pub memory: bool,
    pub disk: bool,
    pub pids: bool,
}

/// When each was last seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct History {
    memory: Option<Timestamp>,
    disk: Option<Timestamp>,
    pids: Option<Timestamp>,
}

impl History {
    /// Under pressure is what is short now, or was within the hold.
    pub fn take(&mut self, observed: &Observed, now: Timestamp) -> Pressure {
        let short = judge(observed);
        Pressure {
            memory: held(&mut self.memory, short.memory, now),
            disk: held(&mut self.disk, short.disk, now),
            pids: held(&mut self.pids, short.pids, now),
        }
    }
}

fn held(last: &mut Option<Timestamp>, short: bool, now: Timestamp) -> bool {
    if short {
        *last = Some(now);
    }
    last.is_some_and(|last| now.duration_since(last).unsigned_abs() < HOLD)
}

/// A file system without inode counts (btrfs) reports 0 of 0.
fn judge(observed: &Observed) -> Pressure {
    let below = |room: Room, part: u64| room.total > 0 && room.available < room.total / part;
    Pressure {
        memory: observed.memory.available < MEMORY_RESERVE,
        disk: observed.disk.available < disk_reserve(observed.disk.total)
            || below(observed.inodes, 20),
        pids: below(observed.pids, 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plenty() -> Observed {
        let room = |total| Room {
            available: total / 2,
            total,
        };
        Observed {
            memory: room(4 << 30),
            disk: room(100 << 30),
            inodes: room(1 << 20),
            pids: room(32768),
        }
    }

    #[test]
    fn thresholds() {
        let none = Pressure::default();
        let with = |change: fn(&mut Observed)| {
            let mut observed = plenty();
            change(&mut observed);
            judge(&observed)
        };
        assert_eq!(judge(&plenty()), none);
        let memory = with(|o| o.memory.available = MEMORY_RESERVE - 1);
        assert_eq!(
            memory,
            Pressure {
                memory: true,
                ..none
            }
        );
        assert_eq!(with(|o| o.memory.available = MEMORY_RESERVE), none);
        let disk = with(|o| o.disk.available = (5 << 30) - 1);
        assert_eq!(disk, Pressure { disk: true, ..none });
        let inodes = with(|o| o.inodes.available = 50_000);
        assert_eq!(inodes, Pressure { disk: true, ..none });
        assert_eq!(with(|o| o.inodes = Room::default()), none);
        let pids = with(|o| o.pids.available = 1000);
        assert_eq!(pids, Pressure { pids: true, ..none });
    }

    #[test]
    fn pressure_outlives_its_cause_by_five_minutes() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let mut history = History::default();
        let short = Observed {
            memory: Room::default(),
            ..plenty()
        };
        let mut seen = Vec::new();
        for (observed, now) in [
            (plenty(), 0),
            (short, 10),
            (plenty(), 20),
            (plenty(), 309),
            (plenty(), 310),
            (short, 400),
        ] {
            seen.push(history.take(&observed, at(now)).memory);
        }
        assert_eq!(seen, [false, true, true, true, false, true]);
    }
}
