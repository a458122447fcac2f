//! The way back: which service address a socket's backend stands for.

/// An address and port.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Endpoint {
    addr: [u8; 4],
    port: [u8; 2],
    pad: [u8; 2],
}

const _: () = assert!(size_of::<Endpoint>() == 8);

impl Endpoint {
    #[inline(always)]
    pub const fn new(addr: [u8; 4], port: [u8; 2]) -> Self {
        Self {
            addr,
            port,
            pad: [0; 2],
        }
    }

    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Self {
        let [a, b, c, d, e, f, _, _] = bits.to_ne_bytes();
        Self::new([a, b, c, d], [e, f])
    }

    #[inline(always)]
    pub const fn bits(self) -> u64 {
        let ([a, b, c, d], [e, f]) = (self.addr, self.port);
        u64::from_ne_bytes([a, b, c, d, e, f, 0, 0])
    }

    #[inline(always)]
    pub const fn addr(&self) -> [u8; 4] {
        self.addr
    }

    #[inline(always)]
    pub const fn port(&self) -> [u8; 2] {
        self.port
    }
}

/// A socket and the backend it talks to; the value is the service's
/// [`Endpoint`]. Socket cookies are unique on the whole machine.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReverseKey {
    cookie: u64,
    backend: Endpoint,
    protocol: u32,
    pad: u32,
}

const _: () = assert!(size_of::<ReverseKey>() == 24);

impl ReverseKey {
    #[inline(always)]
    pub const fn new(cookie: u64, backend: Endpoint, protocol: u8) -> Self {
        Self {
            cookie,
            backend,
            protocol: protocol as u32,
            pad: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_its_bytes() {
        let endpoint = Endpoint::new([10, 96, 0, 1], [0x01, 0xbb]);
        assert_eq!(
            endpoint.bits().to_ne_bytes(),
            [10, 96, 0, 1, 0x01, 0xbb, 0, 0]
        );
        assert_eq!(Endpoint::from_bits(endpoint.bits()), endpoint);
    }
}
