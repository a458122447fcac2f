//! HTTP requests, as far as clients of the benchmark speak: GET without a body.

use httparse::{EMPTY_HEADER, Request, Status};

/// Longer heads are refused.
pub const HEAD_LIMIT: usize = 16 * 1024;

/// What the start of the input is.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The head's end has not come yet.
    Partial,
    Asked {
        route: Route,
        keep_alive: bool,
        /// Bytes of the head.
        length: usize,
    },
    /// Nothing that follows can be understood; this is the status line's end.
    Refused(&'static str),
}

/// What a target asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    Root,
    /// So many bytes.
    Stream(u64),
    Usage,
    Unknown,
}

pub fn parse(input: &[u8]) -> Parsed {
    let mut headers = [EMPTY_HEADER; 32];
    let mut request = Request::new(&mut headers);
    let length = match request.parse(input) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) if input.len() < HEAD_LIMIT => return Parsed::Partial,
        Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Parsed::Refused("431 Request Header Fields Too Large");
        }
        Err(_) => return Parsed::Refused("400 Bad Request"),
    };
    if request.method != Some("GET") {
        return Parsed::Refused("405 Method Not Allowed");
    }
    // 1.0 closes, unless it is asked not to.
    let mut keep_alive = request.version == Some(1);
    for header in request.headers.iter() {
        if header.name.eq_ignore_ascii_case("connection") {
            for word in header.value.split(|byte| *byte == b',') {
                let word = word.trim_ascii();
                if word.eq_ignore_ascii_case(b"close") {
                    keep_alive = false;
                } else if word.eq_ignore_ascii_case(b"keep-alive") {
                    keep_alive = true;
                }
            }
        } else if header.name.eq_ignore_ascii_case("content-length") && header.value != b"0"
            || header.name.eq_ignore_ascii_case("transfer-encoding")
        {
            return Parsed::Refused("413 Content Too Large");
        }
    }
    Parsed::Asked {
        route: Route::of(request.path.unwrap_or_default()),
        keep_alive,
        length,
    }
}

impl Route {
    fn of(target: &str) -> Route {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        match path {
            "/" => Route::Root,
            "/usage" => Route::Usage,
            "/stream" => {
                let mut words = query.split('&');
                words
                    .find_map(|word| word.strip_prefix("bytes="))
                    .and_then(|count| count.parse().ok())
                    .map_or(Route::Unknown, Route::Stream)
            }
            _ => Route::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_understood() {
        for (text, route, keep_alive) in [
            ("GET / HTTP/1.1\n\n", Route::Root, true),
            (
                "GET /?a HTTP/1.1\nconnection: Close\n\n",
                Route::Root,
                false,
            ),
            ("GET / HTTP/1.0\n\n", Route::Root, false),
            (
                "GET / HTTP/1.0\nConnection: a, Keep-Alive\n\n",
                Route::Root,
                true,
            ),
            ("GET / HTTP/1.1\nContent-Length: 0\n\n", Route::Root, true),
            ("GET /usage HTTP/1.1\n\n", Route::Usage, true),
            (
                "GET /stream?a=1&bytes=12 HTTP/1.1\n\n",
                Route::Stream(12),
                true,
            ),
            ("GET /stream?bytes=x HTTP/1.1\n\n", Route::Unknown, true),
            ("GET /stream HTTP/1.1\n\n", Route::Unknown, true),
            ("GET /b HTTP/1.1\n\n", Route::Unknown, true),
        ] {
            let text = text.replace('\n', "\r\n");
            let expected = Parsed::Asked {
                route,
                keep_alive,
                length: text.len(),
            };
            assert_eq!(parse(format!("{text}GET").as_bytes()), expected, "{text}");
            assert_eq!(parse(&text.as_bytes()[..text.len() - 1]), Parsed::Partial);
        }
    }

    #[test]
    fn what_cannot_be_answered_is_refused() {
        let long = format!("GET / HTTP/1.1\nA: {}", "a".repeat(HEAD_LIMIT));
        for (text, status) in [
            ("\u{1}\n\n", "400"),
            ("GET / HTTP/2.0\n\n", "400"),
            ("HEAD / HTTP/1.1\n\n", "405"),
            ("GET / HTTP/1.1\nContent-Length: 5\n\n", "413"),
            ("GET / HTTP/1.1\nTransfer-Encoding: chunked\n\n", "413"),
            (long.as_str(), "431"),
        ] {
            let parsed = parse(text.replace('\n', "\r\n").as_bytes());
            let Parsed::Refused(line) = parsed else {
                panic!("{text:.40} is {parsed:?}");
            };
            assert!(line.starts_with(status), "{text:.40}: {line}");
        }
    }
}
