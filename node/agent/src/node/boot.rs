//! When the machine was started, by /proc/stat (proc_stat(5)).

use std::fs;
use std::io;

use jiff::Timestamp;

use super::NodeError;

const PATH: &str = "/proc/stat";

/// To the second.
pub fn time() -> Result<Timestamp, NodeError> {
    let text = fs::read_to_string(PATH).map_err(NodeError::read(PATH))?;
    parse(&text).ok_or_else(|| NodeError::read(PATH)(io::Error::other("it has no btime")))
}

fn parse(text: &str) -> Option<Timestamp> {
    let seconds = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    Timestamp::from_second(seconds.trim().parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_since_1970() {
        let text = "cpu  1 2 3\nintr 5\nbtime 1767225600\nprocesses 9\n";
        assert_eq!(parse(text), Some("2026-01-01T00:00:00Z".parse().unwrap()));
        assert_eq!(parse("cpu 1\n"), None);
        let now = Timestamp::now();
        let booted = time().unwrap();
        assert!(booted > Timestamp::UNIX_EPOCH && booted < now, "{booted}");
    }
}
