//! What the programs tell of conversations as these begin.

use aya::maps::Array;
use vetch_ebpf_common::{Beginning, maps, notes};

use super::Lab;

impl Lab {
    /// Somebody looks until then, in nanoseconds of `CLOCK_MONOTONIC`; 0 for nobody.
    pub fn followed_until(&mut self, until: u64) {
        let mut notes: Array<_, u64> =
            Array::try_from(self.ebpf.map_mut(maps::NOTES).unwrap()).unwrap();
        notes.set(notes::word::FOLLOWED_UNTIL, until, 0).unwrap();
    }

    /// For the whole test.
    pub fn followed(&mut self) {
        self.followed_until(u64::MAX);
    }

    /// What was told since the last call, and how much was not.
    pub fn beginnings(&mut self) -> (Vec<Beginning>, u64) {
        self.told(
            maps::BEGINNINGS,
            maps::BEGINNINGS_MISSED,
            Beginning::from_words,
        )
    }
}
