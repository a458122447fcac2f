//! How often each probe asked, for who counts.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Cheap to clone; has only probes that run.
#[derive(Clone, Debug, Default)]
pub struct ProbeNumbers {
    all: Arc<Mutex<Vec<Weak<Asked>>>>,
}

/// One probe of one container.
#[derive(Debug, Default)]
pub struct Asked {
    pub kind: &'static str,
    pub namespace: String,
    pub pod: String,
    pub pod_uid: String,
    pub container: String,
    pub successful: AtomicU32,
    pub failed: AtomicU32,
    pub unknown: AtomicU32,
}

impl ProbeNumbers {
    /// Told of as long as what is returned is held.
    pub fn follow(&self, asked: Asked) -> Arc<Asked> {
        let asked = Arc::new(asked);
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|known| known.strong_count() > 0);
        all.push(Arc::downgrade(&asked));
        asked
    }

    pub fn all(&self) -> Vec<Arc<Asked>> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(Weak::upgrade).collect()
    }
}

impl Asked {
    /// `None`: the question could not be asked.
    pub fn count(&self, success: Option<bool>) {
        let counter = match success {
            Some(true) => &self.successful,
            Some(false) => &self.failed,
            None => &self.unknown,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// By the kubelet's names of results; none of what never came.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let read = |counter: &AtomicU32| counter.load(Ordering::Relaxed);
        let counts = [
            ("successful", read(&self.successful)),
            ("failed", read(&self.failed)),
            ("unknown", read(&self.unknown)),
        ];
        counts.into_iter().filter(|(_, count)| *count > 0)
    }
}
