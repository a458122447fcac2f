//! One backend of one service-port.

use crate::Endpoint;

/// A backend and, in the tag, the service-port and generation it was written
/// for. Reader and writer treat the 8-byte words as words of their own: the
/// writer clears the tag, writes the endpoint, then writes the tag; a reader
/// takes the endpoint, then believes it only if the tag is the one its
/// [`ServiceWord`](crate::ServiceWord) asks for.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    endpoint: Endpoint,
    tag: u64,
}

const _: () = assert!(size_of::<Slot>() == 32);

impl Slot {
    /// In words of 8 bytes.
    pub const WORDS: usize = size_of::<Self>() / 8;
    /// Offset of the tag in words.
    pub const TAG_WORD: usize = core::mem::offset_of!(Slot, tag) / 8;

    #[inline(always)]
    pub const fn tag(service: u32, generation: u32) -> u64 {
        (service as u64) << 32 | generation as u64
    }
}
