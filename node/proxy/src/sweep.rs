//! Runs the program that takes what has outlived its time out of the tables
//! that the programs fill.
//!
//! Input: a timer. Output: [`Swept`], and tables without the dead. The walk is
//! the kernel's, in a thread that nobody waits for.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use aya::{
    Ebpf,
    maps::{Array, MapData, MapError},
};
use tokio::{
    task::JoinHandle,
    time::{Interval, MissedTickBehavior, interval},
};
use tracing::warn;
use vetch_ebpf_common::{Sweep, maps};

use crate::{
    hooks::{self, HooksError},
    proxy::chain,
    sys,
};

/// As long as the shortest life of a flow.
const EVERY: Duration = Duration::from_secs(30);

const PROGRAM: &str = "sweep";

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SweepError {
    #[error(transparent)]
    Program(#[from] HooksError),
    #[error(
        "the map {} is missing from the object: run cargo xtask build",
        maps::SWEPT
    )]
    Missing,
    #[error("cannot read what a sweep found")]
    Read(#[source] Box<MapError>),
    #[error("cannot sweep the connection tables")]
    Run(#[source] io::Error),
}

/// A sweep and how long the kernel took for it.
#[derive(Clone, Copy, Debug)]
pub struct Swept {
    pub found: Sweep,
    pub took: Duration,
}

pub struct Sweeper {
    program: OwnedFd,
    found: Array<MapData, Sweep>,
}

impl Sweeper {
    /// Loads the program; it is attached nowhere.
    pub fn open(ebpf: &mut Ebpf) -> Result<Self, SweepError> {
        let program = hooks::load(ebpf, PROGRAM)?.fd;
        let map = ebpf.take_map(maps::SWEPT).ok_or(SweepError::Missing)?;
        let found = Array::try_from(map).map_err(|error| SweepError::Read(Box::new(error)))?;
        Ok(Self { program, found })
    }

    pub fn run(&self) -> Result<Swept, SweepError> {
        let started = Instant::now();
        sys::run_program(self.program.as_fd()).map_err(SweepError::Run)?;
        let took = started.elapsed();
        let found = self.found.get(&0, 0);
        let found = found.map_err(|error| SweepError::Read(Box::new(error)))?;
        Ok(Swept { found, took })
    }
}

impl std::fmt::Debug for Sweeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sweeper").finish_non_exhaustive()
    }
}

/// One sweep after the other.
#[derive(Debug)]
pub struct Sweeps {
    sweeper: Arc<Sweeper>,
    timer: Interval,
    running: Option<JoinHandle<Result<Swept, SweepError>>>,
}

impl Sweeps {
    /// The first is due at once: an earlier daemon may have left much.
    pub fn new(sweeper: Sweeper) -> Self {
        let mut timer = interval(EVERY);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            sweeper: Arc::new(sweeper),
            timer,
            running: None,
        }
    }

    /// What the next one found. Loses nothing when it is dropped.
    pub async fn next(&mut self) -> Swept {
        loop {
            let running = match &mut self.running {
                Some(running) => running,
                empty => {
                    self.timer.tick().await;
                    let sweeper = self.sweeper.clone();
                    empty.insert(tokio::task::spawn_blocking(move || sweeper.run()))
                }
            };
            let ended = running.await;
            self.running = None;
            match ended {
                Ok(Ok(swept)) => return swept,
                Ok(Err(error)) => warn!(
                    error = chain(&error),
                    "connections that are over stay in the tables until they are the least used"
                ),
                Err(error) => warn!(%error, "a sweep of the connection tables died"),
            }
        }
    }
}
