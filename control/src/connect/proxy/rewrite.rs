//! Redirects of a server behind the proxy: what it says of itself is said of the proxy's path.

/// Who may be meant by a redirect.
#[derive(Clone, Copy, Debug)]
pub struct Hosts<'a> {
    /// The server's own address.
    pub server: &'a str,
    /// What the client asked for in its Host header.
    pub client: &'a str,
}

/// The Location a client is told; None: as it is.
pub fn location(value: &str, hosts: Hosts<'_>, prefix: &str) -> Option<String> {
    let (origin, rest) = split(value);
    let host = origin.rsplit_once("//").map_or("", |(_, host)| host);
    let elsewhere = !host.is_empty() && host != hosts.server && host != hosts.client;
    // A relative one is right where it is.
    if elsewhere || !rest.starts_with('/') {
        return None;
    }
    // Without an origin it leads to wherever the client found the API server.
    let origin = if !host.is_empty() && host == hosts.client {
        origin
    } else {
        ""
    };
    let prefix = if rest.starts_with(prefix) { "" } else { prefix };
    Some(format!("{origin}{prefix}{rest}"))
}

/// `http://host` and what follows it; the first is empty where the value names no host.
fn split(value: &str) -> (&str, &str) {
    let begin = match value.split_once("://") {
        Some((scheme, _)) if scheme.bytes().all(is_of_scheme) => scheme.len() + 3,
        _ if value.starts_with("//") => 2,
        _ => return ("", value),
    };
    let end = value[begin..].find(['/', '?', '#']);
    value.split_at(end.map_or(value.len(), |end| begin + end))
}

/// RFC 3986, 3.1.
fn is_of_scheme(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_back_through_the_proxy() {
        let hosts = Hosts {
            server: "10.0.0.1:8080",
            client: "api.example:6443",
        };
        let prefix = "/api/v1/namespaces/n/services/s/proxy";
        for (value, wanted) in [
            (
                "/a?b#c",
                Some("/api/v1/namespaces/n/services/s/proxy/a?b#c"),
            ),
            ("/", Some("/api/v1/namespaces/n/services/s/proxy/")),
            (
                "http://10.0.0.1:8080/a/",
                Some("/api/v1/namespaces/n/services/s/proxy/a/"),
            ),
            (
                "//10.0.0.1:8080/a",
                Some("/api/v1/namespaces/n/services/s/proxy/a"),
            ),
            (
                "https://api.example:6443/a",
                Some("https://api.example:6443/api/v1/namespaces/n/services/s/proxy/a"),
            ),
            // It knows the proxy already.
            (
                "/api/v1/namespaces/n/services/s/proxy/a",
                Some("/api/v1/namespaces/n/services/s/proxy/a"),
            ),
            ("http://other.example/a", None),
            ("http://10.0.0.1:9090/a", None),
            ("http://10.0.0.1:8080", None),
            ("a/b", None),
            ("../a", None),
            ("?page=http://a/", None),
            ("", None),
        ] {
            assert_eq!(location(value, hosts, prefix).as_deref(), wanted, "{value}");
        }
    }
}
