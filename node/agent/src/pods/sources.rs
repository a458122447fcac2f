//! ConfigMaps and Secrets a pod refers to: which, and what is known of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};

use super::env::Files;
use super::{ephemeral, spec};

/// What is known of an object at one moment.
#[derive(Debug, Default)]
pub enum Known<K> {
    /// Not read yet; with the reason when reading fails.
    #[default]
    Unread,
    Unreadable(String),
    Missing,
    Present(Arc<K>),
}

impl<K> Clone for Known<K> {
    fn clone(&self) -> Self {
        match self {
            Known::Unread => Known::Unread,
            Known::Unreadable(reason) => Known::Unreadable(reason.clone()),
            Known::Missing => Known::Missing,
            Known::Present(object) => Known::Present(object.clone()),
        }
    }
}

/// The objects of a pod's namespace, by name, and files of variables.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    pub config_maps: BTreeMap<String, Known<ConfigMap>>,
    pub secrets: BTreeMap<String, Known<Secret>>,
    /// Of one container's variables.
    pub files: Files,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    #[error("configmap \"{0}\" not found")]
    NoConfigMap(String),
    #[error("secret \"{0}\" not found")]
    NoSecret(String),
    #[error("failed to sync {kind} cache: {reason}")]
    Unread { kind: &'static str, reason: String },
}

impl Sources {
    /// `None` for one that is missing and `optional`.
    pub fn config_map(
        &self,
        name: &str,
        optional: bool,
    ) -> Result<Option<&ConfigMap>, SourceError> {
        let missing = || SourceError::NoConfigMap(name.to_owned());
        found(self.config_maps.get(name), "configmap", optional, missing)
    }

    pub fn secret(&self, name: &str, optional: bool) -> Result<Option<&Secret>, SourceError> {
        let missing = || SourceError::NoSecret(name.to_owned());
        found(self.secrets.get(name), "secret", optional, missing)
    }
}

fn found<'a, K>(
    known: Option<&'a Known<K>>,
    kind: &'static str,
    optional: bool,
    missing: impl Fn() -> SourceError,
) -> Result<Option<&'a K>, SourceError> {
    let unread = |reason: &str| SourceError::Unread {
        kind,
        reason: reason.to_owned(),
    };
    match known {
        Some(Known::Present(object)) => Ok(Some(object)),
        Some(Known::Missing) if optional => Ok(None),
        Some(Known::Missing) => Err(missing()),
        Some(Known::Unreadable(reason)) => Err(unread(reason)),
        Some(Known::Unread) | None => Err(unread("timed out waiting for the condition")),
    }
}

/// The names of what the pod's containers and volumes use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    pub config_maps: BTreeSet<String>,
    pub secrets: BTreeSet<String>,
    /// Used for pulls alone: nobody waits for them before a pull.
    pub pull_secrets: BTreeSet<String>,
}

pub fn references(pod: &Pod) -> References {
    let mut found = References::default();
    let added = ephemeral::containers(pod);
    for container in spec::all_containers(pod).chain(&added) {
        for source in container.env_from.iter().flatten() {
            let config_map = source.config_map_ref.as_ref();
            found.config_maps.extend(config_map.map(|r| r.name.clone()));
            let secret = source.secret_ref.as_ref();
            found.secrets.extend(secret.map(|r| r.name.clone()));
        }
        for source in container.env.iter().flatten() {
            let Some(source) = &source.value_from else {
                continue;
            };
            let config_map = source.config_map_key_ref.as_ref();
            found.config_maps.extend(config_map.map(|r| r.name.clone()));
            let secret = source.secret_key_ref.as_ref();
            found.secrets.extend(secret.map(|r| r.name.clone()));
        }
    }
    for volume in spec::spec(pod).volumes.iter().flatten() {
        let config_map = volume.config_map.as_ref();
        found.config_maps.extend(config_map.map(|r| r.name.clone()));
        let secret = volume.secret.as_ref();
        found
            .secrets
            .extend(secret.and_then(|r| r.secret_name.clone()));
        let projections = volume.projected.as_ref().and_then(|p| p.sources.as_ref());
        for source in projections.into_iter().flatten() {
            let config_map = source.config_map.as_ref();
            found.config_maps.extend(config_map.map(|r| r.name.clone()));
            let secret = source.secret.as_ref();
            found.secrets.extend(secret.map(|r| r.name.clone()));
        }
    }
    let pulls = spec::spec(pod).image_pull_secrets.iter().flatten();
    found.pull_secrets.extend(pulls.map(|r| r.name.clone()));
    for names in [
        &mut found.config_maps,
        &mut found.secrets,
        &mut found.pull_secrets,
    ] {
        names.remove("");
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn everything_a_pod_refers_to() {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "imagePullSecrets": [{"name": "p"}, {"name": ""}],
            "initContainers": [{"name": "i", "envFrom": [{"configMapRef": {"name": "c1"}}, {"secretRef": {"name": "s1"}}]}],
            "containers": [{"name": "c", "env": [
                {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c2", "key": "k"}}},
                {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s2", "key": "k"}}},
                {"name": "C", "value": "x"},
            ]}],
            "ephemeralContainers": [{"name": "e", "envFrom": [{"configMapRef": {"name": "c5"}}], "env": [
                {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s5", "key": "k"}}},
            ]}],
            "volumes": [
                {"name": "v1", "configMap": {"name": "c3"}},
                {"name": "v2", "secret": {"secretName": "s3"}},
                {"name": "v3", "projected": {"sources": [{"configMap": {"name": "c4"}}, {"secret": {"name": "s4"}}]}},
                {"name": "v4", "emptyDir": {}},
            ],
        }}))
        .unwrap();
        let names = |names: [&str; 5]| names.map(str::to_owned).into();
        assert_eq!(
            references(&pod),
            References {
                config_maps: names(["c1", "c2", "c3", "c4", "c5"]),
                secrets: names(["s1", "s2", "s3", "s4", "s5"]),
                pull_secrets: ["p".to_owned()].into(),
            }
        );
    }
}
