//! Where a registry's images are asked for, as containerd's `hosts.toml` says it.
//!
//! ```text
//! <dir>/registry.example_5000_/hosts.toml   or registry.example:5000, registry.example, _default
//! ```
//!
//! The first of these directories that exists is read, at each pull. Mirrors are asked in the file's
//! order, and the registry itself last. Client certificates (`client`) are refused.

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
            skip_verify: false,
            headers: HeaderMap::new(),
            dial_timeout: None,
            own: false,
        }
    }

    /// `host:port`, without the port where it is the scheme's.
    pub fn authority(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        match self.base.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
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
        hosts.push(apply(Host::new(url), settings, folder).map_err(wrong)?);
    }
    let server = match file.server {
        Some(server) => Host {
            own: true,
            ..Host::new(base(&server, file.own.override_path)?)
        },
        None => default,
    };
    hosts.push(apply(server, file.own, folder)?);
    Ok(hosts)
}

fn apply(host: Host, settings: Settings, folder: &Path) -> Result<Host, String> {
    if settings.client.is_some() {
        return Err("client certificates are not supported (client)".into());
    }
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
    Ok(Host {
        resolves: can("resolve"),
        pulls: can("pull"),
        ca: ca.iter().map(|name| folder.join(name)).collect(),
        skip_verify: settings.skip_verify,
        headers: headers(&settings.header)?,
        dial_timeout,
        ..host
    })
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
mod tests {
    use super::*;

    fn own() -> Host {
        Host {
            own: true,
            ..Host::new(Url::parse("https://registry.example/v2").unwrap())
        }
    }

    fn parsed(text: &str) -> Result<Vec<Host>, String> {
        parse(text, Path::new("/etc/certs.d/registry.example"), own())
    }

    #[test]
    fn mirrors_come_in_the_files_order_and_the_registry_last() {
        let hosts = parsed(
            r#"
            [host."https://z.example"]
            capabilities = ["pull"]
            [host."http://a.example:5000"]
            skip_verify = true
            dial_timeout = "1s"
            [host."http://a.example:5000".header]
            x-one = "1"
            x-two = ["2", "3"]
            [host."https://harbor.example/v2/proxy"]
            override_path = true
            ca = ["one.pem", "/two.pem"]
            "#,
        )
        .unwrap();
        let bases: Vec<&str> = hosts.iter().map(|host| host.base.as_str()).collect();
        assert_eq!(
            bases,
            [
                "https://z.example/v2",
                "http://a.example:5000/v2",
                "https://harbor.example/v2/proxy",
                "https://registry.example/v2",
            ]
        );
        assert_eq!(hosts[3], own());
        assert!(!hosts[0].resolves && hosts[0].pulls && !hosts[0].own);
        assert!(hosts[1].skip_verify && hosts[1].resolves);
        assert_eq!(hosts[1].dial_timeout, Some(Duration::from_secs(1)));
        assert_eq!(hosts[1].headers.get_all("x-two").iter().count(), 2);
        assert_eq!(hosts[1].authority(), "a.example:5000");
        assert_eq!((hosts[1].prefix(), hosts[2].prefix()), ("", "proxy"));
        assert_eq!(
            hosts[2].ca,
            [
                PathBuf::from("/etc/certs.d/registry.example/one.pem"),
                PathBuf::from("/two.pem"),
            ]
        );
    }

    #[test]
    fn the_registry_itself_may_be_elsewhere() {
        for (text, want) in [
            ("", "https://registry.example/v2"),
            (
                "server = \"https://other.example\"",
                "https://other.example/v2",
            ),
            (
                "server = \"other.example:5000\"",
                "https://other.example:5000/v2",
            ),
            ("server = \"localhost:5000\"", "http://localhost:5000/v2"),
            (
                "server = \"https://other.example/base/\"",
                "https://other.example/base/v2",
            ),
            (
                "server = \"https://other.example/base\"\noverride_path = true",
                "https://other.example/base",
            ),
        ] {
            let hosts = parsed(text).unwrap();
            assert_eq!(hosts.len(), 1, "{text}");
            assert_eq!(hosts[0].base.as_str(), want, "{text}");
            assert!(hosts[0].own);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, want) in [
            ("server = 1", "invalid type: integer"),
            ("server = \"ftp://x\"", "neither http:// nor https://"),
            ("[host.\"https://\"]", "empty host"),
            (
                "client = \"cert.pem\"",
                "client certificates are not supported",
            ),
            (
                "[host.\"https://m\"]\nclient = [[\"a\", \"b\"]]",
                "client certificates are not supported",
            ),
            ("[header]\nx = 1", "header \"x\": not a string"),
            ("[header]\n\"a b\" = \"1\"", "header \"a b\": invalid"),
            ("dial_timeout = \"soon\"", "dial_timeout \"soon\""),
            ("dial_timeout = \"-1s\"", "dial_timeout \"-1s\""),
        ] {
            let words = parsed(text).unwrap_err();
            assert!(words.contains(want), "{text}: {words}");
        }
    }

    #[test]
    fn the_first_directory_that_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let default = Url::parse("https://registry.example:5000/v2").unwrap();
        let found = |registry: &str| of(Some(dir.path()), registry, default.clone()).unwrap();
        assert_eq!(found("registry.example:5000").len(), 1);
        for (name, mirror) in [
            ("_default", "https://default.example"),
            ("registry.example", "https://host.example"),
            ("registry.example:5000", "https://colon.example"),
            ("registry.example_5000_", "https://underscores.example"),
        ] {
            let folder = dir.path().join(name);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("hosts.toml"), format!("[host.\"{mirror}\"]")).unwrap();
            let hosts = found("registry.example:5000");
            assert_eq!(hosts[0].base.as_str(), format!("{mirror}/v2"), "{name}");
        }
        assert_eq!(
            found("other")[0].base.as_str(),
            "https://default.example/v2"
        );
        assert_eq!(of(None, "other", default.clone()).unwrap()[0].base, default);
    }
}
