//! Which headers cross the proxy.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, CONNECTION, HeaderName, UPGRADE};
use http::{HeaderMap, HeaderValue};
use vetch_server::upgrade;

/// RFC 9110, 7.6.1: they are about one connection.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
const IMPERSONATE: &str = "impersonate-";
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Takes out what is about this connection, but for a change of protocol.
pub fn strip(headers: &mut HeaderMap) {
    let protocol = upgrade::protocol(headers);
    let named: Vec<String> = upgrade::connection_options(headers)
        .map(str::to_owned)
        .collect();
    let named = named.iter().map(String::as_str);
    for name in HOP_BY_HOP.into_iter().chain(named) {
        headers.remove(name);
    }
    if let Some(protocol) = protocol {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, protocol);
    }
}

/// Who the client is to the API server is nothing to a pod.
pub fn strip_identity(headers: &mut HeaderMap) {
    headers.remove(AUTHORIZATION);
    let impersonated: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(IMPERSONATE))
        .cloned()
        .collect();
    for name in impersonated {
        headers.remove(name);
    }
}

/// Where the client is, behind whoever it was forwarded by before.
pub fn add_client(headers: &mut HeaderMap, client: IpAddr) {
    let before = headers.get_all(FORWARDED_FOR).iter();
    let mut all: Vec<String> = before
        .filter_map(|value| value.to_str().ok().map(str::to_owned))
        .collect();
    all.push(client.to_string());
    if let Ok(value) = HeaderValue::from_str(&all.join(", ")) {
        headers.insert(FORWARDED_FOR, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            let name: HeaderName = name.parse().unwrap();
            map.append(name, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn what_is_about_one_connection_does_not_cross() {
        let mut map = headers(&[
            ("connection", "close, X-Mine"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("x-mine", "1"),
            ("x-yours", "2"),
        ]);
        strip(&mut map);
        assert_eq!(map, headers(&[("x-yours", "2")]));

        let mut map = headers(&[
            ("connection", "keep-alive, upgrade"),
            ("upgrade", "websocket"),
        ]);
        strip(&mut map);
        let wanted = headers(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
        assert_eq!(map, wanted);
    }

    #[test]
    fn a_pod_does_not_learn_who_asks() {
        let mut map = headers(&[
            ("authorization", "Bearer a"),
            ("impersonate-user", "b"),
            ("impersonate-extra-a", "c"),
            ("cookie", "d"),
        ]);
        strip_identity(&mut map);
        assert_eq!(map, headers(&[("cookie", "d")]));
    }

    #[test]
    fn each_proxy_adds_its_client() {
        let mut map = headers(&[("x-forwarded-for", "192.0.2.1")]);
        add_client(&mut map, "192.0.2.2".parse().unwrap());
        assert_eq!(map, headers(&[("x-forwarded-for", "192.0.2.1, 192.0.2.2")]));
    }
}
