//! How long connections took to be established.

/// Of one service-port on one processor: a histogram whose bounds are powers of
/// two in microseconds.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Of all together.
    pub nanoseconds: u64,
    /// How many took at most 2^index microseconds and more than half of that;
    /// the last, how many took longer.
    pub counts: [u64; Latency::BUCKETS],
}

const _: () = assert!(size_of::<Latency>() == 8 + 8 * Latency::BUCKETS);

impl Latency {
    /// Up to 67 s, which is more than Linux lets the sixth try of a first
    /// packet wait.
    pub const BUCKETS: usize = 28;

    pub const NONE: Self = Self {
        nanoseconds: 0,
        counts: [0; Self::BUCKETS],
    };

    #[inline(always)]
    pub const fn bucket(nanoseconds: u64) -> usize {
        let microseconds = nanoseconds.div_ceil(1_000);
        let index = u64::BITS - microseconds.saturating_sub(1).leading_zeros();
        if index as usize >= Self::BUCKETS {
            return Self::BUCKETS - 1;
        }
        index as usize
    }

    /// The most that one in the bucket took, in nanoseconds; none for the last.
    pub const fn bound(bucket: usize) -> Option<u64> {
        if bucket + 1 >= Self::BUCKETS {
            return None;
        }
        Some(1_000 << bucket)
    }

    #[inline(always)]
    pub fn add(&mut self, nanoseconds: u64) {
        self.nanoseconds += nanoseconds;
        if let Some(count) = self.counts.get_mut(Self::bucket(nanoseconds)) {
            *count += 1;
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.nanoseconds += other.nanoseconds;
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self::NONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_belong_to_their_buckets() {
        for (nanoseconds, bucket) in [
            (0, 0),
            (1, 0),
            (1_000, 0),
            (1_001, 1),
            (2_000, 1),
            (2_001, 2),
            (4_000, 2),
            (1_000_000, 10),
            (1_024_000, 10),
            (1_024_001, 11),
            (u64::MAX, Latency::BUCKETS - 1),
        ] {
            assert_eq!(Latency::bucket(nanoseconds), bucket, "{nanoseconds}");
        }
        for bucket in 0..Latency::BUCKETS - 1 {
            let bound = Latency::bound(bucket).unwrap();
            assert_eq!(Latency::bucket(bound), bucket);
            assert_eq!(Latency::bucket(bound + 1), bucket + 1);
        }
        assert_eq!(Latency::bound(Latency::BUCKETS - 1), None);
    }

    #[test]
    fn what_is_added_is_in_one_bucket_and_in_the_sum() {
        let mut latency = Latency::NONE;
        latency.add(3_000);
        latency.add(3_500);
        latency.add(u64::MAX / 4);
        let mut all = latency;
        all.merge(&latency);
        assert_eq!(all.counts.iter().sum::<u64>(), 6);
        assert_eq!((all.counts[2], all.counts[Latency::BUCKETS - 1]), (4, 2));
        assert_eq!(all.nanoseconds, 2 * (6_500 + u64::MAX / 4));
    }
}
