//! The list of images: one file, read anew each time, since `vetch-node image
//! import` is another process.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::{ImageError, reference};
use crate::types::ImageStatus;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Index {
    /// By id.
    pub images: BTreeMap<String, ImageRecord>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImageRecord {
    pub status: ImageStatus,
    /// diff ids, lowest first.
    pub layers: Vec<String>,
    /// Digests of its manifests and its config.
    pub blobs: Vec<String>,
}

impl Index {
    pub fn read(dir: &Path) -> Result<Index, ImageError> {
        let path = dir.join("index.json");
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| ImageError::Store(format!("{}: {error}", path.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Index::default()),
            Err(error) => Err(ImageError::store("reading", &path)(error)),
        }
    }

    /// Nobody else changes it meanwhile, in whichever process.
    pub fn update<T>(
        dir: &Path,
        change: impl FnOnce(&mut Index) -> Result<T, ImageError>,
    ) -> Result<T, ImageError> {
        let path = dir.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(ImageError::store("opening", &path))?;
        flock(&lock, FlockOperation::LockExclusive)
            .map_err(|error| ImageError::store("locking", &path)(error.into()))?;
        let mut index = Index::read(dir)?;
        let outcome = change(&mut index)?;
        let text = serde_json::to_vec_pretty(&index)
            .map_err(|error| ImageError::Store(format!("index.json: {error}")))?;
        super::layer::write_durably(dir, &dir.join("index.json"), &text)?;
        Ok(outcome)
    }

    pub fn find(&self, wanted: &str) -> Option<&ImageRecord> {
        if let Some(record) = self.images.get(wanted) {
            return Some(record);
        }
        if let Some(record) = self.images.get(&format!("sha256:{wanted}")) {
            return Some(record);
        }
        if let Ok(parsed) = reference::parse(wanted) {
            let named = |record: &&ImageRecord| match parsed.digest() {
                Some(digest) => {
                    let digest = reference::digest(&parsed, digest);
                    record.status.repo_digests.contains(&digest)
                }
                None => reference::tag(&parsed)
                    .is_some_and(|tag| record.status.repo_tags.contains(&tag)),
            };
            if let Some(record) = self.images.values().find(named) {
                return Some(record);
            }
        }
        self.find_by_prefix(wanted)
    }

    /// The id's first digits, as docker shortens it or longer: fewer may well
    /// be a name.
    fn find_by_prefix(&self, wanted: &str) -> Option<&ImageRecord> {
        let digits = wanted.strip_prefix("sha256:").unwrap_or(wanted);
        if digits.len() < 12 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let prefix = format!("sha256:{digits}");
        let mut found = self.images.iter().filter(|(id, _)| id.starts_with(&prefix));
        match (found.next(), found.next()) {
            (Some((_, record)), None) => Some(record),
            _ => None,
        }
    }

    /// A tag names one image: it is taken from the one that had it.
    pub fn insert(&mut self, mut new: ImageRecord) -> ImageStatus {
        for record in self.images.values_mut() {
            record
                .status
                .repo_tags
                .retain(|tag| !new.status.repo_tags.contains(tag));
        }
        if let Some(old) = self.images.get(&new.status.id) {
            merge(&mut new.status.repo_tags, &old.status.repo_tags);
            merge(&mut new.status.repo_digests, &old.status.repo_digests);
            merge(&mut new.blobs, &old.blobs);
        }
        let status = new.status.clone();
        self.images.insert(status.id.clone(), new);
        status
    }

    pub fn remove(&mut self, id: &str, wanted: &str) {
        let Some(record) = self.images.get_mut(id) else {
            return;
        };
        if let Ok(parsed) = reference::parse(wanted)
            && record.status.repo_tags.len() > 1
            && let Some(tag) = reference::tag(&parsed)
            && record.status.repo_tags.contains(&tag)
        {
            record.status.repo_tags.retain(|known| *known != tag);
            return;
        }
        self.images.remove(id);
    }

    /// Forgets images of which a layer is gone.
    pub fn retain_whole(&mut self, present: impl Fn(&str) -> bool) {
        self.images
            .retain(|_, record| record.layers.iter().all(|layer| present(layer)));
    }

    pub fn layers(&self) -> BTreeSet<String> {
        let records = self.images.values();
        records
            .flat_map(|record| record.layers.iter().cloned())
            .collect()
    }

    pub fn blobs(&self) -> BTreeSet<String> {
        let records = self.images.values();
        records
            .flat_map(|record| record.blobs.iter().cloned())
            .collect()
    }
}

fn merge(into: &mut Vec<String>, from: &[String]) {
    for item in from {
        if !into.contains(item) {
            into.push(item.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str, tags: &[&str], digests: &[&str]) -> ImageRecord {
        ImageRecord {
            status: ImageStatus {
                id: format!("sha256:{id}"),
                repo_tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
                repo_digests: digests.iter().map(|digest| (*digest).to_owned()).collect(),
                ..ImageStatus::default()
            },
            layers: vec![],
            blobs: vec![],
        }
    }

    #[test]
    fn every_way_to_name_an_image() {
        let manifest = format!("docker.io/library/a@sha256:{}", "b".repeat(64));
        let mut index = Index::default();
        index.insert(image(
            "abcd01",
            &["docker.io/library/a:latest"],
            &[&manifest],
        ));
        index.insert(image("abcd02", &["r:5000/a:1", "r:5000/a:2"], &[]));
        for (wanted, id) in [
            ("a", Some("sha256:abcd01")),
            ("docker.io/library/a:latest", Some("sha256:abcd01")),
            (&manifest, Some("sha256:abcd01")),
            (&manifest.replace("/a@", "/a:9@"), Some("sha256:abcd01")),
            ("sha256:abcd02", Some("sha256:abcd02")),
            ("abcd02", Some("sha256:abcd02")),
            ("abcd0", None),
            ("r:5000/a:2", Some("sha256:abcd02")),
            ("r:5000/a", None),
            ("a:2", None),
        ] {
            let got = index.find(wanted).map(|record| record.status.id.as_str());
            assert_eq!(got, id, "{wanted}");
        }
        // A tag moves.
        index.insert(image("ef", &["r:5000/a:1"], &[]));
        assert_eq!(index.find("r:5000/a:1").unwrap().status.id, "sha256:ef");
        assert_eq!(
            index.find("abcd02").unwrap().status.repo_tags,
            ["r:5000/a:2"]
        );
        // The last name takes the image with it.
        index.remove("sha256:abcd02", "r:5000/a:2");
        assert!(index.find("abcd02").is_none());
    }
}
