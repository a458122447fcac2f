//! Where a client dials, and which service-port answers there.

/// A transport protocol by its IP number.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp = 6,
    Udp = 17,
}

/// An IP protocol number without service programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownProtocol(pub u8);

impl TryFrom<u8> for Protocol {
    type Error = UnknownProtocol;

    fn try_from(number: u8) -> Result<Self, UnknownProtocol> {
        match number {
            6 => Ok(Self::Tcp),
            17 => Ok(Self::Udp),
            other => Err(UnknownProtocol(other)),
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrontendKey {
    addr: [u8; 4],
    port: [u8; 2],
    protocol: u8,
    pad: u8,
}

const _: () = assert!(size_of::<FrontendKey>() == 8);

impl FrontendKey {
    #[inline(always)]
    pub const fn new(addr: [u8; 4], port: [u8; 2], protocol: u8) -> Self {
        Self {
            addr,
            port,
            protocol,
            pad: 0,
        }
    }

    /// As the map has it.
    pub const fn bytes(self) -> [u8; 8] {
        let ([a, b, c, d], [e, f]) = (self.addr, self.port);
        [a, b, c, d, e, f, self.protocol, self.pad]
    }

    pub const fn from_bytes([a, b, c, d, e, f, protocol, pad]: [u8; 8]) -> Self {
        Self {
            addr: [a, b, c, d],
            port: [e, f],
            protocol,
            pad,
        }
    }

    #[inline(always)]
    pub const fn addr(&self) -> [u8; 4] {
        self.addr
    }

    #[inline(always)]
    pub const fn port(&self) -> [u8; 2] {
        self.port
    }

    #[inline(always)]
    pub const fn protocol(&self) -> u8 {
        self.protocol
    }
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frontend {
    service: u32,
}

const _: () = assert!(size_of::<Frontend>() == 4);

impl Frontend {
    #[inline(always)]
    pub const fn new(service: u32) -> Self {
        Self { service }
    }

    /// Index into the services.
    #[inline(always)]
    pub const fn service(&self) -> u32 {
        self.service
    }
}
