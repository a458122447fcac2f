//! /proc/meminfo, in bytes.

use std::fs;

use super::NodeError;

const PATH: &str = "/proc/meminfo";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meminfo {
    pub total: u64,
    pub free: u64,
    pub available: u64,
    /// Of files that nobody used lately.
    pub inactive_file: u64,
    /// Of no file.
    pub anonymous: u64,
    pub swap_total: u64,
    pub swap_free: u64,
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
                "MemFree" => meminfo.free = bytes,
                "MemAvailable" => meminfo.available = bytes,
                "Inactive(file)" => meminfo.inactive_file = bytes,
                "AnonPages" => meminfo.anonymous = bytes,
                "SwapTotal" => meminfo.swap_total = bytes,
                "SwapFree" => meminfo.swap_free = bytes,
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
        let text = "MemTotal:       16 kB\nMemFree:  1 kB\nMemAvailable:    8 kB\nInactive(file):  2 kB\nAnonPages: 3 kB\nSwapTotal:             5 kB\nSwapFree: 4 kB\nHugePages_Total:       0\n";
        let want = Meminfo {
            total: 16384,
            free: 1024,
            available: 8192,
            inactive_file: 2048,
            anonymous: 3072,
            swap_total: 5120,
            swap_free: 4096,
        };
        assert_eq!(Meminfo::parse(text), want);
    }
}
