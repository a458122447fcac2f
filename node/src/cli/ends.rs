//! Ends of a conversation, by address or in kubectl's words.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

const NAMES: &str = "NAMESPACE/POD, pod/NAME, svc/NAME or NAMESPACE/svc/NAME";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Address(IpAddr),
    Named(Named),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// None for the one of `--namespace`.
    pub namespace: Option<String>,
    pub kind: Kind,
    pub name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Pod,
    Service,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Pod => "pod",
            Kind::Service => "service",
        }
    }

    /// By kubectl's words for it.
    fn of(word: &str) -> Option<Kind> {
        match word.to_ascii_lowercase().as_str() {
            "pod" | "pods" | "po" => Some(Kind::Pod),
            "service" | "services" | "svc" => Some(Kind::Service),
            _ => None,
        }
    }
}

/// Who sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender(pub End);

impl FromStr for Sender {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(ip) = text.parse() {
            return Ok(Self(End::Address(ip)));
        }
        let named = named(text)
            .ok_or("a sender is an address, NAMESPACE/POD or pod/NAME, such as default/web-0")?;
        match named.kind {
            Kind::Pod => Ok(Self(End::Named(named))),
            Kind::Service => Err("a Service sends nothing: name a pod of it".to_owned()),
        }
    }
}

/// For whom, with a port or without: a number, or of what has a name a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub end: End,
    pub port: Option<String>,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return Ok(Self {
                end: End::Address(socket.ip()),
                port: Some(socket.port().to_string()),
            });
        }
        if let Ok(ip) = text.parse() {
            return Ok(Self {
                end: End::Address(ip),
                port: None,
            });
        }
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, Some(port.to_owned())),
            None => (text, None),
        };
        match named(name) {
            Some(named) if port.as_deref().is_none_or(is_name) => Ok(Self {
                end: End::Named(named),
                port,
            }),
            _ => Err(format!(
                "a destination is an address, {NAMES}, each with :PORT or without, such as 10.96.0.1:443, \
                 [fd96::1]:443 or default/svc/web:http"
            )),
        }
    }
}

/// Two words are a kind and a name where the first is a kind, and else a namespace and a pod.
fn named(text: &str) -> Option<Named> {
    let parts: Vec<&str> = text.split('/').collect();
    let (namespace, kind, name) = match parts[..] {
        [namespace, kind, name] => (Some(namespace), Kind::of(kind)?, name),
        [first, name] => match Kind::of(first) {
            Some(kind) => (None, kind, name),
            None => (Some(first), Kind::Pod, name),
        },
        _ => return None,
    };
    if !is_name(name) || !namespace.is_none_or(is_name) {
        return None;
    }
    Some(Named {
        namespace: namespace.map(str::to_owned),
        kind,
        name: name.to_owned(),
    })
}

/// As far as it matters here: the API server knows what there is.
fn is_name(text: &str) -> bool {
    let is_right = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    !text.is_empty() && text.bytes().all(is_right)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(namespace: Option<&str>, kind: Kind, name: &str) -> Option<End> {
        Some(End::Named(Named {
            namespace: namespace.map(str::to_owned),
            kind,
            name: name.to_owned(),
        }))
    }

    #[test]
    fn ends_in_kubectls_words() {
        let address = |text: &str| Some(End::Address(text.parse().unwrap()));
        for (text, want, port) in [
            ("10.96.0.1", address("10.96.0.1"), None),
            ("10.96.0.1:443", address("10.96.0.1"), Some("443")),
            ("fd96::1", address("fd96::1"), None),
            ("[fd96::1]:53", address("fd96::1"), Some("53")),
            ("shop/web-0", end(Some("shop"), Kind::Pod, "web-0"), None),
            (
                "shop/web-0:8080",
                end(Some("shop"), Kind::Pod, "web-0"),
                Some("8080"),
            ),
            ("pod/web.0", end(None, Kind::Pod, "web.0"), None),
            ("po/web", end(None, Kind::Pod, "web"), None),
            ("svc/web", end(None, Kind::Service, "web"), None),
            (
                "svc/web:http",
                end(None, Kind::Service, "web"),
                Some("http"),
            ),
            (
                "service/web:80",
                end(None, Kind::Service, "web"),
                Some("80"),
            ),
            (
                "shop/svc/web:80",
                end(Some("shop"), Kind::Service, "web"),
                Some("80"),
            ),
            ("shop/pods/web", end(Some("shop"), Kind::Pod, "web"), None),
            // A namespace may be called as a kind is.
            ("svc/svc/svc", end(Some("svc"), Kind::Service, "svc"), None),
            ("web", None, None),
            ("web:80", None, None),
            ("/web", None, None),
            ("shop/", None, None),
            ("shop/web:", None, None),
            ("shop/deploy/web", None, None),
            ("a/b/c/d", None, None),
            ("10.96.0.256:80", None, None),
        ] {
            let place = text.parse::<Place>();
            let got = place.as_ref().ok().map(|place| place.end.clone());
            assert_eq!(got, want, "{text}");
            let got = place.ok().and_then(|place| place.port);
            assert_eq!(got.as_deref(), port, "{text}");
        }
    }

    #[test]
    fn who_can_send() {
        for (text, want) in [
            ("10.244.1.2", Ok(())),
            ("shop/web-0", Ok(())),
            ("pod/web-0", Ok(())),
            ("svc/web", Err("a Service sends nothing")),
            ("10.244.1.2:80", Err("a sender is an address")),
            ("shop/web:80", Err("a sender is an address")),
            ("web", Err("a sender is an address")),
        ] {
            match (text.parse::<Sender>(), want) {
                (Ok(_), Ok(())) => {}
                (Err(words), Err(want)) => assert!(words.starts_with(want), "{text}: {words}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
    }
}
