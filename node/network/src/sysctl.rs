//! The few switches of the node's own links. /proc/sys/net shows the
//! namespace of the thread that reads it, so this runs on a thread inside.

use std::{
    fs, io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

#[derive(Debug, thiserror::Error)]
#[error("cannot write {value} to {path}")]
pub struct SysctlError {
    path: PathBuf,
    value: String,
    source: io::Error,
}

/// Packets that arrive on `link` may go on to another. Forwarding is decided
/// by the link a packet came in on, so only ours and the uplink need it.
pub fn forward_from(link: &str) -> Result<(), SysctlError> {
    set(link, "forwarding", "1")
}

/// A pod's packets come from the one address routed to its link, which the
/// strict check accepts; `all.rp_filter` would win over a looser value here.
pub fn check_source(link: &str) -> Result<(), SysctlError> {
    set(link, "rp_filter", "1")
}

/// What comes in the tunnel comes from other nodes, which vouch for it: clients
/// outside too, who would answer another way, and a service's answers, whose source is
/// this node's address.
pub fn at_tunnel(link: &str) -> Result<(), SysctlError> {
    forward_from(link)?;
    // Loose, which wins over a strict `all.rp_filter`.
    set(link, "rp_filter", "2")?;
    set(link, "accept_local", "1")
}

/// No socket of the node's is given a port of `range` by the kernel's choice;
/// what else is reserved stays so.
pub fn reserve_ports(range: RangeInclusive<u16>) -> Result<(), SysctlError> {
    let path = Path::new("/proc/sys/net/ipv4/ip_local_reserved_ports");
    let reserved = fs::read_to_string(path).unwrap_or_default();
    match with_range(&reserved, range) {
        None => Ok(()),
        Some(value) => write(path, &value),
    }
}

/// The kernel's list (`1,3-5`) with `range`; `None` if that is in it.
fn with_range(list: &str, range: RangeInclusive<u16>) -> Option<String> {
    let covered = list.trim().split(',').any(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        first
            .parse()
            .is_ok_and(|first: u16| first <= *range.start())
            && last.parse().is_ok_and(|last: u16| *range.end() <= last)
    });
    if covered {
        return None;
    }
    let (start, end) = range.into_inner();
    // The kernel merges what overlaps.
    Some(match list.trim() {
        "" => format!("{start}-{end}"),
        list => format!("{list},{start}-{end}"),
    })
}

fn set(link: &str, name: &str, value: &str) -> Result<(), SysctlError> {
    let path = PathBuf::from("/proc/sys/net/ipv4/conf")
        .join(link)
        .join(name);
    // A machine may have /proc/sys read-only and the value already right.
    if fs::read_to_string(&path).is_ok_and(|current| current.trim() == value) {
        return Ok(());
    }
    write(&path, value)
}

fn write(path: &Path, value: &str) -> Result<(), SysctlError> {
    fs::write(path, value).map_err(|source| SysctlError {
        path: path.into(),
        value: value.into(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_ports_are_added_to() {
        for (list, with) in [
            ("\n", Some("61000-65535")),
            ("8080,9000-9010\n", Some("8080,9000-9010,61000-65535")),
            // Overlaps are the kernel's to merge.
            ("60000-62000\n", Some("60000-62000,61000-65535")),
            ("8080,61000-65535\n", None),
            ("60000-65535\n", None),
            ("61000-65534,65535\n", Some("61000-65534,65535,61000-65535")),
        ] {
            assert_eq!(with_range(list, 61000..=65535).as_deref(), with, "{list}");
        }
    }
}
