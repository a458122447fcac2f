//! The environment of a container.

mod expand;
mod file;
mod services;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, FileKeySelector, Pod};

use super::downward::{self, DownwardError, Surroundings};
use super::sources::{SourceError, Sources};
use super::spec;
use super::text::go_quote;

pub use expand::{expand, expand_by};
pub use file::{Files, FormatError, places as file_places, read_all as read_files};
pub use services::variables as service_variables;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    Key {
        key: String,
        kind: &'static str,
        namespace: String,
        name: String,
    },
    #[error(transparent)]
    Downward(#[from] DownwardError),
    #[error("cannot find the volume {} referenced by FileKeyRef", go_quote(.0))]
    NoVolume(String),
    #[error("couldn't parse env file")]
    File(#[source] FileError),
    #[error("environment variable key {} not found in file {}", go_quote(.key), go_quote(.path))]
    FileKey { key: String, path: String },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    #[error("reading {path}: {words}")]
    Unreadable { path: String, words: String },
    #[error("{path}")]
    Format {
        path: String,
        #[source]
        source: FormatError,
    },
}

/// Names and values: those of `envFrom`, then `env`'s in their order, then the
/// Services' that none of them replaced.
pub fn environment(
    pod: &Pod,
    container: &Container,
    sources: &Sources,
    services: &BTreeMap<String, String>,
    around: &Surroundings<'_>,
) -> Result<Vec<(String, String)>, EnvError> {
    let mut env = Vec::new();
    for (name, value) in from_objects(container, sources)? {
        set(&mut env, name, value);
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value(pod, container, variable, sources, services, around, &env)? {
            set(&mut env, variable.name.clone(), value);
        }
    }
    for (name, value) in services {
        if !env.iter().any(|(known, _)| known == name) {
            env.push((name.clone(), value.clone()));
        }
    }
    Ok(env)
}

fn set(env: &mut Vec<(String, String)>, name: String, value: String) {
    match env.iter_mut().find(|(known, _)| *known == name) {
        Some((_, old)) => *old = value,
        None => env.push((name, value)),
    }
}

fn from_objects(
    container: &Container,
    sources: &Sources,
) -> Result<Vec<(String, String)>, EnvError> {
    let mut found = Vec::new();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &from.config_map_ref {
            let optional = reference.optional.unwrap_or(false);
            let object = sources.config_map(&reference.name, optional)?;
            let data = object.and_then(|object| object.data.as_ref());
            for (key, value) in data.into_iter().flatten() {
                found.push((format!("{prefix}{key}"), value.clone()));
            }
        }
        if let Some(reference) = &from.secret_ref {
            let optional = reference.optional.unwrap_or(false);
            let object = sources.secret(&reference.name, optional)?;
            let data = object.and_then(|object| object.data.as_ref());
            for (key, value) in data.into_iter().flatten() {
                let value = String::from_utf8_lossy(&value.0).into_owned();
                found.push((format!("{prefix}{key}"), value));
            }
        }
    }
    Ok(found)
}

/// `None` when the variable is optional and its source is not there.
fn value(
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    sources: &Sources,
    services: &BTreeMap<String, String>,
    around: &Surroundings<'_>,
    env: &[(String, String)],
) -> Result<Option<String>, EnvError> {
    if let Some(text) = variable.value.as_deref().filter(|text| !text.is_empty()) {
        return Ok(Some(expand(text, |name| {
            env.iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.clone())
                .or_else(|| services.get(name).cloned())
        })));
    }
    match &variable.value_from {
        Some(source) => from_source(pod, container, source, sources, around),
        None => Ok(Some(String::new())),
    }
}

fn from_source(
    pod: &Pod,
    container: &Container,
    source: &EnvVarSource,
    sources: &Sources,
    around: &Surroundings<'_>,
) -> Result<Option<String>, EnvError> {
    let no_key = |kind, name: &str, key: &str| EnvError::Key {
        key: key.to_owned(),
        kind,
        namespace: spec::namespace(pod).to_owned(),
        name: name.to_owned(),
    };
    if let Some(reference) = &source.field_ref {
        return Ok(Some(downward::field(pod, &reference.field_path, around)?));
    }
    if let Some(selector) = &source.resource_field_ref {
        return Ok(Some(downward::resource(
            pod,
            Some(container),
            selector,
            around,
        )?));
    }
    if let Some(reference) = &source.config_map_key_ref {
        let optional = reference.optional.unwrap_or(false);
        let Some(object) = sources.config_map(&reference.name, optional)? else {
            return Ok(None);
        };
        let value = object
            .data
            .as_ref()
            .and_then(|data| data.get(&reference.key));
        return match value {
            Some(value) => Ok(Some(value.clone())),
            None if optional => Ok(None),
            None => Err(no_key("ConfigMap", &reference.name, &reference.key)),
        };
    }
    if let Some(reference) = &source.secret_key_ref {
        let optional = reference.optional.unwrap_or(false);
        let Some(object) = sources.secret(&reference.name, optional)? else {
            return Ok(None);
        };
        let value = object
            .data
            .as_ref()
            .and_then(|data| data.get(&reference.key));
        return match value {
            Some(value) => Ok(Some(String::from_utf8_lossy(&value.0).into_owned())),
            None if optional => Ok(None),
            None => Err(no_key("Secret", &reference.name, &reference.key)),
        };
    }
    if let Some(reference) = &source.file_key_ref {
        return from_file(reference, sources);
    }
    Ok(Some(String::new()))
}

/// An optional key may be missing, its file may not: as the kubelet has it.
fn from_file(reference: &FileKeySelector, sources: &Sources) -> Result<Option<String>, EnvError> {
    let Some((path, text)) = sources.files.get(reference) else {
        return Err(EnvError::NoVolume(reference.volume_name.clone()));
    };
    let path = path.display().to_string();
    let text = text.map_err(|words| {
        EnvError::File(FileError::Unreadable {
            path: path.clone(),
            words: words.to_owned(),
        })
    })?;
    let found = file::value(text, &reference.key).map_err(|source| {
        EnvError::File(FileError::Format {
            path: path.clone(),
            source,
        })
    })?;
    match found {
        None if !reference.optional.unwrap_or(false) => Err(EnvError::FileKey {
            key: reference.key.clone(),
            path,
        }),
        found => Ok(found),
    }
}

#[cfg(test)]
mod tests;
