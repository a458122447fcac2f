//! An address and port: a backend's, or a service's.

use crate::Address;

#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    addr: Address,
    port: [u8; 2],
    pad: [u8; 6],
}

const _: () = assert!(size_of::<Endpoint>() == 24 && align_of::<Endpoint>() == 8);

impl Endpoint {
    /// Its size in words of 8 bytes.
    pub const WORDS: usize = 3;

    #[inline(always)]
    pub const fn new(addr: Address, port: [u8; 2]) -> Self {
        Self {
            addr,
            port,
            pad: [0; 6],
        }
    }

    #[inline(always)]
    pub const fn addr(&self) -> Address {
        self.addr
    }

    #[inline(always)]
    pub const fn port(&self) -> [u8; 2] {
        self.port
    }

    #[inline(always)]
    pub const fn words(self) -> [u64; Self::WORDS] {
        let [high, low] = self.addr.words();
        [high, low, u16::from_ne_bytes(self.port) as u64]
    }

    #[inline(always)]
    pub const fn from_words([high, low, port]: [u64; Self::WORDS]) -> Self {
        Self::new(
            Address::from_words([high, low]),
            (port as u16).to_ne_bytes(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_its_words() {
        let endpoint = Endpoint::new(Address::v4([10, 96, 0, 1]), [0x01, 0xbb]);
        assert_eq!(Endpoint::from_words(endpoint.words()), endpoint);
        assert_eq!(
            endpoint.words()[2].to_ne_bytes(),
            [0x01, 0xbb, 0, 0, 0, 0, 0, 0]
        );
    }
}
