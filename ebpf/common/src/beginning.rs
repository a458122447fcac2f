//! What the programs tell of conversations as these begin, while somebody
//! follows, through the ring buffer `BEGINNINGS`.

use crate::{Address, Endpoint, Event, Tuple};

/// One record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// Of the first packet as it came, or of the call.
    pub event: Event,
    /// What the packets are from then on: from whom the other end sees them come,
    /// and the backend.
    pub to: Tuple,
    /// Of the source, and of whom `to` is for, by `IDENTITIES`; 0 is nobody's.
    pub identities: [u32; 2],
}

const _: () = assert!(size_of::<Beginning>() == 112);

impl Beginning {
    /// In words of 8 bytes, as they stand in the buffer.
    pub const WORDS: usize = size_of::<Self>() / 8;

    /// As it is read from the buffer.
    pub fn from_words(words: [u64; Self::WORDS]) -> Self {
        let (event, rest) = words.split_at(Event::WORDS);
        let mut own = [0; Event::WORDS];
        own.copy_from_slice(event);
        let mut others = [0; Self::WORDS - Event::WORDS];
        others.copy_from_slice(rest);
        let [a, b, c, d, ends, identities] = others;
        let [s0, s1, d0, d1, protocol, _, _, _] = ends.to_ne_bytes();
        let [i0, i1, i2, i3, j0, j1, j2, j3] = identities.to_ne_bytes();
        let end = |high, low, port| Endpoint::new(Address::from_words([high, low]), port);
        Self {
            event: Event::from_words(own),
            to: Tuple::new(end(a, b, [s0, s1]), end(c, d, [d0, d1]), protocol),
            identities: [
                u32::from_ne_bytes([i0, i1, i2, i3]),
                u32::from_ne_bytes([j0, j1, j2, j3]),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventKind, Site};

    #[test]
    fn a_beginning_is_its_words() {
        let client = Endpoint::new(Address::v4([10, 0, 0, 1]), [1, 2]);
        let backend = Endpoint::new(Address::v6_bits([1, 2, 3, 4]), [3, 4]);
        let beginning = Beginning {
            event: Event {
                service: 9,
                ..Event::begun(EventKind::Allow, Site::FromPod, 5)
            },
            to: Tuple::new(client, backend, 17),
            identities: [7, 8],
        };
        let event = beginning.event;
        let ([a, b], [c, d]) = (event.src.words(), event.dst.words());
        let numbers = u64::from_ne_bytes([0, 0, 0, 0, 9, 0, 0, 0]);
        let rest = u64::from_ne_bytes([0, 0, 0, 0, 5, 255, 2, 0]);
        let ([e, f], [g, h]) = (client.addr().words(), backend.addr().words());
        let ends = u64::from_ne_bytes([1, 2, 3, 4, 17, 0, 0, 0]);
        let identities = u64::from_ne_bytes([7, 0, 0, 0, 8, 0, 0, 0]);
        let words = [
            5, a, b, c, d, 0, numbers, rest, e, f, g, h, ends, identities,
        ];
        assert_eq!(Beginning::from_words(words), beginning);
        assert_eq!(event.reason(), None);
    }
}
