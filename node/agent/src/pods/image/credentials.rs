//! Registry credentials in pull secrets.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;
use vetch_runtime::RegistryAuth;

const DOCKER_HUB: &str = "docker.io";

/// `~/.docker/config.json`, as far as it is about registries.
#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: Auths,
}

type Auths = BTreeMap<String, Auth>;

#[derive(Deserialize)]
struct Auth {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    /// base64 of `username:password`.
    #[serde(default)]
    auth: String,
}

/// Those that fit the image, the most particular ones first.
pub fn registry_auths(secrets: &[Arc<Secret>], image: &str) -> Vec<RegistryAuth> {
    let place = place(image);
    let mut found: Vec<(usize, RegistryAuth)> = secrets
        .iter()
        .flat_map(|secret| auths(secret))
        .filter_map(|(registry, auth)| {
            let registry = registry_path(&registry);
            fits(&registry, &place).then(|| Some((registry.len(), credentials(auth)?)))?
        })
        .collect();
    found.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
    found.into_iter().map(|(_, auth)| auth).collect()
}

fn auths(secret: &Secret) -> Auths {
    let data = |key: &str| secret.data.as_ref().and_then(|data| data.get(key));
    if let Some(text) = data(".dockerconfigjson") {
        let parsed: Result<DockerConfig, _> = serde_json::from_slice(&text.0);
        return parsed.map(|config| config.auths).unwrap_or_default();
    }
    if let Some(text) = data(".dockercfg") {
        return serde_json::from_slice(&text.0).unwrap_or_default();
    }
    Auths::new()
}

fn credentials(auth: Auth) -> Option<RegistryAuth> {
    if !auth.username.is_empty() {
        return Some(RegistryAuth {
            username: auth.username,
            password: auth.password,
        });
    }
    let decoded = STANDARD.decode(auth.auth.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (username, password) = text.split_once(':')?;
    Some(RegistryAuth {
        username: username.to_owned(),
        password: password.trim_end_matches('\0').to_owned(),
    })
}

/// `registry/path` of an image, without tag and digest.
fn place(image: &str) -> String {
    let name = image.split('@').next().unwrap_or(image);
    let name = match name.rsplit_once(':') {
        Some((before, tag)) if !tag.contains('/') => before,
        _ => name,
    };
    match name.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => name.to_owned(),
        Some(_) => format!("{DOCKER_HUB}/{name}"),
        None => format!("{DOCKER_HUB}/library/{name}"),
    }
}

/// The key of a configuration: a host, a URL, or a host with a path.
fn registry_path(key: &str) -> String {
    let key = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key)
        .trim_end_matches('/');
    let key = key
        .strip_suffix("/v1")
        .or_else(|| key.strip_suffix("/v2"))
        .unwrap_or(key);
    match key {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB.to_owned(),
        other => other.to_owned(),
    }
}

/// A host may have `*` for one label, as in `*.example.com`.
fn fits(registry: &str, place: &str) -> bool {
    let (host, path) = registry.split_once('/').unwrap_or((registry, ""));
    let (image_host, image_path) = place.split_once('/').unwrap_or((place, ""));
    let hosts: Vec<&str> = host.split('.').collect();
    let image_hosts: Vec<&str> = image_host.split('.').collect();
    let same_host = hosts.len() == image_hosts.len()
        && hosts
            .iter()
            .zip(&image_hosts)
            .all(|(pattern, label)| label_fits(pattern, label));
    let same_path = path.is_empty()
        || image_path == path
        || image_path
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('/'));
    same_host && same_path
}

fn label_fits(pattern: &str, label: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == label,
        Some((before, after)) => {
            label.len() >= before.len() + after.len()
                && label.starts_with(before)
                && label.ends_with(after)
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use serde_json::json;

    use super::*;

    fn secret(key: &str, text: &str) -> Arc<Secret> {
        Arc::new(Secret {
            data: Some([(key.to_owned(), ByteString(text.as_bytes().to_vec()))].into()),
            ..Secret::default()
        })
    }

    #[test]
    fn the_credentials_of_an_images_registry() {
        let auth = |user: &str| json!({"username": user, "password": "p"});
        let encoded = STANDARD.encode("coded:secret:with:colons");
        let config = json!({"auths": {
            "registry.example.com": auth("host"),
            "https://registry.example.com/v2/": auth("url"),
            "registry.example.com/team": auth("team"),
            "*.wild.org": auth("wild"),
            "https://index.docker.io/v1/": auth("hub"),
            "coded.example.com:5000": {"auth": encoded},
        }});
        let secrets = [
            secret(".dockerconfigjson", &config.to_string()),
            secret(
                ".dockercfg",
                &json!({"old.example.com": auth("old")}).to_string(),
            ),
            secret("other", "x"),
        ];
        for (image, want) in [
            ("registry.example.com/app:1", vec!["url", "host"]),
            ("registry.example.com/team/app", vec!["team", "url", "host"]),
            ("registry.example.com/teams/app", vec!["url", "host"]),
            ("a.wild.org/x@sha256:0", vec!["wild"]),
            ("b.a.wild.org/x", vec![]),
            ("busybox", vec!["hub"]),
            ("user/app:2", vec!["hub"]),
            ("coded.example.com:5000/app", vec!["coded"]),
            ("old.example.com/app", vec!["old"]),
            ("elsewhere.org/app", vec![]),
        ] {
            let mut got: Vec<String> = registry_auths(&secrets, image)
                .into_iter()
                .map(|auth| auth.username)
                .collect();
            let mut want: Vec<String> = want.into_iter().map(str::to_owned).collect();
            if image.starts_with("registry") {
                // Two keys of the same length.
                got.sort();
                want.sort();
            }
            assert_eq!(got, want, "{image}");
        }
        let coded = registry_auths(&secrets, "coded.example.com:5000/app");
        assert_eq!(coded[0].password, "secret:with:colons");
    }
}
