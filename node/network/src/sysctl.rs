//! The few switches of the node's own links, and of pods' ends. /proc/sys/net
//! shows the namespace of the thread that reads it, so this runs on a thread
//! inside.

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
    set(Family::V4, link, "forwarding", "1")
}

/// The same for IPv6, where a link can be told by itself from 6.17 on. Before,
/// the kernel asks one switch for all, which makes every link a router's: those
/// that learn their routes from routers are told to go on with it.
pub fn forward_ipv6_from(link: &str) -> Result<(), SysctlError> {
    const FORCE: &str = "force_forwarding";
    if conf(Family::V6, link, FORCE).exists() {
        return set(Family::V6, link, FORCE, "1");
    }
    // First: where it is not so, the switch takes the routes away that were
    // learnt. One link may have come after it was set.
    for listening in links().filter(|link| is(Family::V6, link, "accept_ra", "1")) {
        set(Family::V6, &listening, "accept_ra", "2")?;
    }
    set(Family::V6, "all", "forwarding", "1")
}

/// A pod that says it is a router is not believed by its node.
pub fn refuse_routers(link: &str) -> Result<(), SysctlError> {
    const ACCEPT: &str = "accept_ra";
    // The kernel may have no IPv6.
    if !conf(Family::V6, link, ACCEPT).exists() {
        return Ok(());
    }
    set(Family::V6, link, ACCEPT, "0")
}

/// A pod's end, or the node's, before it is set up: IPv6 on, whatever is usual
/// here; no routers to listen to, and no waiting for somebody else with its
/// address, as there is nobody else on the link.
pub fn quiet_ipv6(link: &str) -> Result<(), SysctlError> {
    for (name, value) in [
        ("accept_ra", "0"),
        ("accept_dad", "0"),
        ("disable_ipv6", "0"),
    ] {
        set(Family::V6, link, name, value)?;
    }
    Ok(())
}

/// The kernel makes the link no address of its own.
pub fn without_link_local(link: &str) -> Result<(), SysctlError> {
    const NONE: &str = "1";
    set(Family::V6, link, "addr_gen_mode", NONE)
}

/// A pod's packets come from the one address routed to its link, which the
/// strict check accepts; `all.rp_filter` would win over a looser value here.
pub fn check_source(link: &str) -> Result<(), SysctlError> {
    set(Family::V4, link, "rp_filter", "1")
}

/// What comes in the tunnel comes from other nodes, which vouch for it: clients
/// outside too, who would answer another way, and a service's answers, whose source is
/// this node's address.
pub fn at_tunnel(link: &str, ipv6: bool) -> Result<(), SysctlError> {
    forward_from(link)?;
    if ipv6 {
        forward_ipv6_from(link)?;
    }
    // Loose, which wins over a strict `all.rp_filter`.
    set(Family::V4, link, "rp_filter", "2")?;
    set(Family::V4, link, "accept_local", "1")
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

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

fn conf(family: Family, link: &str, name: &str) -> PathBuf {
    let dir = match family {
        Family::V4 => "/proc/sys/net/ipv4/conf",
        Family::V6 => "/proc/sys/net/ipv6/conf",
    };
    Path::new(dir).join(link).join(name)
}

fn is(family: Family, link: &str, name: &str, value: &str) -> bool {
    let current = fs::read_to_string(conf(family, link, name));
    current.is_ok_and(|current| current.trim() == value)
}

fn set(family: Family, link: &str, name: &str, value: &str) -> Result<(), SysctlError> {
    // A machine may have /proc/sys read-only and the value already right.
    if is(family, link, name, value) {
        return Ok(());
    }
    write(&conf(family, link, name), value)
}

/// Those with IPv6, with what is said of all and of new ones.
fn links() -> impl Iterator<Item = String> {
    let all = fs::read_dir("/proc/sys/net/ipv6/conf")
        .into_iter()
        .flatten();
    all.filter_map(|entry| entry.ok()?.file_name().into_string().ok())
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
