//! What holds for any bytes of a log: run by `node/fuzz`, and by a short random test in the suite.

use vetch_shim::lines::{LineBuffer, MAX_LINE};

use super::entry::Entry;

/// What a container wrote is what a reader of its log gets, however it came, and any other line is
/// an entry or none.
pub fn fuzz_log(data: &[u8]) {
    for line in data.split(|byte| *byte == b'\n') {
        if let Some(entry) = Entry::parse(line) {
            assert!(line.ends_with(entry.content));
        }
    }
    let cut = data.first().map_or(0, |byte| usize::from(*byte));
    for parts in [vec![data], chunks(data, cut * 97 + 1)] {
        let mut buffer = LineBuffer::new("stderr");
        let mut log = Vec::new();
        for part in parts {
            buffer.push(part, 1_000_000_002, &mut log);
        }
        buffer.finish(1_000_000_002, &mut log);
        assert_eq!(read(&log), data);
    }
}

fn chunks(data: &[u8], size: usize) -> Vec<&[u8]> {
    data.chunks(size).collect()
}

fn read(log: &[u8]) -> Vec<u8> {
    let mut said = Vec::new();
    for line in log.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\n").expect("every entry has its end");
        let entry = Entry::parse(line).expect("an entry");
        assert!(entry.content.len() <= MAX_LINE);
        said.extend_from_slice(entry.content);
        if !entry.partial {
            said.push(b'\n');
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::Rng as _;
    use vetch_shim::testing::with_seeds;

    use super::*;

    #[test]
    fn any_bytes_in_a_log() {
        let pieces: [&[u8]; 7] = [
            b"\n",
            b"T stdout F ",
            b"T stderr P:x ",
            b" ",
            b"\xff\0",
            b"words",
            &[b'x'; MAX_LINE],
        ];
        with_seeds(Duration::from_millis(500), |random| {
            let mut data = Vec::new();
            for _ in 0..random.random_range(0..12) {
                if random.random() {
                    data.push(random.random());
                }
                data.extend_from_slice(pieces[random.random_range(0..pieces.len())]);
            }
            fuzz_log(&data);
        });
    }
}
