//! A vendor's file, in JSON or YAML.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// `vendor.com/class`
    pub kind: String,
    #[serde(default)]
    pub devices: Vec<Named>,
    #[serde(default)]
    pub container_edits: Edits,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Named {
    pub name: String,
    #[serde(default)]
    pub container_edits: Edits,
}

/// What is not among these is not known, and a container without it would not be what its file says.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Edits {
    pub env: Vec<String>,
    pub device_nodes: Vec<DeviceNode>,
    pub mounts: Vec<Mount>,
    pub additional_gids: Vec<u32>,
    hooks: Vec<Value>,
    net_devices: Vec<Value>,
    intel_rdt: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceNode {
    /// In the container.
    pub path: PathBuf,
    #[serde(default)]
    pub host_path: Option<PathBuf>,
    #[serde(default)]
    pub permissions: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    major: Option<i64>,
    #[serde(default)]
    minor: Option<i64>,
    #[serde(default)]
    file_mode: Option<u32>,
    #[serde(default)]
    uid: Option<u32>,
    #[serde(default)]
    gid: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mount {
    pub host_path: PathBuf,
    pub container_path: PathBuf,
    #[serde(default)]
    pub options: Vec<String>,
    #[serde(default, rename = "type")]
    pub kind: String,
}

impl Spec {
    /// None for a file of another kind.
    pub fn read(path: &Path) -> Option<io::Result<Spec>> {
        let is_json = match path.extension()?.to_str()? {
            "json" => true,
            "yaml" => false,
            _ => return None,
        };
        let parsed = fs::read_to_string(path).and_then(|text| match is_json {
            true => serde_json::from_str(&text).map_err(io::Error::other),
            false => serde_yaml_ng::from_str(&text).map_err(io::Error::other),
        });
        Some(parsed)
    }
}

impl Edits {
    /// In words, what this runtime has not.
    pub fn beyond(&self) -> Option<&'static str> {
        [
            (!self.hooks.is_empty(), "hooks"),
            (!self.net_devices.is_empty(), "netDevices"),
            (self.intel_rdt.is_some(), "intelRdt"),
        ]
        .into_iter()
        .find_map(|(asked, what)| asked.then_some(what))
    }
}

impl DeviceNode {
    /// What the file says of it and the node's own is not. One that is not there is not looked at.
    pub fn differs_from(&self, path: &Path) -> Option<&'static str> {
        let metadata = fs::metadata(path).ok()?;
        let (kind, number) = (metadata.file_type(), metadata.rdev());
        let is =
            |wanted: Option<i64>, own: u32| wanted.is_none_or(|wanted| wanted == i64::from(own));
        let owner = |wanted: Option<u32>, own: u32| wanted.is_none_or(|wanted| wanted == own);
        let right_kind = match self.kind.as_str() {
            "" => true,
            "b" => kind.is_block_device(),
            "c" | "u" => kind.is_char_device(),
            _ => false,
        };
        // A number is said with both halves, and 0:0 is none.
        let said = self.major.unwrap_or(0) != 0 || self.minor.unwrap_or(0) != 0;
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        [
            (!right_kind, "type"),
            (
                said && !(is(self.major, major) && is(self.minor, minor)),
                "number",
            ),
            (!owner(self.uid, metadata.uid()), "owner"),
            (!owner(self.gid, metadata.gid()), "group"),
            (
                !owner(
                    self.file_mode.map(|mode| mode & 0o777),
                    metadata.mode() & 0o777,
                ),
                "mode",
            ),
        ]
        .into_iter()
        .find_map(|(differs, what)| differs.then_some(what))
    }
}
