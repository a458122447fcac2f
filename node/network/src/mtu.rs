//! How long pods' packets are: as long as the uplink takes them, also when that
//! changes.
//!
//! What is longer than one of a pod's ways, as the tunnel is to some nodes, its own
//! node tells it (path MTU discovery). A link that is shorter than others send, or
//! a pod that believes in a longer one, is told of by nobody: past the stack there
//! is no router.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use tracing::info;

use crate::{
    Error,
    link::{self, Link, Pair},
    netns::{Netlink, Netns},
    way::{VxlanMode, overhead},
};

#[derive(Debug)]
pub struct PodMtu {
    /// Whoever asked for it.
    fixed: bool,
    now: AtomicU32,
    /// Of the sandboxes that are attached, with the link's name there.
    netns: Mutex<BTreeMap<String, (PathBuf, String)>>,
}

/// Where all other pods are in the tunnel, packets for it need not be told.
pub fn of(uplink: u32, mode: VxlanMode, node: IpAddr) -> u32 {
    /// Loopback's 64 KiB are no measure for a pod's link.
    const MOST: u32 = 9000;
    let before = match mode {
        VxlanMode::Always => overhead(node),
        VxlanMode::CrossSubnet | VxlanMode::Never => 0,
    };
    uplink.min(MOST).saturating_sub(before)
}

impl PodMtu {
    pub fn new(asked: Option<u32>, found: u32) -> Self {
        Self {
            fixed: asked.is_some(),
            now: AtomicU32::new(asked.unwrap_or(found)),
            netns: Mutex::default(),
        }
    }

    pub fn get(&self) -> u32 {
        self.now.load(Relaxed)
    }

    pub fn attached(&self, sandbox_id: &str, netns: PathBuf, ifname: String) {
        let mut all = self.netns.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(sandbox_id.to_owned(), (netns, ifname));
    }

    pub fn detached(&self, sandbox_id: &str) {
        let mut all = self.netns.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(sandbox_id);
    }

    /// Gives both sides of each pair among `links` the length that the uplink has now.
    pub async fn follow(&self, found: u32, links: &[Link], node: &Netlink) -> Result<(), Error> {
        if !self.fixed && self.now.swap(found, Relaxed) != found {
            info!(
                mtu = found,
                "the uplink's MTU has changed: pods' links follow"
            );
        }
        let mtu = self.get();
        let pods = self
            .netns
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for (sandbox_id, (netns, ifname)) in pods {
            let name = Pair::of(&sandbox_id).host_name;
            let Some(host) = links.iter().find(|link| link.name == name) else {
                continue;
            };
            if host.mtu == mtu {
                continue;
            }
            // The host's side last: it says whether the other is done.
            // One of another runtime's may be where nobody finds it any more.
            let Ok(open) = Netns::open(&netns) else {
                continue;
            };
            let pod = open.netlink()?;
            if let Some(link) = link::by_name(&pod, &ifname).await? {
                link::set_up(&pod, link.index, Some(mtu)).await?;
            }
            link::set_up(node, host.index, Some(mtu)).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use VxlanMode::{Always, CrossSubnet, Never};

    #[test]
    fn pods_have_what_the_uplink_takes() {
        let (v4, v6) = ("10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap());
        for (uplink, mode, node, expected) in [
            (1500, CrossSubnet, v4, 1500),
            (1500, Never, v6, 1500),
            (1500, Always, v4, 1450),
            (1500, Always, v6, 1430),
            (65_536, CrossSubnet, v4, 9000),
            (65_536, Always, v4, 8950),
        ] {
            assert_eq!(of(uplink, mode, node), expected, "{uplink} {mode:?} {node}");
        }
    }

    #[test]
    fn what_was_asked_for_stays() {
        assert_eq!(PodMtu::new(Some(1400), 1500).get(), 1400);
        assert_eq!(PodMtu::new(None, 1500).get(), 1500);
    }
}
