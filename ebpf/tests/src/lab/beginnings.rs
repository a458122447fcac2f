//! What the programs tell of conversations as these begin.

use aya::maps::{Array, PerCpuArray, RingBuf};
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
        let mut told = Vec::new();
        {
            let ring = self.ebpf.map_mut(maps::BEGINNINGS).unwrap();
            let mut ring = RingBuf::try_from(ring).unwrap();
            while let Some(record) = ring.next() {
                let words: Vec<u64> = record
                    .chunks_exact(8)
                    .map(|word| u64::from_ne_bytes(word.try_into().unwrap()))
                    .collect();
                told.push(Beginning::from_words(words.try_into().unwrap()));
            }
        }
        let missed: PerCpuArray<_, u64> =
            PerCpuArray::try_from(self.ebpf.map(maps::BEGINNINGS_MISSED).unwrap()).unwrap();
        (told, missed.get(&0, 0).unwrap().iter().sum())
    }
}
