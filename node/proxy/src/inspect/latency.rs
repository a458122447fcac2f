//! What a histogram of the programs' says. Pure.

use serde::Serialize;
use vetch_ebpf_common::Latency;

/// How long connections to backends took to be established, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectLatency {
    /// That were, of those balanced at the socket.
    pub connections: u64,
    pub mean_microseconds: u64,
    /// As far as a histogram with bounds of powers of two can tell.
    pub p50_microseconds: u64,
    pub p90_microseconds: u64,
    pub p99_microseconds: u64,
}

/// None without a connection.
pub fn summary(latency: &Latency) -> Option<ConnectLatency> {
    let connections: u64 = latency.counts.iter().sum();
    let mean = latency.nanoseconds.checked_div(connections)?;
    let percentile = |percent| quantile(latency, connections, percent).div_ceil(1_000);
    Some(ConnectLatency {
        connections,
        mean_microseconds: mean.div_ceil(1_000),
        p50_microseconds: percentile(50),
        p90_microseconds: percentile(90),
        p99_microseconds: percentile(99),
    })
}

/// In nanoseconds. Inside a bucket they are taken to be spread evenly, as
/// Prometheus' `histogram_quantile` does; the last one's begin is all that is
/// known of it.
fn quantile(latency: &Latency, connections: u64, percent: u64) -> u64 {
    let rank = (connections * percent).div_ceil(100).max(1);
    let mut below = 0;
    let mut from = 0;
    for (bucket, count) in latency.counts.iter().enumerate() {
        let Some(to) = Latency::bound(bucket) else {
            break;
        };
        if below + count >= rank {
            return from + (to - from) * (rank - below) / count;
        }
        below += count;
        from = to;
    }
    from
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(counts: &[(usize, u64)], nanoseconds: u64) -> Option<[u64; 5]> {
        let mut latency = Latency {
            nanoseconds,
            ..Latency::NONE
        };
        for (bucket, count) in counts {
            latency.counts[*bucket] = *count;
        }
        let summary = summary(&latency)?;
        Some([
            summary.connections,
            summary.mean_microseconds,
            summary.p50_microseconds,
            summary.p90_microseconds,
            summary.p99_microseconds,
        ])
    }

    #[test]
    fn percentiles_lie_in_their_buckets() {
        const LAST: usize = Latency::BUCKETS - 1;
        assert_eq!(of(&[], 0), None);
        // 16 to 32 µs.
        assert_eq!(of(&[(5, 1)], 20_000), Some([1, 20, 32, 32, 32]));
        assert_eq!(of(&[(5, 100)], 2_400_000), Some([100, 24, 24, 31, 32]));
        assert_eq!(of(&[(0, 100)], 50_000), Some([100, 1, 1, 1, 1]));
        // Nine of ten up to 4 µs, the rest about a millisecond.
        assert_eq!(
            of(&[(2, 90), (10, 10)], 10_270_000),
            Some([100, 103, 4, 4, 973])
        );
        // Longer than any bound.
        assert_eq!(
            of(&[(LAST, 3)], 300_000_000_000),
            Some([3, 100_000_000, 67_108_864, 67_108_864, 67_108_864])
        );
    }
}
