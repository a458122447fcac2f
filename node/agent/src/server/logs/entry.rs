//! One line of a log file: `TIME STREAM TAG CONTENT`, as CRI has it.

use super::options::Streams;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub time: &'a str,
    pub stream: Streams,
    /// The line goes on in the next entry.
    pub partial: bool,
    pub content: &'a [u8],
}

impl<'a> Entry<'a> {
    /// `line` is without its line feed. `None` for what is no entry.
    pub fn parse(line: &'a [u8]) -> Option<Entry<'a>> {
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(fields.next()?).ok()?;
        let stream = match fields.next()? {
            b"stdout" => Streams::Stdout,
            b"stderr" => Streams::Stderr,
            _ => return None,
        };
        // Tags are joined by colons; the first says whether the line is whole.
        let partial = match fields.next()?.split(|byte| *byte == b':').next()? {
            b"F" => false,
            b"P" => true,
            _ => return None,
        };
        Some(Entry {
            time,
            stream,
            partial,
            content: fields.next().unwrap_or_default(),
        })
    }

    pub fn is_of(&self, wanted: Streams) -> bool {
        wanted == Streams::All || wanted == self.stream
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let entry = |stream, partial, content: &'static [u8]| {
            Some(Entry {
                time: "T",
                stream,
                partial,
                content,
            })
        };
        let table: [(&[u8], _); 8] = [
            (
                b"T stdout F a b  c",
                entry(Streams::Stdout, false, b"a b  c"),
            ),
            (b"T stderr P half", entry(Streams::Stderr, true, b"half")),
            (
                b"T stdout F:x tagged",
                entry(Streams::Stdout, false, b"tagged"),
            ),
            (b"T stdout F ", entry(Streams::Stdout, false, b"")),
            (b"T stdout F", entry(Streams::Stdout, false, b"")),
            (
                b"T stdout F \xff\xfe",
                entry(Streams::Stdout, false, b"\xff\xfe"),
            ),
            (b"T stdin F x", None),
            (b"", None),
        ];
        for (line, want) in table {
            assert_eq!(Entry::parse(line), want, "{}", line.escape_ascii());
        }
    }
}
