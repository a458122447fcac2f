//! Where a client dials, and which service-port answers there.

use crate::{Address, Endpoint};

/// A transport protocol by its IP number.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp = 6,
    Udp = 17,
    Sctp = 132,
}

/// An IP protocol number without service programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownProtocol(pub u8);

impl TryFrom<u8> for Protocol {
    type Error = UnknownProtocol;

    #[inline(always)]
    fn try_from(number: u8) -> Result<Self, UnknownProtocol> {
        match number {
            6 => Ok(Self::Tcp),
            17 => Ok(Self::Udp),
            132 => Ok(Self::Sctp),
            other => Err(UnknownProtocol(other)),
        }
    }
}

impl Protocol {
    /// By the API's word for it, which is TCP where nothing is said. None: nobody here speaks it.
    pub fn named(word: Option<&str>) -> Option<Self> {
        match word {
            None | Some("TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }
}

/// What is dialled. A NodePort is dialled at [`Address::any`], which stands
/// for every address of the node.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrontendKey {
    addr: Address,
    port: [u8; 2],
    protocol: u8,
    pad: [u8; 5],
}

const _: () = assert!(size_of::<FrontendKey>() == 24);

impl FrontendKey {
    #[inline(always)]
    pub const fn new(to: Endpoint, protocol: u8) -> Self {
        Self {
            addr: to.addr(),
            port: to.port(),
            protocol,
            pad: [0; 5],
        }
    }

    #[inline(always)]
    pub const fn endpoint(&self) -> Endpoint {
        Endpoint::new(self.addr, self.port)
    }

    #[inline(always)]
    pub const fn protocol(&self) -> u8 {
        self.protocol
    }
}

/// Which service-port answers, and on which terms.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frontend {
    service: u32,
    flags: u32,
}

const _: () = assert!(size_of::<Frontend>() == 8);

impl Frontend {
    /// A NodePort, an external IP or a load balancer's address: the external
    /// traffic policy holds for clients from outside.
    pub const EXTERNAL: u32 = 1;
    /// Only clients in the service's source ranges get through.
    pub const SOURCE_RANGES: u32 = 2;

    #[inline(always)]
    pub const fn new(service: u32, flags: u32) -> Self {
        Self { service, flags }
    }

    /// Index into the services.
    #[inline(always)]
    pub const fn service(&self) -> u32 {
        self.service
    }

    #[inline(always)]
    pub const fn flags(&self) -> u32 {
        self.flags
    }

    #[inline(always)]
    pub const fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}

/// What an address is, whatever the port: flags, the values of the map
/// `ADDRESSES`.
pub mod addresses {
    /// One of the node's own: NodePorts answer at it.
    pub const NODE: u32 = 1;
    /// Of a service: a port without frontend is refused there.
    pub const SERVICE: u32 = 2;
    /// A load balancer's that this node announces: it answers ARP and
    /// neighbour solicitations for it.
    pub const ANNOUNCED: u32 = 4;
    /// Of another node: what comes from it in a tunnel is for pods of this one.
    pub const PEER: u32 = 8;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_by_the_apis_words() {
        for (word, protocol) in [
            (None, Some(Protocol::Tcp)),
            (Some("TCP"), Some(Protocol::Tcp)),
            (Some("UDP"), Some(Protocol::Udp)),
            (Some("SCTP"), Some(Protocol::Sctp)),
            // The API's words have one way to be written.
            (Some("tcp"), None),
            (Some("ICMP"), None),
            (Some(""), None),
        ] {
            assert_eq!(Protocol::named(word), protocol, "{word:?}");
        }
    }
}
