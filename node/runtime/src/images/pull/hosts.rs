//! Where a registry's images are asked for, as containerd's `hosts.toml` says it.
//!
//! ```text
//! <dir>/registry.example_5000_/hosts.toml   or registry.example:5000, registry.example, _default
//! ```
//!
//! The first of these directories that exists is read, at each pull. Mirrors are asked in the file's
//! order, and the registry itself last. One with several client certificates is a door for each, in
//! their order.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

/// A door to a registry's images.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// `https://host:port/v2`, or another path by `override_path`.
    pub base: Url,
    pub resolves: bool,
    pub pulls: bool,
    /// PEM files.
    pub ca: Vec<PathBuf>,
    /// PEM files of one client certificate and its key, or one with both.
    pub client: Vec<PathBuf>,
    pub skip_verify: bool,
    pub headers: HeaderMap,
    pub dial_timeout: Option<Duration>,
    /// The registry itself: its credentials are for nobody else.
    pub own: bool,
}

impl Host {
    fn new(base: Url) -> Host {
        Host {
            base,
            resolves: true,
            pulls: true,
            ca: Vec::new(),
            client: Vec::new(),
            skip_verify: false,
            headers: HeaderMap::new(),
            dial_timeout: None,
            own: false,
        }
    }

    /// What of a repository's name stands in the path already: `proxy` of `/v2/proxy`.
    pub fn prefix(&self) -> &str {
        let path = self.base.path().trim_matches('/');
        path.strip_prefix("v2").unwrap_or("").trim_matches('/')
    }
}

#[derive(Deserialize)]
struct File {
    server: Option<String>,
    #[serde(flatten)]
    own: Settings,
    #[serde(default)]
    host: toml::Table,
}

#[derive(Default, Deserialize)]
struct Settings {
    capabilities: Option<Vec<String>>,
    ca: Option<Names>,
    client: Option<toml::Value>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    override_path: bool,
    #[serde(default)]
    header: toml::map::Map<String, toml::Value>,
    dial_timeout: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    One(String),
    Some(Vec<String>),
}

/// The doors to `registry`, which is `default` itself unless its file says otherwise.
pub fn of(dir: Option<&Path>, registry: &str, default: Url) -> Result<Vec<Host>, String> {
    let own = Host {
        own: true,
        ..Host::new(default)
    };
    let Some(dir) = dir else {
        return Ok(vec![own]);
    };
    for name in directories(registry) {
        let folder = dir.join(name);
        let file = folder.join("hosts.toml");
        match fs::read_to_string(&file) {
            Ok(text) => {
                return parse(&text, &folder, own)
                    .map_err(|words| format!("{}: {words}", file.display()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("reading {}: {error}", file.display())),
        }
    }
    Ok(vec![own])
}

/// A colon is no part of a file's name everywhere, so containerd has a form without.
fn directories(registry: &str) -> Vec<String> {
    let mut names = Vec::new();
    if let Some((host, port)) = registry.rsplit_once(':')
        && !port.is_empty()
        && port.bytes().all(|byte| byte.is_ascii_digit())
    {
        names.push(format!("{host}_{port}_"));
        names.push(registry.to_owned());
        names.push(host.to_owned());
    } else {
        names.push(registry.to_owned());
    }
    names.push("_default".to_owned());
    names
}

fn parse(text: &str, folder: &Path, default: Host) -> Result<Vec<Host>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let mut hosts = Vec::new();
    for (name, settings) in file.host {
        let wrong = |words: String| format!("host {name:?}: {words}");
        let settings: Settings = settings
            .try_into()
            .map_err(|error: toml::de::Error| wrong(error.to_string()))?;
        let url = base(&name, settings.override_path).map_err(wrong)?;
        hosts.extend(apply(Host::new(url), settings, folder).map_err(wrong)?);
    }
    let server = match file.server {
        Some(server) => Host {
            own: true,
            ..Host::new(base(&server, file.own.override_path)?)
        },
        None => default,
    };
    hosts.extend(apply(server, file.own, folder)?);
    Ok(hosts)
}

/// As often as it has client certificates.
fn apply(host: Host, settings: Settings, folder: &Path) -> Result<Vec<Host>, String> {
    let can = |what: &str| match &settings.capabilities {
        Some(capabilities) => capabilities.iter().any(|capability| capability == what),
        None => true,
    };
    let ca = match settings.ca {
        None => Vec::new(),
        Some(Names::One(name)) => vec![name],
        Some(Names::Some(names)) => names,
    };
    let dial_timeout = settings.dial_timeout.as_deref().map(duration).transpose()?;
    let host = Host {
        resolves: can("resolve"),
        pulls: can("pull"),
        ca: ca.iter().map(|name| folder.join(name)).collect(),
        skip_verify: settings.skip_verify,
        headers: headers(&settings.header)?,
        dial_timeout,
        ..host
    };
    let mut certificates = match &settings.client {
        Some(client) => certificates(client)?,
        None => Vec::new(),
    };
    if certificates.is_empty() {
        certificates.push(Vec::new());
    }
    let with = |files: Vec<&str>| Host {
        client: files.iter().map(|name| folder.join(name)).collect(),
        ..host.clone()
    };
    Ok(certificates.into_iter().map(with).collect())
}

/// A file with certificate and key, several of them, or several pairs of files.
fn certificates(client: &toml::Value) -> Result<Vec<Vec<&str>>, String> {
    match client {
        toml::Value::Array(several) => several.iter().map(certificate).collect(),
        single => Ok(vec![certificate(single)?]),
    }
}

/// A pair without its second is one file.
fn certificate(value: &toml::Value) -> Result<Vec<&str>, String> {
    let files = match value {
        toml::Value::Array(pair) if pair.len() == 2 => pair.as_slice(),
        single => std::slice::from_ref(single),
    };
    let files = files.iter().map(toml::Value::as_str);
    let mut files = files.collect::<Option<Vec<&str>>>().ok_or(
        "client: something is neither a PEM file nor a pair of files, certificate and key",
    )?;
    if files.len() == 2 && files[1].is_empty() {
        files.pop();
    }
    Ok(files)
}

fn base(server: &str, override_path: bool) -> Result<Url, String> {
    let text = match server.contains("://") {
        true => server.to_owned(),
        false if super::is_insecure(server, &[]) => format!("http://{server}"),
        false => format!("https://{server}"),
    };
    let mut url = Url::parse(&text).map_err(|error| format!("server {server:?}: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(format!("server {server:?}: neither http:// nor https://"));
    }
    if !override_path {
        let path = format!("{}/v2", url.path().trim_end_matches('/'));
        url.set_path(&path);
    }
    Ok(url)
}

fn headers(given: &toml::map::Map<String, toml::Value>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, values) in given {
        let wrong = |what: &dyn std::fmt::Display| format!("header {name:?}: {what}");
        let key: HeaderName = name.parse().map_err(|error| wrong(&error))?;
        let values = match values {
            toml::Value::Array(values) => values.as_slice(),
            one => std::slice::from_ref(one),
        };
        for value in values {
            let text = value.as_str().ok_or_else(|| wrong(&"not a string"))?;
            let value = HeaderValue::from_str(text).map_err(|error| wrong(&error))?;
            headers.append(key.clone(), value);
        }
    }
    Ok(headers)
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = |error: jiff::Error| format!("dial_timeout {text:?}: {error}");
    let parsed: jiff::SignedDuration = text.parse().map_err(wrong)?;
    Duration::try_from(parsed).map_err(wrong)
}

#[cfg(test)]
mod tests;
