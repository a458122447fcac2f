//! HTTP/1.1, as much as clients, probes and load generators speak: heads in, answers out.

use std::io::Write as _;

/// Longer heads are refused.
const HEAD_LIMIT: usize = 16 * 1024;

/// What the start of the input is.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// The head's end has not come yet.
    Partial,
    Request {
        request: Request<'a>,
        /// Bytes of the head.
        length: usize,
    },
    /// Nothing that follows can be understood.
    Refused(Status),
}

#[derive(Debug, PartialEq, Eq)]
pub struct Request<'a> {
    pub method: &'a str,
    pub target: &'a str,
    pub keep_alive: bool,
    /// Keep-alive must be said to a client of 1.0.
    pub is_old: bool,
    /// Bytes of the body that follows the head.
    pub body: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok,
    BadRequest,
    NotFound,
    MethodNotAllowed,
    LengthRequired,
    HeadTooLarge,
    Unavailable,
}

impl Status {
    fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::BadRequest => "400 Bad Request",
            Status::NotFound => "404 Not Found",
            Status::MethodNotAllowed => "405 Method Not Allowed",
            Status::LengthRequired => "411 Length Required",
            Status::HeadTooLarge => "431 Request Header Fields Too Large",
            Status::Unavailable => "503 Service Unavailable",
        }
    }
}

/// What a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    Identity,
    Health,
    Ready,
    SetReady(bool),
    Unknown,
}

impl Route {
    pub fn of(target: &str) -> Route {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        match (path, query) {
            ("/", _) => Route::Identity,
            ("/healthz", _) => Route::Health,
            ("/ready", "on") => Route::SetReady(true),
            ("/ready", "off") => Route::SetReady(false),
            ("/ready", _) => Route::Ready,
            _ => Route::Unknown,
        }
    }
}

pub fn parse(input: &[u8]) -> Parsed<'_> {
    let Some(length) = head_length(input) else {
        return match input.len() < HEAD_LIMIT {
            true => Parsed::Partial,
            false => Parsed::Refused(Status::HeadTooLarge),
        };
    };
    if length > HEAD_LIMIT {
        return Parsed::Refused(Status::HeadTooLarge);
    }
    match std::str::from_utf8(&input[..length]).map(request) {
        Ok(Ok(request)) => Parsed::Request { request, length },
        Ok(Err(status)) => Parsed::Refused(status),
        Err(_) => Parsed::Refused(Status::BadRequest),
    }
}

fn head_length(input: &[u8]) -> Option<usize> {
    let end = input.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    end.map(|at| at + 4)
}

fn request(head: &str) -> Result<Request<'_>, Status> {
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let words = (words.next(), words.next(), words.next(), words.next());
    let (Some(method), Some(target), Some(version), None) = words else {
        return Err(Status::BadRequest);
    };
    let is_old = match version {
        "HTTP/1.1" => false,
        "HTTP/1.0" => true,
        _ => return Err(Status::BadRequest),
    };
    let mut request = Request {
        method,
        target,
        keep_alive: !is_old,
        is_old,
        body: 0,
    };
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or(Status::BadRequest)?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("connection") {
            for word in value.split(',').map(str::trim) {
                if word.eq_ignore_ascii_case("close") {
                    request.keep_alive = false;
                } else if word.eq_ignore_ascii_case("keep-alive") {
                    request.keep_alive = true;
                }
            }
        } else if name.eq_ignore_ascii_case("content-length") {
            request.body = value.parse().map_err(|_| Status::BadRequest)?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(Status::LengthRequired);
        }
    }
    Ok(request)
}

/// Appends an answer. `request` is None where none was understood.
pub fn answer(output: &mut Vec<u8>, status: Status, body: &str, request: Option<&Request<'_>>) {
    let connection = match request {
        Some(request) if request.keep_alive && request.is_old => "Connection: keep-alive\r\n",
        Some(request) if request.keep_alive => "",
        _ => "Connection: close\r\n",
    };
    // Writing to memory does not fail.
    let _ = write!(
        output,
        "HTTP/1.1 {}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n{connection}\r\n",
        status.line(),
        body.len(),
    );
    if request.is_none_or(|request| request.method != "HEAD") {
        output.extend_from_slice(body.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> String {
        text.replace('\n', "\r\n")
    }

    #[test]
    fn requests_are_understood() {
        let table = [
            ("GET / HTTP/1.1\nHost: a\n\n", "/", true, 0),
            (
                "GET /ready HTTP/1.1\nconnection: Close\n\n",
                "/ready",
                false,
                0,
            ),
            ("GET / HTTP/1.0\n\n", "/", false, 0),
            ("GET / HTTP/1.0\nConnection: Keep-Alive\n\n", "/", true, 0),
            ("POST / HTTP/1.1\nContent-Length: 12\n\n", "/", true, 12),
        ];
        for (text, target, keep_alive, body) in table {
            let text = head(text);
            let Parsed::Request { request, length } = parse(text.as_bytes()) else {
                panic!("not understood: {text}");
            };
            let found = (request.target, request.keep_alive, request.body);
            assert_eq!(found, (target, keep_alive, body), "{text}");
            assert_eq!(length, text.len());
        }
    }

    #[test]
    fn only_the_first_request_is_taken() {
        let (one, two) = (head("GET / HTTP/1.1\n\n"), head("GET /b HTTP/1.1\n"));
        let both = format!("{one}{two}");
        assert!(
            matches!(parse(both.as_bytes()), Parsed::Request { length, .. } if length == one.len())
        );
        assert_eq!(parse(two.as_bytes()), Parsed::Partial);
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        let long = format!("GET / HTTP/1.1\nA: {}", "a".repeat(HEAD_LIMIT));
        let table = [
            ("nonsense\n\n", Status::BadRequest),
            ("GET / HTTP/2.0\n\n", Status::BadRequest),
            ("GET / x HTTP/1.1\n\n", Status::BadRequest),
            ("GET / HTTP/1.1\nno colon\n\n", Status::BadRequest),
            (
                "POST / HTTP/1.1\nContent-Length: -1\n\n",
                Status::BadRequest,
            ),
            (
                "POST / HTTP/1.1\nTransfer-Encoding: chunked\n\n",
                Status::LengthRequired,
            ),
            (long.as_str(), Status::HeadTooLarge),
        ];
        for (text, status) in table {
            assert_eq!(
                parse(head(text).as_bytes()),
                Parsed::Refused(status),
                "{text:.40}"
            );
        }
    }

    #[test]
    fn paths_are_routes() {
        for (target, route) in [
            ("/", Route::Identity),
            ("/?a=b", Route::Identity),
            ("/ready", Route::Ready),
            ("/ready?", Route::Ready),
            ("/ready?on", Route::SetReady(true)),
            ("/ready?off", Route::SetReady(false)),
            ("/healthz", Route::Health),
            ("/readyy", Route::Unknown),
        ] {
            assert_eq!(Route::of(target), route, "{target}");
        }
    }
}
