//! Images: pulled from registries or imported from tars, unpacked once a layer.
//!
//! ```text
//! <root-dir>/images/
//!   index.json           the images, by config digest; replaced atomically
//!   blobs/sha256/<hex>   manifests and configs as they came
//!   layers/<diff-id>/    a layer, unpacked, with overlayfs's whiteouts
//!   fresh/<diff-id>      it may not be on the disk yet
//!   pins/<container>     layers that a container has, whatever the index says
//!   tmp/                 what is being written or removed
//!   lock, use.lock       other processes import into a running daemon's store
//! ```
//!
//! A layer is unpacked by itself, so that images share it by its diff id. A
//! directory that its tar does not list but uses gets mode 0755 of root, also
//! where a layer below has it with another mode: layers that docker, buildkit
//! and buildah write list every directory.

mod fresh;
mod import;
mod index;
mod layer;
mod manifest;
pub(crate) mod part;
mod pins;
mod pull;
mod reference;
mod unpack;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::record;
use crate::stats::DiskUsage;
use crate::types::{ImageStatus, RegistryAuth};
use index::Index;

pub use pull::{LayerProgress, Progress, PullConfig};
#[cfg(feature = "fuzzing")]
pub use unpack::fuzz::fuzz_unpack;

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The agent reports it as InvalidImageName and does not try again.
    #[error("couldn't parse image name \"{reference}\": {message}")]
    InvalidReference { reference: String, message: String },
    /// The registry's words.
    #[error("failed to pull and unpack image \"{reference}\": {message}")]
    Pull { reference: String, message: String },
    #[error("image {0} not found")]
    NotFound(String),
    #[error("cannot import {path}: {message}")]
    Import { path: String, message: String },
    #[error("image store: {0}")]
    Store(String),
}

impl ImageError {
    pub(crate) fn store(step: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |error| ImageError::Store(format!("{step} {}: {error}", path.display()))
    }
}

#[derive(Clone)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    puller: pull::Puller,
    unpacking: layer::Unpacking,
    /// There may be some that could not be collected while layers were in use.
    garbage: AtomicBool,
    /// Of unpacked layers, by diff id.
    sizes: Mutex<BTreeMap<String, DiskUsage>>,
}

/// An image and its layers' diff ids, lowest first.
#[derive(Debug)]
pub(crate) struct Image {
    pub status: ImageStatus,
    pub layers: Vec<String>,
}

/// Of a container's image and those it mounts.
pub(crate) fn layers(image: &Image, mounted: &[Image]) -> Vec<String> {
    let all = std::iter::once(image).chain(mounted);
    all.flat_map(|image| image.layers.iter().cloned()).collect()
}

impl std::fmt::Debug for ImageStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageStore")
            .field("dir", &self.inner.dir)
            .finish_non_exhaustive()
    }
}

impl ImageStore {
    /// The store below a node's root directory, whether its daemon runs or not.
    pub fn open(root_dir: &Path) -> Result<ImageStore, ImageError> {
        ImageStore::open_with(root_dir, PullConfig::default())
    }

    pub fn open_with(root_dir: &Path, config: PullConfig) -> Result<ImageStore, ImageError> {
        let dir = root_dir.join("images");
        record::private_dir(&dir).map_err(ImageError::store("making", &dir))?;
        for made in ["blobs/sha256", "layers", "pins", "tmp"] {
            let path = dir.join(made);
            fs::create_dir_all(&path).map_err(ImageError::store("making", &path))?;
        }
        layer::remove_leftovers(&dir)?;
        if fresh::discard_torn(&dir)? {
            Index::update(&dir, |index| {
                index.retain_whole(|layer| layer::present(&dir, layer));
                Ok(())
            })?;
        }
        fresh::settle_later(&dir);
        Ok(ImageStore {
            inner: Arc::new(Inner {
                puller: pull::Puller::new(config)?,
                dir,
                unpacking: layer::Unpacking::default(),
                garbage: AtomicBool::new(false),
                sizes: Mutex::default(),
            }),
        })
    }

    /// Always asks the registry.
    pub async fn pull(
        &self,
        reference: &str,
        auth: Option<RegistryAuth>,
    ) -> Result<ImageStatus, ImageError> {
        self.pull_showing(reference, auth, Progress::default())
            .await
    }

    /// The same, for somebody who watches.
    pub async fn pull_showing(
        &self,
        reference: &str,
        auth: Option<RegistryAuth>,
        progress: Progress,
    ) -> Result<ImageStatus, ImageError> {
        let parsed = reference::parse(reference)?;
        let store = self.clone();
        let name = parsed.whole();
        let outcome = self
            .inner
            .puller
            .run(async move { pull::pull(&store, parsed, auth, progress).await })
            .await
            .map_err(|error| match error {
                pull::PullError::Image(error) => error,
                pull::PullError::Words(message) => ImageError::Pull {
                    reference: name,
                    message,
                },
            });
        self.note_failure(&outcome);
        let store = self.clone();
        layer::blocking(move || store.after_use()).await?;
        outcome
    }

    /// Local only: a tag, a digest, an id, or the id's first digits.
    pub async fn status(&self, reference_or_id: &str) -> Option<ImageStatus> {
        let index = self.read_index();
        index
            .find(reference_or_id)
            .map(|record| record.status.clone())
    }

    pub async fn list(&self) -> Vec<ImageStatus> {
        let images = self.read_index().images;
        images.into_values().map(|record| record.status).collect()
    }

    /// One that is damaged has no images: they are pulled again.
    fn read_index(&self) -> Index {
        Index::read(&self.inner.dir).unwrap_or_else(|error| {
            tracing::error!("{error}");
            Index::default()
        })
    }

    /// By an id the image goes, by a tag or digest only that name when it has
    /// others. Layers go when no image and no container has them.
    pub async fn remove(&self, reference_or_id: &str) -> Result<(), ImageError> {
        let wanted = reference_or_id.to_owned();
        let store = self.clone();
        layer::blocking(move || {
            Index::update(&store.inner.dir, |index| {
                let id = index
                    .find(&wanted)
                    .map(|record| record.status.id.clone())
                    .ok_or_else(|| ImageError::NotFound(wanted.clone()))?;
                index.remove(&id, &wanted);
                Ok(())
            })?;
            store.collect_garbage()
        })
        .await
    }

    /// Waits until all layers are on the disk: for a program that ends, and leaves nobody behind who
    /// would sync them.
    pub async fn settle(&self) -> Result<(), ImageError> {
        let store = self.clone();
        layer::blocking(move || fresh::settle(&store.inner.dir)).await
    }

    /// An OCI layout or a docker-archive tar.
    pub async fn import(&self, tar: &Path) -> Result<Vec<ImageStatus>, ImageError> {
        let (store, tar) = (self.clone(), tar.to_owned());
        layer::blocking(move || {
            let outcome = import::import(&store, &tar);
            store.note_failure(&outcome);
            store.after_use()?;
            outcome
        })
        .await
    }

    /// Of all layers. Each is counted once, since it does not change.
    pub(crate) fn usage(&self) -> Result<DiskUsage, crate::Error> {
        let layers = self.read_index().layers();
        let mut known = self
            .inner
            .sizes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        known.retain(|layer, _| layers.contains(layer));
        let mut sum = DiskUsage::default();
        for layer in layers {
            let size = match known.get(&layer) {
                Some(size) => *size,
                None => {
                    let size = crate::stats::disk_usage(&self.layer_dir(&layer))?;
                    known.insert(layer, size);
                    size
                }
            };
            sum.bytes += size.bytes;
            sum.inodes += size.inodes;
        }
        Ok(sum)
    }

    /// The layers that came before the failure have no image, and on a disk that it was about nobody
    /// would take them away. As containerd, whose lease ends with a pull.
    fn note_failure<T>(&self, outcome: &Result<T, ImageError>) {
        if outcome.is_err() {
            self.inner.garbage.store(true, Ordering::Relaxed);
        }
    }

    fn after_use(&self) -> Result<(), ImageError> {
        fresh::settle_later(&self.inner.dir);
        if self.inner.garbage.load(Ordering::Relaxed) {
            self.collect_garbage()?;
        }
        Ok(())
    }

    /// Keeps the layers of all of a container's images. To be called before use.
    pub(crate) fn pin(
        &self,
        container: &str,
        image: &str,
        mounted: &[&str],
    ) -> Result<(Image, Vec<Image>), ImageError> {
        // Shared: no garbage is collected between the look and the pin.
        let _using = layer::using(&self.inner.dir)?;
        let index = Index::read(&self.inner.dir)?;
        let found = |image: &str| {
            let record = index
                .find(image)
                .ok_or_else(|| ImageError::NotFound(image.to_owned()))?;
            Ok(Image {
                status: record.status.clone(),
                layers: record.layers.clone(),
            })
        };
        let image = found(image)?;
        let mounted = mounted.iter().map(|image| found(image));
        let mounted: Vec<Image> = mounted.collect::<Result<_, _>>()?;
        pins::add(&self.inner.dir, container, &layers(&image, &mounted))?;
        Ok((image, mounted))
    }

    pub(crate) fn unpin(&self, container: &str) -> Result<(), ImageError> {
        let layers = pins::remove(&self.inner.dir, container)?;
        let listed = Index::read(&self.inner.dir)?.layers();
        if layers.iter().any(|layer| !listed.contains(layer)) {
            self.collect_garbage()?;
        }
        Ok(())
    }

    /// After a start: containers that are no more keep nothing.
    pub(crate) fn retain_pins(&self, containers: &BTreeSet<String>) -> Result<(), ImageError> {
        pins::retain(&self.inner.dir, containers)?;
        self.collect_garbage()
    }

    pub(crate) fn layer_dir(&self, diff_id: &str) -> PathBuf {
        layer::dir(&self.inner.dir, diff_id)
    }

    /// Where an image's layers are, topmost first; where it has fewer than `least`, with an
    /// empty one below. One that comes twice is there once: what it does further down it does
    /// again above, and overlayfs refuses the same directory twice.
    pub(crate) fn lower(&self, image: &Image, least: usize) -> Result<Vec<PathBuf>, ImageError> {
        let mut seen = BTreeSet::new();
        let layers = image.layers.iter().rev();
        let once = layers.filter(|layer| seen.insert(*layer));
        let mut lower: Vec<PathBuf> = once.map(|layer| self.layer_dir(layer)).collect();
        if lower.len() < least {
            lower.push(self.empty_layer()?);
        }
        Ok(lower)
    }

    /// For an image with too few layers.
    fn empty_layer(&self) -> Result<PathBuf, ImageError> {
        let path = self.inner.dir.join("empty");
        fs::create_dir_all(&path).map_err(ImageError::store("making", &path))?;
        Ok(path)
    }

    /// While somebody has layers in use, also for an image not listed yet, it
    /// is put off until they are done.
    fn collect_garbage(&self) -> Result<(), ImageError> {
        let dir = &self.inner.dir;
        self.inner.garbage.store(true, Ordering::Relaxed);
        let Some(_alone) = layer::alone(dir)? else {
            return Ok(());
        };
        self.inner.garbage.store(false, Ordering::Relaxed);
        let index = Index::read(dir)?;
        let mut used = index.layers();
        used.extend(pins::layers(dir)?);
        layer::retain(dir, |id| used.contains(id))?;
        manifest::retain_blobs(dir, &index.blobs())
    }
}
