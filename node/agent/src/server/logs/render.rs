//! From bytes of a log file to what is sent.

use jiff::Timestamp;

use super::entry::Entry;
use super::options::LogOptions;

/// Keeps what of the last bytes was no whole entry yet.
#[derive(Debug)]
pub struct Renderer {
    options: LogOptions,
    rest: Vec<u8>,
    /// Nothing of an unfinished line was sent.
    at_line_start: bool,
    left: Option<u64>,
}

impl Renderer {
    pub fn new(options: &LogOptions) -> Renderer {
        Renderer {
            options: options.clone(),
            rest: Vec::new(),
            at_line_start: true,
            left: options.limit,
        }
    }

    /// Nothing more will be sent.
    pub fn full(&self) -> bool {
        self.left == Some(0)
    }

    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, after) = bytes.split_at(end);
            if self.rest.is_empty() {
                self.line(line, out);
            } else {
                self.rest.extend_from_slice(line);
                let whole = std::mem::take(&mut self.rest);
                self.line(&whole, out);
            }
            bytes = &after[1..];
        }
        self.rest.extend_from_slice(bytes);
    }

    /// The writer died in the middle of an entry.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let rest = std::mem::take(&mut self.rest);
        if !rest.is_empty() {
            self.line(&rest, out);
        }
    }

    /// What is no entry is left out, as the kubelet does.
    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let Some(entry) = Entry::parse(line) else {
            return;
        };
        if !entry.is_of(self.options.streams) || self.is_old(&entry) {
            return;
        }
        if self.options.timestamps && self.at_line_start {
            self.send(entry.time.as_bytes(), out);
            self.send(b" ", out);
        }
        self.send(entry.content, out);
        if !entry.partial {
            self.send(b"\n", out);
        }
        self.at_line_start = !entry.partial;
    }

    /// Later entries are not older, so one comparison ends this.
    fn is_old(&mut self, entry: &Entry<'_>) -> bool {
        let Some(since) = self.options.since else {
            return false;
        };
        let old = entry
            .time
            .parse::<Timestamp>()
            .is_ok_and(|time| time < since);
        if !old {
            self.options.since = None;
        }
        old
    }

    fn send(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let length = match &mut self.left {
            Some(left) => {
                let length = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                *left -= length as u64;
                length
            }
            None => bytes.len(),
        };
        out.extend_from_slice(&bytes[..length]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::logs::options::Streams;

    const LOG: &str = "\
2026-01-01T00:00:01.000000001Z stdout F one
2026-01-01T00:00:02.000000002Z stderr F two
rubbish
2026-01-01T00:00:03.000000003Z stdout P th
2026-01-01T00:00:04.000000004Z stdout P re
2026-01-01T00:00:05.000000005Z stdout F e
2026-01-01T00:00:06.000000006Z stdout F 
";

    fn render(options: LogOptions, chunks: &[&[u8]]) -> String {
        let mut renderer = Renderer::new(&options);
        let mut out = Vec::new();
        for chunk in chunks {
            renderer.push(chunk, &mut out);
        }
        renderer.finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn options() {
        let none = LogOptions::default();
        let table = [
            (none.clone(), "one\ntwo\nthree\n\n"),
            (
                LogOptions {
                    timestamps: true,
                    ..none.clone()
                },
                "2026-01-01T00:00:01.000000001Z one\n2026-01-01T00:00:02.000000002Z two\n\
                 2026-01-01T00:00:03.000000003Z three\n2026-01-01T00:00:06.000000006Z \n",
            ),
            (
                LogOptions {
                    streams: Streams::Stderr,
                    ..none.clone()
                },
                "two\n",
            ),
            (
                LogOptions {
                    since: Some("2026-01-01T00:00:02.000000002Z".parse().unwrap()),
                    ..none.clone()
                },
                "two\nthree\n\n",
            ),
            (
                LogOptions {
                    limit: Some(9),
                    ..none
                },
                "one\ntwo\nt",
            ),
        ];
        for (options, want) in table {
            assert_eq!(
                render(options.clone(), &[LOG.as_bytes()]),
                want,
                "{options:?}"
            );
            // However the bytes come.
            let bytes: Vec<&[u8]> = LOG.as_bytes().chunks(1).collect();
            assert_eq!(render(options.clone(), &bytes), want, "{options:?}");
        }
    }

    #[test]
    fn an_entry_that_was_cut_short_is_a_line_too() {
        let cut = b"2026-01-01T00:00:01Z stdout F last wor";
        assert_eq!(render(LogOptions::default(), &[cut]), "last wor\n");
        assert_eq!(render(LogOptions::default(), &[&cut[..24]]), "");
    }

    #[test]
    fn the_limit_is_known() {
        let options = LogOptions {
            limit: Some(3),
            ..LogOptions::default()
        };
        let mut renderer = Renderer::new(&options);
        let mut out = Vec::new();
        assert!(!renderer.full());
        renderer.push(LOG.as_bytes(), &mut out);
        assert!(renderer.full());
        assert_eq!(out, b"one");
    }
}
