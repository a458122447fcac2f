//! Words that the daemon, the programs and whoever looks leave each other, in the
//! map `NOTES`.

use crate::Address;

/// Indices of the words.
pub mod word {
    /// Until when beginnings are told of, `CLOCK_MONOTONIC` in nanoseconds. Whoever
    /// follows moves it on, so that one who was killed is not told for long.
    pub const FOLLOWED_UNTIL: u32 = 0;
    /// How the programs were loaded: [`Settings`](super::Settings).
    pub const SETTINGS: u32 = 1;
    /// The node's address of either family, two words each; zero where it has none.
    pub const NODE_V4: u32 = 2;
    pub const NODE_V6: u32 = 4;
    pub const COUNT: u32 = 6;
}

/// For how long a follower is told of what begins, in nanoseconds.
pub const LEASE: u64 = 3_000_000_000;

/// What the programs have as constants, for those who read maps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// What pods send out of the cluster goes with the node's address.
    pub masquerade: bool,
    /// Backends on other nodes answer clients outside themselves.
    pub direct_return: bool,
    /// The ifindex of the node's uplink, if every other node is behind it; else 0.
    pub link: u32,
}

impl Settings {
    const KNOWN: u64 = 1 << 32;
    const MASQUERADE: u64 = 1 << 33;
    const DIRECT_RETURN: u64 = 1 << 34;

    pub const fn bits(self) -> u64 {
        let mut bits = Self::KNOWN | self.link as u64;
        if self.masquerade {
            bits |= Self::MASQUERADE;
        }
        if self.direct_return {
            bits |= Self::DIRECT_RETURN;
        }
        bits
    }

    /// None where no daemon has written them.
    pub const fn from_bits(bits: u64) -> Option<Self> {
        if bits & Self::KNOWN == 0 {
            return None;
        }
        Some(Self {
            masquerade: bits & Self::MASQUERADE != 0,
            direct_return: bits & Self::DIRECT_RETURN != 0,
            link: bits as u32,
        })
    }
}

/// An address's words, and back: zeros are none.
pub const fn to_words(address: Option<Address>) -> [u64; 2] {
    match address {
        Some(address) => address.words(),
        None => [0; 2],
    }
}

pub const fn from_words(words: [u64; 2]) -> Option<Address> {
    match words {
        [0, 0] => None,
        words => Some(Address::from_words(words)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_their_bits() {
        assert_eq!(Settings::from_bits(0), None);
        for masquerade in [false, true] {
            for direct_return in [false, true] {
                for link in [0, 7, u32::MAX] {
                    let settings = Settings {
                        masquerade,
                        direct_return,
                        link,
                    };
                    assert_eq!(Settings::from_bits(settings.bits()), Some(settings));
                }
            }
        }
        let address = Some(Address::v4([192, 0, 2, 1]));
        assert_eq!(from_words(to_words(address)), address);
        assert_eq!(from_words(to_words(None)), None);
    }
}
