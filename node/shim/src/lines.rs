//! Container logs in the CRI format:
//! `2026-01-01T00:00:00.000000000Z stdout F line`.

use std::io::Write;

use crate::time::utc;

/// A longer line is cut into partial entries, as containerd does.
pub const MAX_LINE: usize = 16 * 1024;

/// One standard descriptor's unfinished line.
pub struct LineBuffer {
    stream: &'static str,
    pending: Vec<u8>,
}

impl LineBuffer {
    pub fn new(stream: &'static str) -> LineBuffer {
        LineBuffer {
            stream,
            pending: Vec::new(),
        }
    }

    /// Appends the entries that `data` completes to `out`.
    pub fn push(&mut self, mut data: &[u8], now: i64, out: &mut Vec<u8>) {
        while !data.is_empty() {
            let room = MAX_LINE - self.pending.len();
            let end = data.iter().take(room + 1).position(|byte| *byte == b'\n');
            match end {
                Some(end) => {
                    self.entry("F", &data[..end], now, out);
                    data = &data[end + 1..];
                }
                None if data.len() > room => {
                    self.entry("P", &data[..room], now, out);
                    data = &data[room..];
                }
                None => {
                    self.pending.extend_from_slice(data);
                    return;
                }
            }
        }
    }

    /// The stream ended: what is left is a line without its end, as containerd has it, so that a
    /// reader gets what was written and no byte more.
    pub fn finish(&mut self, now: i64, out: &mut Vec<u8>) {
        if !self.pending.is_empty() {
            self.entry("P", &[], now, out);
        }
    }

    fn entry(&mut self, tag: &str, rest: &[u8], now: i64, out: &mut Vec<u8>) {
        let t = utc(now);
        // Writing to a Vec does not fail.
        let _ = write!(
            out,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z {} {tag} ",
            t.year, t.month, t.day, t.hour, t.minute, t.second, t.nanos, self.stream
        );
        out.extend_from_slice(&self.pending);
        out.extend_from_slice(rest);
        out.push(b'\n');
        // Gives the memory back: most containers write short lines or none.
        self.pending = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: &str = "1970-01-01T00:00:01.000000002Z";

    fn run(chunks: &[&[u8]]) -> Vec<(String, String)> {
        let mut buffer = LineBuffer::new("stdout");
        let mut out = Vec::new();
        for chunk in chunks {
            buffer.push(chunk, 1_000_000_002, &mut out);
        }
        buffer.finish(1_000_000_002, &mut out);
        let text = String::from_utf8(out).unwrap();
        text.lines()
            .map(|line| {
                let rest = line.strip_prefix(&format!("{STAMP} stdout ")).unwrap();
                let (tag, body) = rest.split_once(' ').unwrap();
                (tag.to_owned(), body.to_owned())
            })
            .collect()
    }

    fn full(text: &str) -> (String, String) {
        ("F".into(), text.into())
    }

    #[test]
    fn lines_are_entries_however_they_are_cut() {
        assert_eq!(run(&[b"a\nb\n"]), [full("a"), full("b")]);
        assert_eq!(
            run(&[b"he", b"llo", b"\n\n", b"x"]),
            [full("hello"), full(""), ("P".into(), "x".into())]
        );
        assert_eq!(run(&[]), []);
    }

    #[test]
    fn long_lines_come_in_parts() {
        let exact = "x".repeat(MAX_LINE);
        assert_eq!(run(&[format!("{exact}\n").as_bytes()]), [full(&exact)]);
        let got = run(&[exact.as_bytes(), exact.as_bytes(), b"tail\n", b"next\n"]);
        assert_eq!(
            got,
            [
                ("P".to_owned(), exact.clone()),
                ("P".to_owned(), exact.clone()),
                full("tail"),
                full("next")
            ]
        );
    }
}
