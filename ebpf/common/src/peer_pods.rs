//! By which way pods of another node are reached.

/// Of a range of addresses in the map `PEER_PODS`: what the node's routes say of it,
/// as the daemon has read them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerPods {
    /// The ifindex of the link that they are behind; 0 where nobody has said it.
    pub link: u32,
    flags: u32,
}

const _: () = assert!(size_of::<PeerPods>() == 8);

impl PeerPods {
    const IN_TUNNEL: u32 = 1;

    /// On an uplink, as they are.
    pub const fn direct(link: u32) -> Self {
        Self { link, flags: 0 }
    }

    /// In VXLAN, by the device `link`.
    pub const fn in_tunnel(link: u32) -> Self {
        Self {
            link,
            flags: Self::IN_TUNNEL,
        }
    }

    #[inline(always)]
    pub const fn are_in_tunnel(&self) -> bool {
        self.flags & Self::IN_TUNNEL != 0
    }
}
