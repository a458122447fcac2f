//! The few switches of the node's own links. /proc/sys/net shows the
//! namespace of the thread that reads it, so this runs on a thread inside.

use std::{fs, io, path::PathBuf};

#[derive(Debug, thiserror::Error)]
#[error("cannot write {value} to {path}")]
pub struct SysctlError {
    path: PathBuf,
    value: &'static str,
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

fn set(link: &str, name: &str, value: &'static str) -> Result<(), SysctlError> {
    let path = PathBuf::from("/proc/sys/net/ipv4/conf")
        .join(link)
        .join(name);
    // A machine may have /proc/sys read-only and the value already right.
    if fs::read_to_string(&path).is_ok_and(|current| current.trim() == value) {
        return Ok(());
    }
    fs::write(&path, value).map_err(|source| SysctlError {
        path,
        value,
        source,
    })
}
