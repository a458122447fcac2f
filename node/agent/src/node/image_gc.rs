//! Images go when their disk is full, those first that no container has had for longest.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};
use vetch_runtime::{ImageStatus, Runtime};

use super::events;
use super::pressure::Room;

/// The kubelet's ImageGCPeriod.
pub const EVERY: Duration = Duration::from_secs(300);
/// Its imageMinimumGCAge: a pod that waits for one has time to start.
pub const MINIMUM_AGE: Duration = Duration::from_secs(120);

/// Of the images' disk, in per cent of what it holds; a high one of 100 lets them all stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// From here on images go.
    pub high: u8,
    /// Down to here.
    pub low: u8,
}

/// The kubelet's.
impl Default for Thresholds {
    fn default() -> Thresholds {
        Thresholds { high: 85, low: 80 }
    }
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    first: Timestamp,
    /// By a container, running or not.
    used: Option<Timestamp>,
    in_use: bool,
}

/// What is known of the images, by id. A daemon's start forgets it: then all are as old.
#[derive(Debug, Default)]
pub struct History {
    seen: BTreeMap<String, Seen>,
}

impl History {
    fn take(&mut self, images: &[ImageStatus], used: &BTreeSet<String>, now: Timestamp) {
        self.seen
            .retain(|id, _| images.iter().any(|image| image.id == *id));
        for image in images {
            let seen = self.seen.entry(image.id.clone()).or_insert(Seen {
                first: now,
                used: None,
                in_use: false,
            });
            seen.in_use = used.contains(&image.id);
            if seen.in_use {
                seen.used = Some(now);
            }
        }
    }

    /// Those that may go, in the order in which they do.
    fn candidates(&self, now: Timestamp) -> Vec<String> {
        let old = |seen: &Seen| now.duration_since(seen.first).unsigned_abs() >= MINIMUM_AGE;
        let mut able: Vec<_> = self
            .seen
            .iter()
            .filter(|(_, seen)| !seen.in_use && old(seen))
            .collect();
        able.sort_by_key(|(id, seen)| (seen.used, seen.first, (*id).clone()));
        able.into_iter().map(|(id, _)| id.clone()).collect()
    }
}

impl Thresholds {
    /// How many bytes are to become free.
    fn excess(&self, disk: Room) -> u64 {
        let used = disk.total.saturating_sub(disk.available);
        let part = |percent: u8| u128::from(disk.total) * u128::from(percent) / 100;
        if disk.total == 0 || self.high >= 100 || u128::from(used) < part(self.high) {
            return 0;
        }
        used.saturating_sub(part(self.low) as u64)
    }
}

/// Of one node: what was seen of its images, and what removes them.
pub struct Collector {
    runtime: Runtime,
    /// On their disk.
    root_dir: PathBuf,
    thresholds: Thresholds,
    history: Mutex<History>,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector")
            .field("thresholds", &self.thresholds)
            .finish_non_exhaustive()
    }
}

impl Collector {
    pub fn new(runtime: Runtime, root_dir: PathBuf, thresholds: Thresholds) -> Collector {
        Collector {
            runtime,
            root_dir,
            thresholds,
            history: Mutex::default(),
        }
    }

    /// Down to the low threshold, where the high one is reached.
    async fn collect(&self) -> Result<(), String> {
        let candidates = self.candidates().await;
        let wanted = self.thresholds.excess(self.disk()?);
        if wanted == 0 {
            return Ok(());
        }
        info!(bytes = wanted, "the images' disk is full");
        let freed = self.remove(candidates, wanted).await?;
        if freed >= wanted {
            return Ok(());
        }
        Err(format!(
            "Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, \
             but only found {freed} bytes eligible to free."
        ))
    }

    /// All that no container has. Returns how many bytes the disk has more.
    pub async fn remove_unused(&self) -> Result<u64, String> {
        let candidates = self.candidates().await;
        self.remove(candidates, u64::MAX).await
    }

    async fn candidates(&self) -> Vec<String> {
        let images = self.runtime.images().list().await;
        let containers = self.runtime.list().await;
        let used = containers.iter().flat_map(|sandbox| &sandbox.containers);
        let used = used.map(|container| container.image_id.clone()).collect();
        let now = Timestamp::now();
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.take(&images, &used, now);
        history.candidates(now)
    }

    /// One after the other, until so many bytes are free.
    async fn remove(&self, candidates: Vec<String>, wanted: u64) -> Result<u64, String> {
        let before = self.disk()?.available;
        let mut freed = 0;
        for id in candidates {
            match self.runtime.images().remove(&id).await {
                Ok(()) => info!(
                    image = id,
                    "removed: no container has it, and the disk is full"
                ),
                Err(error) => warn!(image = id, "cannot be removed: {error}"),
            }
            // What an image shares with others stays, so only the disk knows.
            freed = self.disk()?.available.saturating_sub(before);
            if freed >= wanted {
                break;
            }
        }
        Ok(freed)
    }

    fn disk(&self) -> Result<Room, String> {
        super::pressure::disk(&self.root_dir).map_err(|error| error.to_string())
    }
}

/// For ever.
pub async fn keep(client: Client, node: &str, images: &Collector) {
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Err(words) = images.collect().await {
            warn!("image garbage collection: {words}");
            events::warn(&client, node, "ImageGCFailed", words).await;
        }
    }
}

#[cfg(test)]
mod tests;
