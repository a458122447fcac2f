//! Images: pulled from registries or imported from tars, unpacked once a layer.
//!
//! ```text
//! <root-dir>/images/
//!   index.json           the images, by config digest; replaced atomically
//!   blobs/sha256/<hex>   manifests and configs as they came
//!   layers/<diff-id>/    a layer, unpacked, with overlayfs's whiteouts
//!   tmp/                 layers being unpacked
//!   lock, use.lock       other processes import into a running daemon's store
//! ```
//!
//! A layer is unpacked by itself, so that images share it by its diff id. A
//! directory that its tar does not list but uses gets mode 0755 of root, also
//! where a layer below has it with another mode: layers that docker, buildkit
//! and buildah write list every directory.

mod import;
mod index;
mod layer;
mod manifest;
mod pull;
mod reference;
mod unpack;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::types::{ImageStatus, RegistryAuth};
use index::{ImageRecord, Index};

pub use pull::PullConfig;

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
    /// Layers of containers, by container id: they outlive their image.
    pins: Mutex<BTreeMap<String, Vec<String>>>,
    unpacking: layer::Unpacking,
}

/// An image and its layers' diff ids, lowest first.
#[derive(Debug)]
pub(crate) struct Image {
    pub status: ImageStatus,
    pub layers: Vec<String>,
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
        for made in ["blobs/sha256", "layers", "tmp"] {
            let path = dir.join(made);
            fs::create_dir_all(&path).map_err(ImageError::store("making", &path))?;
        }
        layer::remove_leftovers(&dir)?;
        Ok(ImageStore {
            inner: Arc::new(Inner {
                dir,
                puller: pull::Puller::new(config)?,
                pins: Mutex::default(),
                unpacking: layer::Unpacking::default(),
            }),
        })
    }

    /// Always asks the registry.
    pub async fn pull(
        &self,
        reference: &str,
        auth: Option<RegistryAuth>,
    ) -> Result<ImageStatus, ImageError> {
        let parsed = reference::parse(reference)?;
        let store = self.clone();
        let name = parsed.whole();
        self.inner
            .puller
            .run(async move { pull::pull(&store, parsed, auth).await })
            .await
            .map_err(|error| match error {
                pull::PullError::Image(error) => error,
                pull::PullError::Words(message) => ImageError::Pull {
                    reference: name,
                    message,
                },
            })
    }

    /// Local only: a tag, a digest, an id, or the id's first digits.
    pub async fn status(&self, reference_or_id: &str) -> Option<ImageStatus> {
        self.find(reference_or_id).map(|record| record.status)
    }

    pub async fn list(&self) -> Vec<ImageStatus> {
        match Index::read(&self.inner.dir) {
            Ok(index) => index
                .images
                .into_values()
                .map(|record| record.status)
                .collect(),
            Err(error) => {
                tracing::error!("{error}");
                Vec::new()
            }
        }
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

    /// An OCI layout or a docker-archive tar.
    pub async fn import(&self, tar: &Path) -> Result<Vec<ImageStatus>, ImageError> {
        let (store, tar) = (self.clone(), tar.to_owned());
        layer::blocking(move || import::import(&store, &tar)).await
    }

    fn find(&self, reference_or_id: &str) -> Option<ImageRecord> {
        match Index::read(&self.inner.dir) {
            Ok(index) => index.find(reference_or_id).cloned(),
            Err(error) => {
                tracing::error!("{error}");
                None
            }
        }
    }

    /// Keeps the image's layers for a container. To be called before use.
    pub(crate) fn pin(&self, container: &str, image: &str) -> Option<Image> {
        // Shared: no garbage is collected between the look and the pin.
        let _using = layer::using(&self.inner.dir).ok()?;
        let record = self.find(image)?;
        self.pin_layers(container, &record.layers);
        Some(Image {
            status: record.status,
            layers: record.layers,
        })
    }

    pub(crate) fn pin_layers(&self, container: &str, layers: &[String]) {
        self.pins().insert(container.to_owned(), layers.to_vec());
    }

    pub(crate) fn unpin(&self, container: &str) {
        let was = self.pins().remove(container);
        let orphaned = was.is_some_and(|layers| {
            let index = Index::read(&self.inner.dir).unwrap_or_default();
            let known = index.layers();
            layers.iter().any(|layer| !known.contains(layer))
        });
        if orphaned && let Err(error) = self.collect_garbage() {
            tracing::warn!("{error}");
        }
    }

    pub(crate) fn layer_dir(&self, diff_id: &str) -> PathBuf {
        layer::dir(&self.inner.dir, diff_id)
    }

    /// For an image without layers.
    pub(crate) fn empty_layer(&self) -> Result<PathBuf, ImageError> {
        let path = self.inner.dir.join("empty");
        fs::create_dir_all(&path).map_err(ImageError::store("making", &path))?;
        Ok(path)
    }

    fn pins(&self) -> MutexGuard<'_, BTreeMap<String, Vec<String>>> {
        self.inner
            .pins
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn collect_garbage(&self) -> Result<(), ImageError> {
        let dir = &self.inner.dir;
        // Somebody unpacks for an image not listed yet: another time.
        let Some(_alone) = layer::alone(dir)? else {
            return Ok(());
        };
        let index = Index::read(dir)?;
        let pins = self.pins();
        let used: BTreeSet<&String> = pins.values().flatten().collect();
        let listed = index.layers();
        layer::retain(dir, |id| {
            listed.contains(id) || used.contains(&id.to_owned())
        })?;
        manifest::retain_blobs(dir, &index.blobs())
    }
}
