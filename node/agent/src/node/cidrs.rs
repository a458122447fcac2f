//! The node's pod CIDRs on its disk: a daemon that comes back before its API server gives addresses.

use std::fs;
use std::path::Path;

use ipnet::IpNet;
use tracing::{info, warn};
use vetch_network::Network;

use super::chain;

/// Below the node's root directory: a CIDR a line.
const FILE: &str = "pod-cidrs";

/// One that cannot be written is asked for again.
pub fn keep(root: &Path, cidrs: &[IpNet]) {
    if read(root) == cidrs {
        return;
    }
    let path = root.join(FILE);
    let lines: String = cidrs.iter().map(|cidr| format!("{cidr}\n")).collect();
    let half = path.with_extension("new");
    let written = fs::write(&half, lines).and_then(|()| fs::rename(&half, &path));
    if let Err(error) = written {
        warn!(path = %path.display(), "the node's pod CIDRs are not kept: {error}");
    }
}

/// Whether the network has those of an earlier daemon now.
pub async fn recall(root: &Path, network: &Network) -> bool {
    let cidrs = read(root);
    if cidrs.is_empty() {
        return false;
    }
    match network.set_pod_cidrs(&cidrs).await {
        Ok(()) => {
            info!(?cidrs, "pod network ready, as the last daemon had it");
            true
        }
        Err(error) => {
            warn!(?cidrs, "the last daemon's pod CIDRs: {}", chain(&error));
            false
        }
    }
}

/// None where a line is none.
fn read(root: &Path) -> Vec<IpNet> {
    let text = fs::read_to_string(root.join(FILE)).unwrap_or_default();
    let cidrs: Result<Vec<IpNet>, _> = text.lines().map(str::parse).collect();
    cidrs.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let cidrs = |list: &[&str]| -> Vec<IpNet> {
            list.iter().map(|cidr| cidr.parse().unwrap()).collect()
        };
        assert_eq!(read(root.path()), []);
        for list in [&["10.1.0.0/24"][..], &["10.2.0.0/24", "fd00::/64"]] {
            keep(root.path(), &cidrs(list));
            assert_eq!(read(root.path()), cidrs(list));
        }
        fs::write(root.path().join(FILE), "10.1.0.0/24\nhalf").unwrap();
        assert_eq!(read(root.path()), []);
    }
}
