//! What is written into a volume: relative paths, bytes, modes. No IO here.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, DownwardAPIVolumeFile, DownwardAPIVolumeSource, KeyToPath,
    Pod, ProjectedVolumeSource, Secret, SecretVolumeSource, VolumeProjection,
};

use super::VolumeError;
use super::token::{TokenWish, Tokens};
use crate::pods::downward::{self, Surroundings};
use crate::pods::sources::Sources;
use crate::pods::spec;

const DEFAULT_MODE: i32 = 0o644;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub data: Vec<u8>,
    pub mode: u32,
    /// Owner of the file, root when absent.
    pub owner: Option<u32>,
}

pub type Payload = BTreeMap<PathBuf, Entry>;

/// What payloads are made from.
pub struct Material<'a> {
    pub pod: &'a Pod,
    pub sources: &'a Sources,
    pub around: &'a Surroundings<'a>,
    pub tokens: &'a Tokens,
}

pub fn config_map(
    source: &ConfigMapVolumeSource,
    material: &Material<'_>,
) -> Result<Payload, VolumeError> {
    let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
    let optional = source.optional.unwrap_or(false);
    let object = material.sources.config_map(&source.name, optional)?;
    let items = source.items.as_deref();
    from_config_map(object, items, mode, optional)
}

pub fn secret(
    source: &SecretVolumeSource,
    material: &Material<'_>,
) -> Result<Payload, VolumeError> {
    let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
    let optional = source.optional.unwrap_or(false);
    let name = source.secret_name.as_deref().unwrap_or_default();
    let object = material.sources.secret(name, optional)?;
    from_secret(object, source.items.as_deref(), mode, optional)
}

pub fn downward_api(
    source: &DownwardAPIVolumeSource,
    material: &Material<'_>,
) -> Result<Payload, VolumeError> {
    let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
    from_downward(source.items.as_deref(), mode, material)
}

/// A later source wins where two have the same path.
pub fn projected(
    source: &ProjectedVolumeSource,
    material: &Material<'_>,
) -> Result<Payload, VolumeError> {
    let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
    let mut payload = Payload::new();
    for projection in source.sources.iter().flatten() {
        payload.extend(of_projection(projection, mode, material)?);
    }
    Ok(payload)
}

fn of_projection(
    projection: &VolumeProjection,
    mode: i32,
    material: &Material<'_>,
) -> Result<Payload, VolumeError> {
    if let Some(source) = &projection.config_map {
        let optional = source.optional.unwrap_or(false);
        let object = material.sources.config_map(&source.name, optional)?;
        return from_config_map(object, source.items.as_deref(), mode, optional);
    }
    if let Some(source) = &projection.secret {
        let optional = source.optional.unwrap_or(false);
        let object = material.sources.secret(&source.name, optional)?;
        return from_secret(object, source.items.as_deref(), mode, optional);
    }
    if let Some(source) = &projection.downward_api {
        return from_downward(source.items.as_deref(), mode, material);
    }
    if let Some(source) = &projection.service_account_token {
        let token = material.tokens.get(&TokenWish::of(source))?;
        // Readable by one user or by the pod's group, when it has such.
        let owner = common_user(material.pod);
        let group = fs_group(material.pod);
        let mode = if owner.is_some() || group.is_some() {
            0o600
        } else {
            mode
        };
        let entry = Entry {
            data: token.as_bytes().to_vec(),
            mode: bits(mode),
            owner,
        };
        return Ok([(checked(&source.path)?, entry)].into());
    }
    if projection.cluster_trust_bundle.is_some() {
        return Err(VolumeError::Unsupported("projected clusterTrustBundle"));
    }
    if projection.pod_certificate.is_some() {
        return Err(VolumeError::Unsupported("projected podCertificate"));
    }
    Ok(Payload::new())
}

fn from_config_map(
    object: Option<&ConfigMap>,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: bool,
) -> Result<Payload, VolumeError> {
    let mut values: BTreeMap<&str, &[u8]> = BTreeMap::new();
    if let Some(object) = object {
        let text = object.data.iter().flatten();
        values.extend(text.map(|(key, value)| (key.as_str(), value.as_bytes())));
        values.extend(bytes(object.binary_data.as_ref()));
    }
    select(&values, items, mode, optional, "config")
}

fn from_secret(
    object: Option<&Secret>,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: bool,
) -> Result<Payload, VolumeError> {
    let data = object.and_then(|object| object.data.as_ref());
    let values = bytes(data).collect();
    select(&values, items, mode, optional, "secret")
}

fn bytes(map: Option<&BTreeMap<String, ByteString>>) -> impl Iterator<Item = (&str, &[u8])> {
    map.into_iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value.0.as_slice()))
}

/// All values by their keys, or the items only.
fn select(
    values: &BTreeMap<&str, &[u8]>,
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: bool,
    kind: &'static str,
) -> Result<Payload, VolumeError> {
    let entry = |data: &[u8], mode| Entry {
        data: data.to_vec(),
        mode: bits(mode),
        owner: None,
    };
    let mut payload = Payload::new();
    match items {
        None | Some([]) => {
            for (key, data) in values {
                payload.insert(checked(key)?, entry(data, mode));
            }
        }
        Some(items) => {
            for item in items {
                match values.get(item.key.as_str()) {
                    Some(data) => {
                        let mode = item.mode.unwrap_or(mode);
                        payload.insert(checked(&item.path)?, entry(data, mode));
                    }
                    None if optional => {}
                    None => {
                        let key = item.key.clone();
                        return Err(VolumeError::Key { kind, key });
                    }
                }
            }
        }
    }
    Ok(payload)
}

fn from_downward(
    items: Option<&[DownwardAPIVolumeFile]>,
    mode: i32,
    material: &Material<'_>,
) -> Result<Payload, VolumeError> {
    let mut payload = Payload::new();
    for item in items.unwrap_or_default() {
        let text = if let Some(reference) = &item.field_ref {
            downward::field(material.pod, &reference.field_path, material.around)?
        } else if let Some(selector) = &item.resource_field_ref {
            downward::resource(material.pod, None, selector, material.around)?
        } else {
            continue;
        };
        let entry = Entry {
            data: text.into_bytes(),
            mode: bits(item.mode.unwrap_or(mode)),
            owner: None,
        };
        payload.insert(checked(&item.path)?, entry);
    }
    Ok(payload)
}

fn bits(mode: i32) -> u32 {
    u32::try_from(mode).unwrap_or(0) & 0o777
}

/// Nothing that leaves the volume or looks like the writer's own names.
fn checked(path: &str) -> Result<PathBuf, VolumeError> {
    let parsed = Path::new(path);
    let plain = parsed
        .components()
        .all(|component| matches!(component, Component::Normal(_) | Component::CurDir));
    let cleaned: PathBuf = parsed
        .components()
        .filter(|component| matches!(component, Component::Normal(_)))
        .collect();
    let first = cleaned.to_str().is_some_and(|text| !text.starts_with(".."));
    if plain && first && cleaned.components().next().is_some() {
        Ok(cleaned)
    } else {
        Err(VolumeError::Path(path.to_owned()))
    }
}

pub fn fs_group(pod: &Pod) -> Option<u32> {
    let context = spec::spec(pod).security_context.as_ref()?;
    u32::try_from(context.fs_group?).ok()
}

/// The user all containers run as, when they say so and it is one.
fn common_user(pod: &Pod) -> Option<u32> {
    let of_pod = spec::spec(pod)
        .security_context
        .as_ref()
        .and_then(|context| context.run_as_user);
    let mut users = spec::all_containers(pod).map(|container| {
        let own = container.security_context.as_ref();
        own.and_then(|context| context.run_as_user).or(of_pod)
    });
    let first = users.next()??;
    users
        .all(|user| user == Some(first))
        .then(|| u32::try_from(first).ok())?
}

#[cfg(test)]
mod tests;
