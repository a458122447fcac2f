//! The one word that says where a service-port's backends are.

/// `slot_base` (26 bits), `backends` (16 bits), `generation` (22 bits).
///
/// One aligned 8-byte store of it moves every client of a service-port to
/// another block of slots at one instant. The generation tells a reader that
/// was slow whether the block it looks at is still the one it was sent to.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceWord(u64);

const BASE_BITS: u32 = 26;
const COUNT_BITS: u32 = 16;
const GENERATION_BITS: u32 = 22;

const _: () = assert!(BASE_BITS + COUNT_BITS + GENERATION_BITS == u64::BITS);
const _: () = assert!(size_of::<ServiceWord>() == 8);
const _: () = assert!(crate::MAX_SLOTS <= 1 << BASE_BITS);

impl ServiceWord {
    /// The most backends of one service-port.
    pub const MAX_BACKENDS: usize = (1 << COUNT_BITS) - 1;

    pub const fn new(slot_base: u32, backends: u16, generation: u32) -> Self {
        let base = (slot_base & ((1 << BASE_BITS) - 1)) as u64;
        let generation = (generation & ((1 << GENERATION_BITS) - 1)) as u64;
        Self(base | (backends as u64) << BASE_BITS | generation << (BASE_BITS + COUNT_BITS))
    }

    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    #[inline(always)]
    pub const fn bits(self) -> u64 {
        self.0
    }

    #[inline(always)]
    pub const fn slot_base(self) -> u32 {
        (self.0 & ((1 << BASE_BITS) - 1)) as u32
    }

    #[inline(always)]
    pub const fn backends(self) -> u32 {
        ((self.0 >> BASE_BITS) & ((1 << COUNT_BITS) - 1)) as u32
    }

    #[inline(always)]
    pub const fn generation(self) -> u32 {
        (self.0 >> (BASE_BITS + COUNT_BITS)) as u32
    }

    /// The generation after this one; 0 is kept for slots that belong to none.
    pub const fn next_generation(self) -> u32 {
        let next = (self.generation() + 1) & ((1 << GENERATION_BITS) - 1);
        if next == 0 { 1 } else { next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_touch_each_other() {
        for (base, backends, generation) in [
            (0, 0, 0),
            ((1 << 26) - 1, 0, 0),
            (0, u16::MAX, 0),
            (0, 0, (1 << 22) - 1),
            (12345, 678, 90),
        ] {
            let word = ServiceWord::new(base, backends, generation);
            assert_eq!(
                (word.slot_base(), word.backends(), word.generation()),
                (base, backends.into(), generation)
            );
            assert_eq!(ServiceWord::from_bits(word.bits()), word);
        }
    }

    #[test]
    fn the_generation_wraps_past_zero() {
        assert_eq!(ServiceWord::default().next_generation(), 1);
        assert_eq!(ServiceWord::new(0, 0, (1 << 22) - 1).next_generation(), 1);
    }
}
