//! Where the last lines begin.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::entry::Entry;
use super::options::Streams;

const BLOCK: u64 = 64 * 1024;

/// Counts lines from the end of a log backwards, file by file.
#[derive(Debug)]
pub struct Tail {
    left: u64,
    streams: Streams,
    /// What comes first from the end may be the beginning of a line.
    at_end: bool,
}

impl Tail {
    pub fn new(lines: u64, streams: Streams) -> Tail {
        Tail {
            left: lines,
            streams,
            at_end: true,
        }
    }

    /// The offset of the first wanted line, or `None` when it is in an older
    /// file or this is all there is.
    pub fn find(&mut self, file: &File) -> io::Result<Option<u64>> {
        let mut start = file.metadata()?.len();
        // From `start` on: bytes whose beginning was not seen yet.
        let mut bytes = Vec::new();
        while start > 0 {
            let length = start.min(BLOCK);
            start -= length;
            let mut block = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            file.read_exact_at(&mut block, start)?;
            block.append(&mut bytes);
            bytes = block;
            // A line that begins before `start` waits for the next block.
            let first = match start {
                0 => 0,
                _ => match bytes.iter().position(|byte| *byte == b'\n') {
                    Some(end) => end + 1,
                    None => continue,
                },
            };
            if let Some(offset) = self.count(&bytes[first..]) {
                return Ok(Some(start + (first + offset) as u64));
            }
            bytes.truncate(first);
        }
        Ok(None)
    }

    /// Whole lines, the last first; where the wanted ones begin.
    fn count(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut end = bytes.len();
        while end > 0 {
            let text = match bytes[end - 1] {
                b'\n' => &bytes[..end - 1],
                _ => &bytes[..end],
            };
            let begin = text
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |feed| feed + 1);
            let ends_line = Entry::parse(&text[begin..])
                .filter(|entry| entry.is_of(self.streams))
                .map(|entry| !entry.partial || self.at_end);
            if let Some(ends_line) = ends_line {
                self.at_end = false;
                if ends_line {
                    if self.left == 0 {
                        return Some(end);
                    }
                    self.left -= 1;
                }
            }
            end = begin;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file(text: &str) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn from(text: &str, lines: u64, streams: Streams) -> &str {
        match Tail::new(lines, streams).find(&file(text)).unwrap() {
            Some(offset) => &text[offset as usize..],
            None => text,
        }
    }

    const LOG: &str = "T stdout F 1\nT stderr F 2\nT stdout P 3\nT stdout F 3\nT stdout F 4\n";

    #[test]
    fn lines_from_the_end() {
        for (lines, want) in [
            (0, ""),
            (1, "T stdout F 4\n"),
            (2, "T stdout P 3\nT stdout F 3\nT stdout F 4\n"),
            (
                3,
                "T stderr F 2\nT stdout P 3\nT stdout F 3\nT stdout F 4\n",
            ),
            (4, LOG),
            (100, LOG),
        ] {
            assert_eq!(from(LOG, lines, Streams::All), want, "{lines}");
        }
        // One of these is all there are; of the rest nothing will be shown.
        assert_eq!(from(LOG, 1, Streams::Stderr), LOG);
        assert_eq!(from(LOG, 0, Streams::Stderr), &LOG[26..]);
        assert_eq!(from("", 3, Streams::All), "");
    }

    #[test]
    fn an_unfinished_line_is_the_last() {
        let log = "T stdout F 1\nT stdout F 2\nT stdout P 3\nT stdout P 3\n";
        assert_eq!(from(log, 1, Streams::All), "T stdout P 3\nT stdout P 3\n");
        assert_eq!(from(log, 2, Streams::All), &log[13..]);
        assert_eq!(from(log, 0, Streams::All), "");
    }

    #[test]
    fn lines_across_blocks() {
        let long = "x".repeat(16 << 10);
        let log: String = (0..40)
            .map(|line| format!("T stdout F {line} {long}\n"))
            .collect();
        let got = from(&log, 11, Streams::All);
        assert!(got.starts_with("T stdout F 29 x"), "{}", &got[..20]);
        assert_eq!(from(&log, 40, Streams::All), log);
        // Longer than a block.
        let longer = "y".repeat(200 << 10);
        let log = format!("T stdout F 1\nT stdout F {longer}\nT stdout F 3\n");
        assert!(from(&log, 2, Streams::All).starts_with("T stdout F y"));
    }

    #[test]
    fn the_count_goes_on_in_older_files() {
        let (old, new) = (file("T stdout F 1\nT stdout F 2\n"), file("T stdout F 3\n"));
        let mut tail = Tail::new(2, Streams::All);
        assert_eq!(tail.find(&new).unwrap(), None);
        assert_eq!(tail.find(&old).unwrap(), Some(13));
    }
}
