//! /proc/meminfo, in bytes.

use std::fs;

use super::NodeError;

const PATH: &str = "/proc/meminfo";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meminfo {
    pub total: u64,
    pub available: u64,
    pub swap_total: u64,
}

impl Meminfo {
    pub fn read() -> Result<Meminfo, NodeError> {
        let text = fs::read_to_string(PATH).map_err(NodeError::read(PATH))?;
        Ok(Meminfo::parse(&text))
    }

    fn parse(text: &str) -> Meminfo {
        let mut meminfo = Meminfo::default();
        for line in text.lines() {
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            let kib = value.split_whitespace().next();
            let bytes = kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10;
            match name {
                "MemTotal" => meminfo.total = bytes,
                "MemAvailable" => meminfo.available = bytes,
                "SwapTotal" => meminfo.swap_total = bytes,
                _ => {}
            }
        }
        meminfo
    }
}

#[cfg(test)]
mod tests {
    use super::Meminfo;

    #[test]
    fn kibibytes_become_bytes() {
        let text = "MemTotal:       16 kB\nMemFree:  1 kB\nMemAvailable:    8 kB\nSwapTotal:             0 kB\nHugePages_Total:       0\n";
        let want = Meminfo {
            total: 16384,
            available: 8192,
            swap_total: 0,
        };
        assert_eq!(Meminfo::parse(text), want);
    }
}
