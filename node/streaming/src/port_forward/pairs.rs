//! Which streams belong together.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use tokio::time::Instant;
use vetch_spdy::{Headers, StreamId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What client and pod say to each other.
    Data,
    /// Why they cannot, in words.
    Error,
}

/// What a stream is opened for, by its headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub kind: Kind,
    /// Not 0.
    pub port: u16,
    /// What the streams of a pair have in common.
    pub request: String,
}

impl Asked {
    /// `None` where the kubelet refuses it too.
    pub fn read(stream: StreamId, headers: &Headers) -> Option<Asked> {
        let port = headers.get("port")?.parse().ok().filter(|port| *port > 0)?;
        let kind = match headers.get("streamtype")? {
            "data" => Kind::Data,
            "error" => Kind::Error,
            _ => return None,
        };
        // Clients older than the header open the streams of a pair one after the other, first the one of errors.
        let first = match kind {
            Kind::Error => stream,
            Kind::Data => stream.wrapping_sub(2),
        };
        let request = headers
            .get("requestid")
            .filter(|request| !request.is_empty());
        Some(Asked {
            kind,
            port,
            request: request.map_or_else(|| first.to_string(), str::to_owned),
        })
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct Pair<S> {
    /// Of the stream of data.
    pub port: u16,
    pub data: S,
    pub error: S,
}

/// Streams that wait for their other one.
pub struct Pairs<S> {
    waiting: HashMap<String, Half<S>>,
}

struct Half<S> {
    asked: Asked,
    stream: S,
    since: Instant,
}

impl<S> Default for Pairs<S> {
    fn default() -> Pairs<S> {
        Pairs {
            waiting: HashMap::new(),
        }
    }
}

impl<S> Pairs<S> {
    /// A second stream of the same kind is dropped.
    pub fn add(&mut self, asked: Asked, stream: S, now: Instant) -> Option<Pair<S>> {
        match self.waiting.entry(asked.request.clone()) {
            Entry::Vacant(vacant) => {
                vacant.insert(Half {
                    asked,
                    stream,
                    since: now,
                });
                None
            }
            Entry::Occupied(first) if first.get().asked.kind == asked.kind => None,
            Entry::Occupied(first) => {
                let first = first.remove();
                Some(match asked.kind {
                    Kind::Data => Pair {
                        port: asked.port,
                        data: stream,
                        error: first.stream,
                    },
                    Kind::Error => Pair {
                        port: first.asked.port,
                        data: first.stream,
                        error: stream,
                    },
                })
            }
        }
    }

    /// Drops what has waited since then or longer.
    pub fn forget(&mut self, then: Instant) {
        self.waiting.retain(|_, half| half.since > then);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn asked(kind: Kind, port: u16, request: &str) -> Asked {
        Asked {
            kind,
            port,
            request: request.to_owned(),
        }
    }

    #[test]
    fn what_a_stream_is_for() {
        for (stream, headers, wanted) in [
            (
                1,
                &[("streamtype", "error"), ("port", "80"), ("requestid", "0")][..],
                Some(asked(Kind::Error, 80, "0")),
            ),
            (
                3,
                &[
                    ("streamtype", "data"),
                    ("port", "65535"),
                    ("requestid", "0"),
                ],
                Some(asked(Kind::Data, 65535, "0")),
            ),
            // Older clients.
            (
                5,
                &[("streamtype", "error"), ("port", "80")],
                Some(asked(Kind::Error, 80, "5")),
            ),
            (
                7,
                &[("streamtype", "data"), ("port", "80"), ("requestid", "")],
                Some(asked(Kind::Data, 80, "5")),
            ),
            (1, &[("streamtype", "stdin"), ("port", "80")], None),
            (1, &[("streamtype", "data")], None),
            (1, &[("port", "80")], None),
            (1, &[("streamtype", "data"), ("port", "0")], None),
            (1, &[("streamtype", "data"), ("port", "65536")], None),
            (1, &[("streamtype", "data"), ("port", "http")], None),
        ] {
            let headers = Headers::new(headers.iter().copied());
            assert_eq!(Asked::read(stream, &headers), wanted, "{headers:?}");
        }
    }

    #[test]
    fn two_of_a_kind_are_no_pair() {
        let now = Instant::now();
        let mut pairs = Pairs::default();
        let pair = |data, error| {
            Some(Pair {
                port: 80,
                data,
                error,
            })
        };
        for (kind, port, request, stream, wanted) in [
            (Kind::Error, 81, "a", 1, None),
            (Kind::Data, 80, "b", 2, None),
            (Kind::Error, 81, "a", 3, None),
            (Kind::Data, 80, "a", 4, pair(4, 1)),
            (Kind::Error, 81, "b", 5, pair(2, 5)),
            // The name is free again.
            (Kind::Data, 80, "a", 6, None),
            (Kind::Error, 80, "a", 7, pair(6, 7)),
        ] {
            let added = pairs.add(asked(kind, port, request), stream, now);
            assert_eq!(added, wanted, "{stream}");
        }
    }

    #[test]
    fn who_waits_too_long_is_forgotten() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut pairs = Pairs::default();
        pairs.add(asked(Kind::Data, 80, "a"), 1, now);
        pairs.add(asked(Kind::Data, 80, "b"), 2, later);
        pairs.forget(now);
        assert_eq!(pairs.add(asked(Kind::Error, 80, "a"), 3, later), None);
        assert!(pairs.add(asked(Kind::Error, 80, "b"), 4, later).is_some());
    }
}
