//! One at a time for each device.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::VolumeError;

/// By the kernel's number, for a device has many names.
#[derive(Debug)]
pub struct Locks {
    /// Nobody holds or waits for those that are gone.
    all: Mutex<BTreeMap<u64, Weak<Mutex<()>>>>,
}

impl Locks {
    pub const fn new() -> Locks {
        Locks {
            all: Mutex::new(BTreeMap::new()),
        }
    }

    pub fn of(&self, number: u64) -> Arc<Mutex<()>> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = all.get(&number).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        all.insert(number, Arc::downgrade(&lock));
        lock
    }
}

/// The device's, by whichever of its names.
pub fn number(device: &Path) -> Result<u64, VolumeError> {
    let known = fs::metadata(device).map_err(VolumeError::io("looking at", device))?;
    Ok(known.rdev())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_waits_for_the_other_of_its_device_alone() {
        let locks = Locks::new();
        let first = locks.of(1);
        let held = first.lock().unwrap();
        for (number, is_free) in [(1, false), (2, true)] {
            assert_eq!(locks.of(number).try_lock().is_ok(), is_free, "{number}");
        }
        drop(held);
        assert!(locks.of(1).try_lock().is_ok());
        drop(first);
        drop(locks.of(3));
        assert_eq!(locks.all.lock().unwrap().len(), 1, "none is kept for ever");
    }

    #[test]
    fn a_device_has_many_names() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("by-id");
        std::os::unix::fs::symlink("/dev/null", &other).unwrap();
        let of = |path: &Path| number(path).unwrap();
        assert_eq!(of(&other), of(Path::new("/dev/null")));
        assert_ne!(of(&other), of(Path::new("/dev/zero")));
        assert!(number(&folder.path().join("none")).is_err());
    }
}
