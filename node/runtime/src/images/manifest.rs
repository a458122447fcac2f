//! Manifests, indexes and configs: OCI's and Docker's are alike.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use sha2::digest::DynDigest;
use sha2::{Digest, Sha256, Sha512};

use super::ImageError;
use super::index::ImageRecord;
use crate::types::ImageStatus;

pub const ACCEPTED: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

#[derive(Clone, Debug, Deserialize)]
pub struct Descriptor {
    pub digest: String,
    #[serde(default)]
    pub size: u64,
    #[serde(default)]
    pub platform: Option<Platform>,
    #[serde(default)]
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// In bytes, as a manifest says it: of a layer that is there already nobody has counted them.
pub fn whole_size(config: &Descriptor, layers: &[Descriptor]) -> u64 {
    let sizes = layers.iter().map(|layer| layer.size);
    sizes.fold(config.size, u64::saturating_add)
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Platform {
    #[serde(default)]
    pub os: String,
    #[serde(default)]
    pub architecture: String,
}

/// An image's manifest or an index of them.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Manifest {
    Index {
        manifests: Vec<Descriptor>,
    },
    Image {
        config: Descriptor,
        layers: Vec<Descriptor>,
    },
}

#[derive(Debug, Default, Deserialize)]
pub struct Config {
    #[serde(default)]
    config: Option<Process>,
    rootfs: RootFs,
}

#[derive(Debug, Default, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Process {
    env: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    stop_signal: Option<String>,
}

pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// This machine's entry. One without a platform is taken when it is alone:
/// layouts written by tools for one machine leave it out.
pub fn choose(manifests: &[Descriptor]) -> Result<&Descriptor, String> {
    let ours = |entry: &&Descriptor| {
        entry.platform.as_ref().is_some_and(|platform| {
            platform.os == "linux" && platform.architecture == architecture()
        })
    };
    match (manifests.iter().find(ours), manifests) {
        (Some(entry), _) => Ok(entry),
        (None, [only]) if only.platform.is_none() => Ok(only),
        _ => Err(format!(
            "no match for platform linux/{} in manifest",
            architecture()
        )),
    }
}

/// diff ids are file names below: they are what they say or refused.
pub fn checked_digest(digest: &str) -> Result<&str, String> {
    match digest.strip_prefix("sha256:") {
        Some(hex) if is_hex(hex, 64) => Ok(hex),
        _ => Err(format!("unsupported digest {digest:?}")),
    }
}

pub fn parse_config(text: &[u8]) -> Result<Config, String> {
    let config: Config =
        serde_json::from_slice(text).map_err(|error| format!("image config: {error}"))?;
    for diff_id in &config.rootfs.diff_ids {
        checked_digest(diff_id)?;
    }
    Ok(config)
}

impl Config {
    pub fn diff_ids(&self) -> &[String] {
        &self.rootfs.diff_ids
    }

    /// Its entry in the index, yet without names.
    pub fn into_record(self, text: &[u8], size_bytes: u64, blobs: Vec<String>) -> ImageRecord {
        let process = self.config.unwrap_or_default();
        let env = process.env.unwrap_or_default();
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        ImageRecord {
            status: ImageStatus {
                id: digest_of(text),
                repo_tags: Vec::new(),
                repo_digests: Vec::new(),
                size_bytes,
                entrypoint: process.entrypoint.unwrap_or_default(),
                cmd: process.cmd.unwrap_or_default(),
                env: env
                    .iter()
                    .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect(),
                working_dir: filled(process.working_dir).unwrap_or_else(|| "/".to_owned()),
                user: process.user.unwrap_or_default(),
                stop_signal: filled(process.stop_signal),
            },
            layers: self.rootfs.diff_ids,
            blobs,
        }
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

pub type Hash = Box<dyn DynDigest + Send>;

/// What computes a digest's algorithm: those that OCI registers. Digests go into addresses, and are
/// what they say or refused.
pub fn hash_of(digest: &str) -> Result<Hash, String> {
    let hash: Option<Hash> = match digest.split_once(':') {
        Some(("sha256", hex)) if is_hex(hex, 64) => Some(Box::new(Sha256::default())),
        Some(("sha512", hex)) if is_hex(hex, 128) => Some(Box::new(Sha512::default())),
        _ => None,
    };
    hash.ok_or_else(|| format!("unsupported digest {digest:?}"))
}

fn is_hex(text: &str, length: usize) -> bool {
    let digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == length && text.bytes().all(digit)
}

/// By the algorithm of another digest.
pub fn digest_like(other: &str, bytes: &[u8]) -> Result<String, String> {
    let mut hash = hash_of(other)?;
    hash.update(bytes);
    let algorithm = other.split_once(':').map_or("", |(algorithm, _)| algorithm);
    Ok(format!("{algorithm}:{}", hex(&hash.finalize_reset())))
}

/// Keeps a manifest or config as it came; returns its digest. One that a
/// crash has cut is written anew.
pub fn keep_blob(dir: &Path, bytes: &[u8]) -> Result<String, ImageError> {
    let digest = digest_of(bytes);
    let path = dir.join("blobs").join(digest.replace(':', "/"));
    if fs::read(&path).ok().as_deref() != Some(bytes) {
        let temporary = super::layer::temporary(dir);
        fs::write(&temporary, bytes)
            .and_then(|()| fs::rename(&temporary, &path))
            .inspect_err(|_| super::layer::forget(&temporary))
            .map_err(ImageError::store("writing", &path))?;
    }
    Ok(digest)
}

pub fn retain_blobs(dir: &Path, wanted: &BTreeSet<String>) -> Result<(), ImageError> {
    let dir = dir.join("blobs/sha256");
    let entries = fs::read_dir(&dir).map_err(ImageError::store("reading", &dir))?;
    for entry in entries.flatten() {
        let digest = format!("sha256:{}", entry.file_name().to_string_lossy());
        if !wanted.contains(&digest) {
            let path = entry.path();
            fs::remove_file(&path).map_err(ImageError::store("removing", &path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_all_that_a_manifest_names() {
        let of = |size: u64| Descriptor {
            digest: String::new(),
            size,
            platform: None,
            annotations: Default::default(),
        };
        for (config, layers, want) in [
            (1, &[][..], 1),
            (1, &[2, 3], 6),
            (1, &[u64::MAX - 1], u64::MAX),
            (1, &[u64::MAX], u64::MAX),
            (1, &[u64::MAX, u64::MAX], u64::MAX),
        ] {
            let named: Vec<Descriptor> = layers.iter().map(|size| of(*size)).collect();
            assert_eq!(whole_size(&of(config), &named), want, "{layers:?}");
        }
    }

    #[test]
    fn the_machines_own_platform() {
        let entry = |platform: Option<(&str, &str)>| Descriptor {
            digest: format!("{platform:?}"),
            size: 1,
            platform: platform.map(|(os, architecture)| Platform {
                os: os.into(),
                architecture: architecture.into(),
            }),
            annotations: Default::default(),
        };
        let ours = entry(Some(("linux", architecture())));
        let windows = entry(Some(("windows", architecture())));
        let attestation = entry(Some(("unknown", "unknown")));
        let bare = entry(None);
        let chosen = |list: &[&Descriptor]| {
            let list: Vec<Descriptor> = list.iter().map(|entry| (*entry).clone()).collect();
            choose(&list).ok().map(|entry| entry.digest.clone())
        };
        assert_eq!(
            chosen(&[&windows, &attestation, &ours]),
            Some(ours.digest.clone())
        );
        assert_eq!(chosen(&[&bare]), Some(bare.digest.clone()));
        assert_eq!(chosen(&[&windows, &attestation]), None);
        assert_eq!(chosen(&[]), None);
    }

    #[test]
    fn digests_that_are_paths_are_refused() {
        let good = format!("sha256:{}", "0f".repeat(32));
        assert!(checked_digest(&good).is_ok());
        for bad in ["sha256:../../etc", "sha512:00", "", &good.to_uppercase()] {
            assert!(checked_digest(bad).is_err(), "{bad}");
            assert!(hash_of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_config_with_nulls() {
        let text = br#"{"config":{"Env":["A=b=c"],"Cmd":null,"Entrypoint":["/x"],
            "StopSignal":""},"rootfs":{"type":"layers","diff_ids":[]}}"#;
        let record = parse_config(text).unwrap().into_record(text, 5, vec![]);
        assert_eq!(record.status.env, [("A".to_owned(), "b=c".to_owned())]);
        assert_eq!(record.status.entrypoint, ["/x"]);
        assert_eq!(
            (
                record.status.stop_signal,
                record.status.working_dir.as_str()
            ),
            (None, "/")
        );
        assert_eq!(record.status.id, digest_of(text));
    }
}
