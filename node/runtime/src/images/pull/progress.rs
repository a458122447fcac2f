//! How far a pull's layers are.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::images::manifest::Descriptor;

/// Of one layer, in bytes as they come from the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerProgress {
    pub digest: String,
    pub done: u64,
    pub size: u64,
    /// Unpacked, or there before.
    pub complete: bool,
}

/// Shared by who pulls and who watches.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    layers: Arc<Mutex<Vec<LayerProgress>>>,
}

impl Progress {
    /// Lowest first; empty until the manifest is there.
    pub fn layers(&self) -> Vec<LayerProgress> {
        self.lock().clone()
    }

    pub(super) fn begin(&self, layers: &[Descriptor]) {
        *self.lock() = layers
            .iter()
            .map(|layer| LayerProgress {
                digest: layer.digest.clone(),
                done: 0,
                size: layer.size,
                complete: false,
            })
            .collect();
    }

    pub(super) fn add(&self, digest: &str, bytes: u64) {
        self.change(digest, |layer| layer.done += bytes);
    }

    pub(super) fn done(&self, layer: &Descriptor) {
        self.change(&layer.digest, |layer| {
            layer.done = layer.size;
            layer.complete = true;
        });
    }

    /// One blob may be several layers.
    fn change(&self, digest: &str, change: impl Fn(&mut LayerProgress)) {
        let mut layers = self.lock();
        let of = layers.iter_mut().filter(|layer| layer.digest == digest);
        of.for_each(change);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<LayerProgress>> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
