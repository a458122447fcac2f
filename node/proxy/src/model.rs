//! What is dialled and what answers, as the daemon thinks of it.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use ipnet::IpNet;
use vetch_ebpf_common::{self as common, Endpoint, FrontendKey, Protocol, UnknownProtocol};

/// An address, port and protocol that clients dial. A NodePort has the
/// unspecified address of its family, which stands for all of the node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    pub addr: IpAddr,
    pub port: u16,
    pub protocol: Protocol,
}

/// The terms on which a frontend is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Exposure {
    /// The external traffic policy holds here: NodePorts, external IPs, load
    /// balancers' addresses.
    pub external: bool,
    /// Only clients in the source ranges: load balancers' addresses.
    pub source_ranges: bool,
}

/// An address and port that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    pub addr: IpAddr,
    pub port: u16,
}

/// How a backend is chosen for a new client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Balance {
    #[default]
    Random,
    /// By the client's address and port over a Maglev table: the lists then
    /// are tables, in which a backend stands many times.
    Maglev,
    /// Of two that chance chooses, the one that has fewer live connections with
    /// this node.
    Least,
}

impl Balance {
    /// As the annotation says it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Maglev => "maglev",
            Self::Least => "least",
        }
    }
}

/// What a service-port's frontends lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    pub internal_local: bool,
    pub external_local: bool,
    /// `sessionAffinity: ClientIP`, with its timeout in seconds.
    pub affinity: Option<u32>,
    pub balance: Balance,
    /// For clients that may be sent to any node; empty refuses every call.
    pub cluster: Vec<Backend>,
    /// On this node, for policy Local; empty beside a `cluster` that is not
    /// drops what policy Local would send here.
    pub local: Vec<Backend>,
    /// Every endpoint that serves, draining ones too, sorted: who may keep the
    /// clients it has. Empty where nobody asks: see [`Target::tracks`].
    pub serving: Vec<Backend>,
    /// Sorted; looked at for frontends with [`Exposure::source_ranges`].
    pub source_ranges: Vec<IpNet>,
}

/// One port of one service: all its frontends lead to the same target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicePort {
    pub frontends: BTreeMap<Frontend, Exposure>,
    pub target: Target,
}

impl Target {
    /// Whether `serving` is asked for: affinity must not lead to a backend
    /// that left, a UDP flow leaves a backend that is gone, and the live
    /// connections of a backend are counted for as long as it has any.
    pub fn tracks(protocol: Protocol, affinity: Option<u32>, balance: Balance) -> bool {
        protocol == Protocol::Udp || affinity.is_some() || balance == Balance::Least
    }
}

impl Frontend {
    pub fn key(self) -> FrontendKey {
        FrontendKey::new(
            Endpoint::new(self.addr.into(), self.port.to_be_bytes()),
            self.protocol as u8,
        )
    }
}

impl TryFrom<FrontendKey> for Frontend {
    type Error = UnknownProtocol;

    fn try_from(key: FrontendKey) -> Result<Self, UnknownProtocol> {
        let to = key.endpoint();
        Ok(Self {
            addr: to.addr().into(),
            port: u16::from_be_bytes(to.port()),
            protocol: Protocol::try_from(key.protocol())?,
        })
    }
}

impl Exposure {
    pub const CLUSTER: Self = Self {
        external: false,
        source_ranges: false,
    };
    pub const EXTERNAL: Self = Self {
        external: true,
        source_ranges: false,
    };

    pub fn flags(self) -> u32 {
        let flag = |set, flag| if set { flag } else { 0 };
        flag(self.external, common::Frontend::EXTERNAL)
            | flag(self.source_ranges, common::Frontend::SOURCE_RANGES)
    }

    pub fn of(frontend: &common::Frontend) -> Self {
        Self {
            external: frontend.has(common::Frontend::EXTERNAL),
            source_ranges: frontend.has(common::Frontend::SOURCE_RANGES),
        }
    }
}

impl From<Backend> for Endpoint {
    fn from(backend: Backend) -> Self {
        Self::new(backend.addr.into(), backend.port.to_be_bytes())
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

/// As Kubernetes writes it.
pub fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    }
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let socket = SocketAddr::new(self.addr, self.port);
        write!(f, "{socket}/{}", protocol_name(self.protocol))
    }
}

/// What is not `ADDRESS:PORT/PROTOCOL`.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not ADDRESS:PORT/PROTOCOL, such as 10.96.0.1:443/TCP or [fd00::1]:53/UDP")]
pub struct FrontendError(String);

impl FromStr for Frontend {
    type Err = FrontendError;

    fn from_str(text: &str) -> Result<Self, FrontendError> {
        let error = || FrontendError(text.to_owned());
        let (socket, protocol) = text.split_once('/').ok_or_else(error)?;
        let socket: SocketAddr = socket.parse().map_err(|_| error())?;
        let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
            .into_iter()
            .find(|known| protocol_name(*known).eq_ignore_ascii_case(protocol))
            .ok_or_else(error)?;
        Ok(Self {
            addr: socket.ip(),
            port: socket.port(),
            protocol,
        })
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::new(self.addr, self.port).fmt(f)
    }
}
