//! Ranges of ports as prefixes.

/// The fewest ranges that are a power of two in size and begin at a multiple of
/// it: their first port, and how many of its 16 bits are fixed. 30 at most.
pub fn prefixes(first: u16, last: u16) -> impl Iterator<Item = (u16, u8)> {
    let (mut next, end) = (u32::from(first), u32::from(last) + 1);
    std::iter::from_fn(move || {
        if next >= end {
            return None;
        }
        let aligned = next.trailing_zeros().min(16);
        let fits = (end - next).ilog2();
        let bits = aligned.min(fits);
        let prefix = (next as u16, 16 - bits as u8);
        next += 1 << bits;
        Some(prefix)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covered(first: u16, last: u16) -> Vec<u32> {
        prefixes(first, last)
            .flat_map(|(port, length)| {
                let size = 1 << (16 - u32::from(length));
                u32::from(port)..u32::from(port) + size
            })
            .collect()
    }

    #[test]
    fn a_range_is_covered_once() {
        for (first, last, count) in [
            (80, 80, 1),
            (0, 65_535, 1),
            (1, 65_535, 16),
            (1, 65_534, 30),
            (8080, 8095, 1),
            (8080, 8090, 3),
            (30_000, 32_767, 5),
            (65_535, 65_535, 1),
        ] {
            let all: Vec<u32> = (u32::from(first)..=u32::from(last)).collect();
            assert_eq!(covered(first, last), all, "{first}-{last}");
            assert_eq!(prefixes(first, last).count(), count, "{first}-{last}");
        }
        assert_eq!(prefixes(2, 1).count(), 0);
    }
}
