//! Layers that may not have reached the disk yet.
//!
//! Waiting for the disk before a layer gets its name would cost seconds on a
//! busy machine. Instead a mark with the kernel's boot id stands beside it
//! until a sync in the background has passed; a layer whose mark is of another
//! boot may have holes and is thrown away. The mark is made before the name,
//! and file systems keep that order.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::{ImageError, layer};

const DIR: &str = "fresh";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

pub fn mark(store: &Path, name: &str) -> io::Result<()> {
    let dir = store.join(DIR);
    fs::create_dir_all(&dir)?;
    fs::write(dir.join(name), fs::read_to_string(BOOT_ID)?)
}

/// Removes what a crash of the machine may have cut; `true` when there was
/// such a thing.
pub fn discard_torn(store: &Path) -> Result<bool, ImageError> {
    let boot =
        fs::read_to_string(BOOT_ID).map_err(ImageError::store("reading", Path::new(BOOT_ID)))?;
    let mut any = false;
    for (name, mark) in marks(store)? {
        let same = fs::read_to_string(&mark).is_ok_and(|text| text == boot);
        if same {
            continue;
        }
        tracing::warn!(layer = name, "unpacked right before a crash: discarded");
        layer::discard(store, &store.join("layers").join(&name))?;
        fs::remove_file(&mark).map_err(ImageError::store("removing", &mark))?;
        any = true;
    }
    Ok(any)
}

/// Syncs on a thread of its own, and takes the marks away then. A process that
/// ends before leaves that to the next one.
pub fn settle_later(store: &Path) {
    let store = store.to_owned();
    let spawned = std::thread::Builder::new()
        .name("vetch-sync".to_owned())
        .spawn(move || {
            if let Err(error) = settle(&store) {
                tracing::warn!("{error}");
            }
        });
    if let Err(error) = spawned {
        tracing::warn!("starting a thread to sync layers: {error}");
    }
}

pub fn settle(store: &Path) -> Result<(), ImageError> {
    let marks = marks(store)?;
    if marks.is_empty() {
        return Ok(());
    }
    let handle = File::open(store).map_err(ImageError::store("opening", store))?;
    rustix::fs::syncfs(&handle)
        .map_err(|error| ImageError::store("syncing", store)(error.into()))?;
    for (_, mark) in marks {
        match fs::remove_file(&mark) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ImageError::store("removing", &mark)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn marks(store: &Path) -> Result<Vec<(String, PathBuf)>, ImageError> {
    let dir = store.join(DIR);
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(ImageError::store("reading", &dir)(error)),
    };
    Ok(entries
        .flatten()
        .map(|entry| {
            (
                entry.file_name().to_string_lossy().into_owned(),
                entry.path(),
            )
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_layers_of_another_boot_are_torn() {
        let store = tempfile::tempdir().unwrap();
        let store = store.path();
        fs::create_dir(store.join("tmp")).unwrap();
        for name in ["old", "new", "settled"] {
            fs::create_dir_all(store.join("layers").join(name)).unwrap();
        }
        mark(store, "new").unwrap();
        fs::write(store.join(DIR).join("old"), "another boot\n").unwrap();
        // Cut before the layer had its name.
        fs::write(store.join(DIR).join("gone"), "").unwrap();

        assert!(discard_torn(store).unwrap());
        let layers = |name| store.join("layers").join(name).is_dir();
        assert!(!layers("old") && layers("new") && layers("settled"));
        assert!(!discard_torn(store).unwrap());

        settle(store).unwrap();
        assert!(marks(store).unwrap().is_empty());
    }
}
