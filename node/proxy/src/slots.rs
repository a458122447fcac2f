//! Which slots are taken: blocks of powers of two, split and joined (buddies).

use std::collections::BTreeSet;

/// A run of slots that belongs to one service-port's generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    pub base: u32,
    order: u32,
}

impl Block {
    /// The block that holds `len` slots from `base` on.
    pub fn of(base: u32, len: usize) -> Self {
        Self {
            base,
            order: order(len),
        }
    }
}

#[derive(Debug)]
pub struct Slots {
    /// Free blocks by order: bases.
    free: Vec<BTreeSet<u32>>,
}

impl Slots {
    /// `size` is a power of two.
    pub fn new(size: u32) -> Self {
        let top = size.ilog2();
        let mut free = vec![BTreeSet::new(); top as usize + 1];
        free[top as usize].insert(0);
        Self { free }
    }

    /// A block with room for `len`, or nothing when none is left.
    pub fn allocate(&mut self, len: usize) -> Option<Block> {
        let order = order(len);
        let from =
            (order..self.free.len() as u32).find(|order| !self.free[*order as usize].is_empty())?;
        let base = self.free[from as usize].pop_first()?;
        for half in (order..from).rev() {
            self.free[half as usize].insert(base + (1 << half));
        }
        Some(Block { base, order })
    }

    /// Takes a certain block, as found in the maps; false if it is not free.
    pub fn reserve(&mut self, block: Block) -> bool {
        let holder = (block.order..self.free.len() as u32).find_map(|order| {
            let base = block.base >> order << order;
            self.free[order as usize]
                .contains(&base)
                .then_some((order, base))
        });
        let Some((from, base)) = holder.filter(|_| block.base.is_multiple_of(1 << block.order))
        else {
            return false;
        };
        self.free[from as usize].remove(&base);
        for half in (block.order..from).rev() {
            // Of the two halves the one without the block stays free.
            self.free[half as usize].insert((block.base >> half << half) ^ (1 << half));
        }
        true
    }

    pub fn release(&mut self, block: Block) {
        let Block {
            mut base,
            mut order,
        } = block;
        while order + 1 < self.free.len() as u32
            && self.free[order as usize].remove(&(base ^ (1 << order)))
        {
            base &= !(1 << order);
            order += 1;
        }
        self.free[order as usize].insert(base);
    }

    /// How many cannot be handed out.
    pub fn taken(&self) -> u32 {
        let free = self.free.iter().enumerate();
        let free: usize = free.map(|(order, bases)| bases.len() << order).sum();
        (1 << (self.free.len() - 1)) - free as u32
    }
}

fn order(len: usize) -> u32 {
    len.max(1).next_power_of_two().ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_do_not_overlap_and_all_room_comes_back() {
        let mut slots = Slots::new(64);
        let lens = [1, 3, 8, 5, 2, 1, 16];
        let blocks: Vec<Block> = lens
            .iter()
            .map(|len| slots.allocate(*len).unwrap())
            .collect();
        let mut taken = BTreeSet::new();
        for (block, len) in blocks.iter().zip(lens) {
            for slot in block.base..block.base + len as u32 {
                assert!(slot < 64 && taken.insert(slot));
            }
        }
        assert_eq!(slots.allocate(64), None);
        assert_eq!(slots.taken(), 1 + 4 + 8 + 8 + 2 + 1 + 16);
        for block in blocks {
            slots.release(block);
        }
        assert_eq!(slots.allocate(64), Some(Block { base: 0, order: 6 }));
        assert_eq!(slots.allocate(1), None);
    }

    #[test]
    fn blocks_found_in_the_maps_are_taken_once() {
        let mut slots = Slots::new(16);
        assert!(slots.reserve(Block::of(4, 3)));
        assert!(!slots.reserve(Block::of(4, 3)));
        assert!(!slots.reserve(Block::of(5, 1)), "inside a taken block");
        assert!(!slots.reserve(Block::of(3, 2)), "never handed out there");
        assert!(!slots.reserve(Block::of(16, 1)), "past the end");
        let rest: Vec<u32> = std::iter::from_fn(|| slots.allocate(1))
            .map(|block| block.base)
            .collect();
        assert_eq!(rest.len(), 12);
        assert!(rest.iter().all(|base| !(4..8).contains(base)));
        for base in rest {
            slots.release(Block::of(base, 1));
        }
        slots.release(Block::of(4, 3));
        assert!(slots.allocate(16).is_some());
    }
}
