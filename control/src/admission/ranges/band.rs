//! How much of a range is left to explicit requests (KEP-3070, KEP-3668).

/// A sixteenth, at least 16 and at most 256; none in a range of at most 16.
pub fn addresses(size: u64) -> u64 {
    band(size, 16, 256, 16)
}

/// A thirty-second, at least 16 and at most 128; none in a range of at most 16.
pub fn ports(size: u64) -> u64 {
    band(size, 16, 128, 32)
}

fn band(size: u64, min: u64, max: u64, step: u64) -> u64 {
    match size <= min {
        true => 0,
        false => (size / step).clamp(min, max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_static_band_grows_with_the_range_to_a_limit() {
        for (size, band) in [
            (8, 0),
            (16, 0),
            (32, 16),
            (256, 16),
            (1024, 64),
            (4096, 256),
            (65536, 256),
        ] {
            assert_eq!(addresses(size), band, "{size}");
        }
        for (size, band) in [(16, 0), (100, 16), (2768, 86), (65535, 128)] {
            assert_eq!(ports(size), band, "{size}");
        }
    }
}
