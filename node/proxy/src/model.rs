//! What is dialled and what answers, as the daemon thinks of it.

use std::{collections::BTreeSet, fmt, net::Ipv4Addr};

use vetch_ebpf_common::{Endpoint, FrontendKey, Protocol, UnknownProtocol};

/// An address, port and protocol that clients dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    pub addr: Ipv4Addr,
    pub port: u16,
    pub protocol: Protocol,
}

/// An address and port that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    pub addr: Ipv4Addr,
    pub port: u16,
}

/// One port of one service: all its frontends lead to the same backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    pub frontends: BTreeSet<Frontend>,
    /// Sorted and without duplicates; empty refuses every call.
    pub backends: Vec<Backend>,
}

impl Frontend {
    pub fn key(self) -> FrontendKey {
        FrontendKey::new(
            self.addr.octets(),
            self.port.to_be_bytes(),
            self.protocol as u8,
        )
    }
}

impl TryFrom<FrontendKey> for Frontend {
    type Error = UnknownProtocol;

    fn try_from(key: FrontendKey) -> Result<Self, UnknownProtocol> {
        Ok(Self {
            addr: key.addr().into(),
            port: u16::from_be_bytes(key.port()),
            protocol: Protocol::try_from(key.protocol())?,
        })
    }
}

impl From<Backend> for Endpoint {
    fn from(backend: Backend) -> Self {
        Self::new(backend.addr.octets(), backend.port.to_be_bytes())
    }
}

impl From<Endpoint> for Backend {
    fn from(endpoint: Endpoint) -> Self {
        Self {
            addr: endpoint.addr().into(),
            port: u16::from_be_bytes(endpoint.port()),
        }
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
        };
        write!(f, "{}:{}/{protocol}", self.addr, self.port)
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.addr, self.port)
    }
}
