//! Images: pulled from registries or imported from tars, unpacked once a layer.

use std::path::Path;

use crate::types::{ImageStatus, RegistryAuth};

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

#[derive(Clone, Debug)]
pub struct ImageStore {}

impl ImageStore {
    /// Always asks the registry.
    pub async fn pull(
        &self,
        reference: &str,
        _auth: Option<RegistryAuth>,
    ) -> Result<ImageStatus, ImageError> {
        Err(ImageError::NotFound(reference.to_owned()))
    }

    /// Local only: a tag, a digest, an id, or the id's first digits.
    pub async fn status(&self, _reference_or_id: &str) -> Option<ImageStatus> {
        None
    }

    pub async fn list(&self) -> Vec<ImageStatus> {
        Vec::new()
    }

    pub async fn remove(&self, reference_or_id: &str) -> Result<(), ImageError> {
        Err(ImageError::NotFound(reference_or_id.to_owned()))
    }

    /// An OCI layout or a docker-archive tar.
    pub async fn import(&self, _tar: &Path) -> Result<Vec<ImageStatus>, ImageError> {
        Ok(Vec::new())
    }
}
