//! Counters of the links of a network namespace, by /proc/PID/net/dev (proc_pid_net(5)).

use std::fs;

use crate::Error;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkUsage {
    pub name: String,
    pub rx: Counters,
    pub tx: Counters,
}

/// In the order in which the kernel writes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub bytes: u64,
    pub packets: u64,
    pub errors: u64,
    pub dropped: u64,
}

/// Without loopback.
pub fn usage(pid: u32) -> Result<Vec<LinkUsage>, Error> {
    let path = format!("/proc/{pid}/net/dev");
    let text = fs::read_to_string(&path).map_err(Error::io("reading", path))?;
    Ok(parse(&text).filter(|link| link.name != "lo").collect())
}

/// Two lines of headings, then `name: receive's eight numbers, transmit's eight`.
fn parse(text: &str) -> impl Iterator<Item = LinkUsage> {
    text.lines().skip(2).filter_map(|line| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers
            .split_whitespace()
            .map_while(|number| number.parse().ok())
            .collect();
        let counters = |at: usize| match numbers.get(at..at + 4)? {
            &[bytes, packets, errors, dropped] => Some(Counters {
                bytes,
                packets,
                errors,
                dropped,
            }),
            _ => None,
        };
        Some(LinkUsage {
            name: name.trim().to_owned(),
            rx: counters(0)?,
            tx: counters(8)?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_words() {
        let text = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
  eth0: 1234567     890    2    4    0     0          0         0  7654321     987    3    5    0     0       0          0
";
        let links: Vec<LinkUsage> = parse(text).collect();
        assert_eq!(links.len(), 2);
        let counters = |bytes, packets, errors, dropped| Counters {
            bytes,
            packets,
            errors,
            dropped,
        };
        assert_eq!(links[1].name, "eth0");
        assert_eq!(links[1].rx, counters(1_234_567, 890, 2, 4));
        assert_eq!(links[1].tx, counters(7_654_321, 987, 3, 5));
        // Ours is always readable.
        assert!(
            usage(std::process::id())
                .unwrap()
                .iter()
                .all(|link| link.name != "lo")
        );
    }
}
