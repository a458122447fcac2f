//! Layers in the store: unpacked beside it, put in place whole.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use super::{ImageError, fresh, manifest, unpack};

/// Who unpacks a layer; the others wait and find it there.
#[derive(Default)]
pub struct Unpacking(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Unpacking {
    pub fn of(&self, diff_id: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those nobody holds are of layers long done.
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        locks.entry(diff_id.to_owned()).or_default().clone()
    }
}

pub fn dir(store: &Path, diff_id: &str) -> PathBuf {
    store
        .join("layers")
        .join(diff_id.strip_prefix("sha256:").unwrap_or(diff_id))
}

pub fn present(store: &Path, diff_id: &str) -> bool {
    dir(store, diff_id).is_dir()
}

/// Unpacks a layer's blob, compressed in whichever way, to the end, so that
/// who computes digests on the way sees all of it.
pub fn unpack(store: &Path, diff_id: &str, mut blob: impl Read) -> Result<(), String> {
    let temporary = temporary(store);
    let outcome = unpack_to(&temporary, diff_id, &mut blob)
        .and_then(|()| put_in_place(store, &temporary, &dir(store, diff_id)));
    // Only there when it was not renamed.
    if temporary.exists()
        && let Err(error) = fs::remove_dir_all(&temporary)
    {
        tracing::warn!("removing {}: {error}", temporary.display());
    }
    outcome
}

fn unpack_to(target: &Path, diff_id: &str, blob: &mut impl Read) -> Result<(), String> {
    let failed = |error: io::Error| format!("failed to extract layer {diff_id}: {error}");
    fs::create_dir(target).map_err(failed)?;
    let got = unpack_and_hash(target, blob).map_err(failed)?;
    // What follows the archive counts for the blob's digest, too.
    io::copy(blob, &mut io::sink()).map_err(failed)?;
    if got != diff_id {
        return Err(format!(
            "failed to extract layer {diff_id}: its content is {got}"
        ));
    }
    Ok(())
}

/// The digest of the uncompressed archive.
fn unpack_and_hash(target: &Path, blob: &mut impl Read) -> io::Result<String> {
    let mut tar = Hashing {
        inner: decompress(blob)?,
        hash: Sha256::new(),
    };
    unpack::unpack(&mut tar, target)?;
    io::copy(&mut tar, &mut io::sink())?;
    Ok(format!("sha256:{}", manifest::hex(&tar.hash.finalize())))
}

/// What is there under its name is whole.
fn put_in_place(store: &Path, temporary: &Path, target: &Path) -> Result<(), String> {
    let failed = |error: io::Error| format!("storing layer {}: {error}", target.display());
    if let Some(name) = target.file_name().and_then(|name| name.to_str()) {
        fresh::mark(store, name).map_err(failed)?;
    }
    match fs::rename(temporary, target) {
        // Another process was as fast.
        Err(_) if target.is_dir() => Ok(()),
        outcome => outcome.map_err(failed),
    }
}

/// By the first bytes: media types are not always true.
fn decompress<'a>(blob: &'a mut impl Read) -> io::Result<Box<dyn Read + 'a>> {
    let mut magic = Vec::new();
    blob.by_ref().take(4).read_to_end(&mut magic)?;
    let whole = io::BufReader::with_capacity(64 * 1024, io::Cursor::new(magic.clone()).chain(blob));
    Ok(if magic.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::bufread::MultiGzDecoder::new(whole))
    } else if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Box::new(zstd::Decoder::with_buffer(whole)?)
    } else {
        Box::new(whole)
    })
}

struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(bytes)?;
        self.hash.update(&bytes[..length]);
        Ok(length)
    }
}

/// Work on files, off the threads that must not wait.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(ImageError::Store(format!("a worker died: {error}"))),
    }
}

fn use_lock(store: &Path) -> Result<File, ImageError> {
    let path = store.join("use.lock");
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(ImageError::store("opening", &path))
}

/// While held, no layer goes away.
pub fn using(store: &Path) -> Result<File, ImageError> {
    let lock = use_lock(store)?;
    flock(&lock, FlockOperation::LockShared)
        .map_err(|error| ImageError::store("locking", store)(error.into()))?;
    Ok(lock)
}

/// `None` when somebody uses layers.
pub fn alone(store: &Path) -> Result<Option<File>, ImageError> {
    let lock = use_lock(store)?;
    Ok(flock(&lock, FlockOperation::NonBlockingLockExclusive)
        .is_ok()
        .then_some(lock))
}

/// What was being unpacked when a process died.
pub fn remove_leftovers(store: &Path) -> Result<(), ImageError> {
    let Some(_alone) = alone(store)? else {
        return Ok(());
    };
    let dir = store.join("tmp");
    let entries = fs::read_dir(&dir).map_err(ImageError::store("reading", &dir))?;
    for entry in entries.flatten() {
        let path = entry.path();
        fs::remove_dir_all(&path)
            .or_else(|_| fs::remove_file(&path))
            .map_err(ImageError::store("removing", &path))?;
    }
    Ok(())
}

pub fn retain(store: &Path, keep: impl Fn(&str) -> bool) -> Result<(), ImageError> {
    let dir = store.join("layers");
    let entries = fs::read_dir(&dir).map_err(ImageError::store("reading", &dir))?;
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if keep(&format!("sha256:{name}")) {
            continue;
        }
        discard(store, &entry.path())?;
    }
    Ok(())
}

/// Out of sight first: a half-removed layer must not look whole.
pub fn discard(store: &Path, layer: &Path) -> Result<(), ImageError> {
    let gone = temporary(store);
    match fs::rename(layer, &gone) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        outcome => outcome.map_err(ImageError::store("removing", layer))?,
    }
    fs::remove_dir_all(&gone).map_err(ImageError::store("removing", &gone))
}

pub fn temporary(store: &Path) -> PathBuf {
    let name = uuid::Uuid::new_v4().simple().to_string();
    store.join("tmp").join(name)
}

/// Written, synced, renamed.
pub fn write_durably(store: &Path, path: &Path, text: &[u8]) -> Result<(), ImageError> {
    let temporary = temporary(store);
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(text)?;
        file.sync_data()?;
        fs::rename(&temporary, path)
    };
    write()
        .inspect_err(|_| forget(&temporary))
        .map_err(ImageError::store("writing", path))
}

/// A file that could not be written whole: on a full disk its part counts.
pub fn forget(temporary: &Path) {
    match fs::remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!("removing {}: {error}", temporary.display());
        }
        _ => {}
    }
}
