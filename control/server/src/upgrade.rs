//! Requests to change the protocol, and the token that a WebSocket's brings along: browsers can add no header to it, but
//! for the subprotocols they offer.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{CONNECTION, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue};

/// Kubernetes' name for a subprotocol that is none: a bearer token follows, base64url without padding.
const BEARER: &str = "base64url.bearer.authorization.k8s.io.";

/// The protocol a message is about to change to.
pub fn protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = connection_options(headers).any(|word| word.eq_ignore_ascii_case("upgrade"));
    headers.get(UPGRADE).filter(|_| asked).cloned()
}

/// The words of Connection headers.
pub fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim))
}

pub fn is_web_socket(headers: &HeaderMap) -> bool {
    let protocol = protocol(headers);
    protocol.is_some_and(|own| own.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// What a client of a WebSocket offers to speak, in its order.
pub fn subprotocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim))
        .filter(|name| !name.is_empty())
}

/// The bearer token among a WebSocket's subprotocols. `Err` says what is wrong with it, in Kubernetes' words.
pub fn bearer(headers: &HeaderMap) -> Result<Option<String>, &'static str> {
    if !is_web_socket(headers) {
        return Ok(None);
    }
    let mut tokens = subprotocols(headers).filter_map(|name| name.strip_prefix(BEARER));
    let Some(encoded) = tokens.next() else {
        return Ok(None);
    };
    if tokens.next().is_some() {
        return Err("multiple base64.bearer.authorization tokens specified");
    }
    let token = URL_SAFE_NO_PAD
        .decode(encoded)
        .map_err(|_| "invalid base64.bearer.authorization token encoding")?;
    let token =
        String::from_utf8(token).map_err(|_| "invalid base64.bearer.authorization token")?;
    if token.is_empty() {
        return Ok(None);
    }
    // One that the server can agree to: a browser leaves where none of those it offers is.
    match subprotocols(headers).any(|name| !name.starts_with(BEARER)) {
        true => Ok(Some(token)),
        false => Err("missing additional subprotocol"),
    }
}

/// Takes the token out: whoever serves the WebSocket, in a pod or on a node, must not see it.
pub(crate) fn strip_bearer(headers: &mut HeaderMap) {
    if !is_web_socket(headers) || !subprotocols(headers).any(|name| name.starts_with(BEARER)) {
        return;
    }
    let others: Vec<&str> = subprotocols(headers)
        .filter(|name| !name.starts_with(BEARER))
        .collect();
    match HeaderValue::from_str(&others.join(", ")) {
        Ok(value) if !value.is_empty() => {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, value);
        }
        _ => {
            headers.remove(SEC_WEBSOCKET_PROTOCOL);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::header::HeaderName;

    use super::*;

    /// Of the token `a.token?>`: its encoding is neither base64's own nor padded.
    const TOKEN: &str = "base64url.bearer.authorization.k8s.io.YS50b2tlbj8-";
    const HANDSHAKE: [(&str, &str); 2] = [("connection", "Upgrade"), ("upgrade", "websocket")];

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            let name: HeaderName = name.parse().unwrap();
            map.append(name, value.parse().unwrap());
        }
        map
    }

    fn offering(lines: &[&str]) -> HeaderMap {
        let lines = lines.iter().map(|line| ("sec-websocket-protocol", *line));
        let pairs: Vec<_> = HANDSHAKE.into_iter().chain(lines).collect();
        headers(&pairs)
    }

    #[test]
    fn who_asks_for_a_web_socket() {
        for (pairs, asked) in [
            (&HANDSHAKE[..], true),
            (
                &[
                    ("connection", "keep-alive, upgrade"),
                    ("upgrade", "WebSocket"),
                ],
                true,
            ),
            (&HANDSHAKE[..1], false),
            (&HANDSHAKE[1..], false),
            (&[("connection", "Upgrade"), ("upgrade", "SPDY/3.1")], false),
            (&[], false),
        ] {
            assert_eq!(is_web_socket(&headers(pairs)), asked, "{pairs:?}");
        }
    }

    #[test]
    fn a_web_socket_brings_its_token() {
        let with = |encoded: &str| format!("{BEARER}{encoded}, binary.k8s.io");
        let token = Ok(Some("a.token?>".to_owned()));
        for (lines, wanted) in [
            (vec![], Ok(None)),
            (vec!["binary.k8s.io"], Ok(None)),
            (vec![TOKEN, "binary.k8s.io"], token.clone()),
            (vec!["binary.k8s.io", TOKEN], token.clone()),
            (vec![&*format!("a,{TOKEN} ,b")], token.clone()),
            (vec![TOKEN], Err("missing additional subprotocol")),
            (vec![TOKEN, " ,"], Err("missing additional subprotocol")),
            (
                vec![TOKEN, "binary.k8s.io", TOKEN],
                Err("multiple base64.bearer.authorization tokens specified"),
            ),
            // Nothing is no token.
            (vec![&*with("")], Ok(None)),
            (
                vec![&*with("YQ==")],
                Err("invalid base64.bearer.authorization token encoding"),
            ),
            (
                vec![&*with("YS50b2tlbj8+")],
                Err("invalid base64.bearer.authorization token encoding"),
            ),
            (
                vec![&*with("_w")],
                Err("invalid base64.bearer.authorization token"),
            ),
        ] {
            assert_eq!(bearer(&offering(&lines)), wanted, "{lines:?}");
        }
        // Other requests have a header for it.
        let line = format!("{TOKEN}, binary.k8s.io");
        for pairs in [
            &[("sec-websocket-protocol", &*line)][..],
            &[
                ("connection", "Upgrade"),
                ("upgrade", "SPDY/3.1"),
                ("sec-websocket-protocol", &*line),
            ],
        ] {
            assert_eq!(bearer(&headers(pairs)), Ok(None), "{pairs:?}");
        }
    }

    #[test]
    fn the_token_goes_no_further() {
        for (lines, left) in [
            (vec![], vec![]),
            (vec!["a", "b,c"], vec!["a", "b,c"]),
            (vec![TOKEN, "a"], vec!["a"]),
            (vec![&*format!("a,{TOKEN},b"), "c"], vec!["a, b, c"]),
            (vec![TOKEN, "a", TOKEN], vec!["a"]),
            (vec![TOKEN], vec![]),
        ] {
            let mut map = offering(&lines);
            strip_bearer(&mut map);
            assert_eq!(map, offering(&left), "{lines:?}");
        }
    }
}
