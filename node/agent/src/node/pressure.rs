//! Whether the node runs short of something: by the thresholds below which it ends pods.

mod observe;
mod thresholds;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use super::NodeError;
use super::machine::Machine;

pub use observe::{disk, observe};
pub use thresholds::{Eviction, HARD, Signal, Starved, Threshold};

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

/// Where the node's room is measured.
#[derive(Clone, Debug)]
pub struct Place {
    pub machine: Machine,
    /// On the disk that counts.
    pub root_dir: PathBuf,
    /// Above all pods; its limits are the node's.
    pub cgroup_root: PathBuf,
}

impl Place {
    pub fn observe(&self) -> Result<Observed, NodeError> {
        observe(&self.machine, &self.root_dir, &self.cgroup_root)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    pub memory: bool,
    pub disk: bool,
    pub pids: bool,
}

impl Pressure {
    /// Types of the node's conditions that hold.
    pub fn names(self) -> Vec<&'static str> {
        let all = [
            (self.memory, "MemoryPressure"),
            (self.disk, "DiskPressure"),
            (self.pids, "PIDPressure"),
        ];
        let held = all.into_iter().filter(|(holds, _)| *holds);
        held.map(|(_, name)| name).collect()
    }
}

/// What was seen of thresholds so far.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// When each was last seen.
    memory: Option<Timestamp>,
    disk: Option<Timestamp>,
    pids: Option<Timestamp>,
    /// Since when soft ones are crossed.
    since: BTreeMap<Signal, Timestamp>,
}

/// What follows from one observation.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    pub pressure: Pressure,
    /// The threshold for which pods go: memory's before others, hard ones before soft ones.
    pub crossed: Option<Threshold>,
}

impl History {
    /// Under pressure is what is short now, or was within the hold.
    pub fn take(&mut self, eviction: &Eviction, observed: &Observed, now: Timestamp) -> Decision {
        let met: Vec<&Threshold> = eviction.all().filter(|own| own.is_met(observed)).collect();
        let short = |kinds: &[Starved]| met.iter().any(|own| kinds.contains(&own.signal.starved()));
        let pressure = Pressure {
            memory: held(&mut self.memory, short(&[Starved::Memory]), now),
            disk: held(
                &mut self.disk,
                short(&[Starved::EphemeralStorage, Starved::Inodes]),
                now,
            ),
            pids: held(&mut self.pids, short(&[Starved::Pids]), now),
        };
        self.since.retain(|signal, _| {
            met.iter()
                .any(|own| own.grace.is_some() && own.signal == *signal)
        });
        let mut due = Vec::new();
        for own in met {
            let over = own.grace.is_none_or(|grace| {
                let since = *self.since.entry(own.signal).or_insert(now);
                now.duration_since(since).unsigned_abs() >= grace
            });
            if over {
                due.push(own);
            }
        }
        let crossed = due.into_iter().min_by_key(|own| {
            let memory = own.signal.starved() == Starved::Memory;
            (!memory, own.grace.is_some())
        });
        Decision {
            pressure,
            crossed: crossed.cloned(),
        }
    }
}

fn held(last: &mut Option<Timestamp>, short: bool, now: Timestamp) -> bool {
    if short {
        *last = Some(now);
    }
    last.is_some_and(|last| now.duration_since(last).unsigned_abs() < HOLD)
}

#[cfg(test)]
mod tests;
