//! From a tar: an OCI layout or what `docker save` writes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use serde::Deserialize;

use super::index::{ImageRecord, Index};
use super::manifest::{self, Descriptor, Manifest};
use super::{ImageError, ImageStore, layer, reference};
use crate::types::ImageStatus;

const MAX_JSON: u64 = 16 << 20;
/// What containerd and buildkit write, then the specification's.
const NAME_ANNOTATIONS: [&str; 2] = [
    "io.containerd.image.name",
    "org.opencontainers.image.ref.name",
];

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

pub fn import(store: &ImageStore, tar: &Path) -> Result<Vec<ImageStatus>, ImageError> {
    let _using = layer::using(&store.inner.dir)?;
    let records = read(&store.inner.dir, tar).map_err(|message| ImageError::Import {
        path: tar.display().to_string(),
        message,
    })?;
    Index::update(&store.inner.dir, |index| {
        Ok(records
            .into_iter()
            .map(|record| index.insert(record))
            .collect())
    })
}

fn read(store: &Path, tar: &Path) -> Result<Vec<ImageRecord>, String> {
    let mut archive = Members::list(tar).map_err(|error| error.to_string())?;
    // Newer docker writes both; its own names the images in full.
    if archive.has("manifest.json") {
        let images: Vec<DockerImage> = archive.json("manifest.json")?;
        return images
            .iter()
            .map(|image| docker_image(store, &mut archive, image))
            .collect();
    }
    if archive.has("index.json") {
        let index: Manifest = archive.json("index.json")?;
        let Manifest::Index { manifests } = index else {
            return Err("index.json is no index".into());
        };
        return manifests
            .iter()
            .map(|entry| oci_image(store, &mut archive, entry))
            .collect();
    }
    Err("neither an OCI layout (index.json) nor a docker archive (manifest.json)".into())
}

fn docker_image(
    store: &Path,
    archive: &mut Members,
    image: &DockerImage,
) -> Result<ImageRecord, String> {
    let text = archive.bytes(&image.config)?;
    let layers: Vec<String> = image.layers.clone();
    let mut record = image_record(store, archive, &text, &layers, Vec::new())?;
    for tag in image.repo_tags.iter().flatten() {
        let parsed = reference::parse(tag).map_err(|error| error.to_string())?;
        record.status.repo_tags.extend(reference::tag(&parsed));
    }
    Ok(record)
}

fn oci_image(
    store: &Path,
    archive: &mut Members,
    entry: &Descriptor,
) -> Result<ImageRecord, String> {
    let top = archive.blob(&entry.digest)?;
    let mut manifests = vec![top.clone()];
    let mut parsed: Manifest = parse(&entry.digest, &top)?;
    if let Manifest::Index { manifests: inner } = &parsed {
        let chosen = manifest::choose(inner)?.digest.clone();
        let bytes = archive.blob(&chosen)?;
        parsed = parse(&chosen, &bytes)?;
        manifests.push(bytes);
    }
    let Manifest::Image { config, layers } = parsed else {
        return Err("an index within an index is not supported".into());
    };
    let text = archive.blob(&config.digest)?;
    let mut blobs = Vec::new();
    for bytes in &manifests {
        blobs.push(manifest::keep_blob(store, bytes).map_err(|error| error.to_string())?);
    }
    let layers = layers
        .iter()
        .map(|layer| blob_path(&layer.digest))
        .collect::<Result<Vec<_>, _>>()?;
    let mut record = image_record(store, archive, &text, &layers, blobs)?;
    let name = NAME_ANNOTATIONS
        .iter()
        .filter_map(|key| entry.annotations.get(*key))
        .find_map(|name| reference::parse(name).ok());
    if let Some(name) = name {
        record.status.repo_tags.extend(reference::tag(&name));
        record
            .status
            .repo_digests
            .push(reference::digest(&name, &entry.digest));
    }
    Ok(record)
}

/// Unpacks the layers that are not there, in the archive under those names.
fn image_record(
    store: &Path,
    archive: &mut Members,
    text: &[u8],
    layers: &[String],
    mut blobs: Vec<String>,
) -> Result<ImageRecord, String> {
    let config = manifest::parse_config(text)?;
    if config.diff_ids().len() != layers.len() {
        return Err(format!(
            "mismatched image rootfs and manifest layers: {} and {}",
            config.diff_ids().len(),
            layers.len()
        ));
    }
    let mut size = text.len() as u64;
    for (diff_id, member) in config.diff_ids().iter().zip(layers) {
        let blob = archive.open(member)?;
        size = size.saturating_add(blob.limit());
        if !layer::present(store, diff_id) {
            layer::unpack(store, diff_id, io::BufReader::new(blob))?;
        }
    }
    blobs.push(manifest::keep_blob(store, text).map_err(|error| error.to_string())?);
    Ok(config.into_record(text, size, blobs))
}

fn parse(name: &str, bytes: &[u8]) -> Result<Manifest, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("{name}: {error}"))
}

fn blob_path(digest: &str) -> Result<String, String> {
    Ok(format!(
        "blobs/sha256/{}",
        manifest::checked_digest(digest)?
    ))
}

/// Where each member of a tar is.
struct Members {
    file: File,
    at: BTreeMap<String, (u64, u64)>,
}

impl Members {
    fn list(path: &Path) -> io::Result<Members> {
        let file = File::open(path)?;
        let mut at = BTreeMap::new();
        let mut links = Vec::new();
        let mut archive = tar::Archive::new(io::BufReader::new(&file));
        for entry in archive.entries_with_seek()? {
            let entry = entry?;
            let name = clean(&entry.path()?.to_string_lossy());
            if entry.header().entry_type().is_file() {
                at.insert(name, (entry.raw_file_position(), entry.size()));
            } else if let Some(target) = entry.link_name()? {
                // Older docker saves a layer that two images share as a link.
                let target = target.to_string_lossy().into_owned();
                links.push((name, target));
            }
        }
        drop(archive);
        for (name, target) in links {
            let beside = match name.rsplit_once('/') {
                Some((parent, _)) => clean(&format!("{parent}/{target}")),
                None => clean(&target),
            };
            if let Some(position) = at.get(&beside).or_else(|| at.get(&clean(&target))).copied() {
                at.insert(name, position);
            }
        }
        Ok(Members { file, at })
    }

    fn has(&self, name: &str) -> bool {
        self.at.contains_key(name)
    }

    fn open(&mut self, name: &str) -> Result<io::Take<&File>, String> {
        let (position, size) = *self
            .at
            .get(&clean(name))
            .ok_or_else(|| format!("it lacks {name}"))?;
        let failed = |error: io::Error| format!("{name}: {error}");
        self.file.seek(SeekFrom::Start(position)).map_err(failed)?;
        Ok((&self.file).take(size))
    }

    fn bytes(&mut self, name: &str) -> Result<Vec<u8>, String> {
        let mut member = self.open(name)?;
        if member.limit() > MAX_JSON {
            return Err(format!("{name} has {} bytes", member.limit()));
        }
        let mut bytes = Vec::new();
        member
            .read_to_end(&mut bytes)
            .map_err(|error| format!("{name}: {error}"))?;
        Ok(bytes)
    }

    fn blob(&mut self, digest: &str) -> Result<Vec<u8>, String> {
        let bytes = self.bytes(&blob_path(digest)?)?;
        let got = manifest::digest_of(&bytes);
        if got != digest {
            return Err(format!("blob {digest} is {got}"));
        }
        Ok(bytes)
    }

    fn json<T: serde::de::DeserializeOwned>(&mut self, name: &str) -> Result<T, String> {
        let bytes = self.bytes(name)?;
        serde_json::from_slice(&bytes).map_err(|error| format!("{name}: {error}"))
    }
}

/// `./a/../b` is `b`.
fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}
