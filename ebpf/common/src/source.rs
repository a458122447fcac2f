//! As whom pods are seen outside the cluster.

use crate::Address;

/// An uplink's addresses, by its ifindex in the map `SOURCES`; `::` where it has
/// none of the family.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sources {
    v4: Address,
    v6: Address,
}

const _: () = assert!(size_of::<Sources>() == 32);

impl Sources {
    pub const NONE: Self = Self {
        v4: Address::ANY_V6,
        v6: Address::ANY_V6,
    };

    /// With an address of its family.
    pub const fn with(self, address: Address) -> Self {
        if address.is_v4() {
            Self {
                v4: address,
                ..self
            }
        } else {
            Self {
                v6: address,
                ..self
            }
        }
    }

    /// None where there is none.
    #[inline(always)]
    pub fn of(&self, v4: bool) -> Option<Address> {
        let address = if v4 { self.v4 } else { self.v6 };
        (address != Address::ANY_V6).then_some(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_each_family() {
        let v4 = Address::v4([192, 0, 2, 1]);
        let v6 = Address::v6_bits([1, 2, 3, 4]);
        for (sources, seen) in [
            (Sources::NONE, [None, None]),
            (Sources::NONE.with(v4), [Some(v4), None]),
            (Sources::NONE.with(v6), [None, Some(v6)]),
            (Sources::NONE.with(v6).with(v4), [Some(v4), Some(v6)]),
        ] {
            assert_eq!([sources.of(true), sources.of(false)], seen);
        }
    }
}
