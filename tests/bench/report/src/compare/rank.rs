//! Wilcoxon's rank sum (Mann and Whitney's U), exact where it is small, and the rate of false
//! discoveries after Benjamini and Hochberg (1995).

/// Past as many samples the normal approximation serves.
const EXACT: usize = 40;

/// Ranks of two samples in one order, doubled so that the mean rank of a tie is a whole number.
struct Ranks {
    all: Vec<usize>,
    /// Of the second sample.
    sum: usize,
    second: usize,
}

fn ranks(one: &[f64], other: &[f64]) -> Ranks {
    let first = one.iter().map(|value| (*value, false));
    let mut pooled: Vec<_> = first
        .chain(other.iter().map(|value| (*value, true)))
        .collect();
    pooled.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut all, mut sum) = (Vec::with_capacity(pooled.len()), 0);
    let mut from = 0;
    for tie in pooled.chunk_by(|a, b| a.0 == b.0) {
        // Ranks from+1 to from+len, their mean doubled.
        let rank = 2 * from + tie.len() + 1;
        from += tie.len();
        for (_, second) in tie {
            all.push(rank);
            sum += if *second { rank } else { 0 };
        }
    }
    Ranks {
        all,
        sum,
        second: other.len(),
    }
}

/// Two-sided: how often chance alone parts two samples as much as this.
pub fn p(one: &[f64], other: &[f64]) -> f64 {
    if one.is_empty() || other.is_empty() {
        return 1.0;
    }
    let ranks = ranks(one, other);
    if ranks.all.len() > EXACT {
        return two_sided(&[Deviation::of(&ranks)]);
    }
    exact(&ranks)
}

/// Over the sums that any choice of as many ranks would have.
fn exact(ranks: &Ranks) -> f64 {
    let most: usize = ranks.all.iter().sum();
    let width = most + 1;
    // ways[k × width + s]: choices of k ranks with the sum s.
    let mut ways = vec![0.0_f64; (ranks.second + 1) * width];
    ways[0] = 1.0;
    let mut reached = 0;
    for (index, rank) in ranks.all.iter().enumerate() {
        reached += rank;
        for count in (1..=ranks.second.min(index + 1)).rev() {
            let (below, here) = ways.split_at_mut(count * width);
            let below = &below[(count - 1) * width..];
            for (sum, way) in here[..=reached].iter_mut().enumerate().skip(*rank) {
                *way += below[sum - rank];
            }
        }
    }
    let ways = &ways[ranks.second * width..];
    let total: f64 = ways.iter().sum();
    let low: f64 = ways[..=ranks.sum].iter().sum();
    let high: f64 = ways[ranks.sum..].iter().sum();
    (2.0 * low.min(high) / total).min(1.0)
}

/// How far a rank sum is from what chance expects.
struct Deviation {
    from_mean: f64,
    variance: f64,
    /// Van Elteren's weight of its stratum.
    weight: f64,
}

impl Deviation {
    fn of(ranks: &Ranks) -> Deviation {
        let total = ranks.all.len() as f64;
        let second = ranks.second as f64;
        let halved = |doubled: usize| doubled as f64 / 2.0;
        let mean = (total + 1.0) / 2.0;
        let spread: f64 = ranks
            .all
            .iter()
            .map(|rank| (halved(*rank) - mean).powi(2))
            .sum();
        Deviation {
            from_mean: halved(ranks.sum) - second * mean,
            variance: second * (total - second) / (total * (total - 1.0)) * spread,
            weight: 1.0 / (total + 1.0),
        }
    }
}

fn two_sided(strata: &[Deviation]) -> f64 {
    let variance: f64 = strata.iter().map(|s| s.weight.powi(2) * s.variance).sum();
    if variance <= 0.0 {
        return 1.0;
    }
    let deviation: f64 = strata.iter().map(|s| s.weight * s.from_mean).sum();
    let step = strata.iter().map(|s| s.weight).fold(0.0, f64::max);
    // A sum moves by whole ranks: half of one is chance's.
    let z = (deviation.abs() - step / 2.0).max(0.0) / variance.sqrt();
    libm::erfc(z / std::f64::consts::SQRT_2)
}

/// One question put to several pairs of samples (van Elteren, 1960).
pub fn stratified_p(strata: &[(&[f64], &[f64])]) -> f64 {
    match strata {
        [(one, other)] => p(one, other),
        _ => {
            let several = |pair: &&(&[f64], &[f64])| !pair.0.is_empty() && !pair.1.is_empty();
            let all: Vec<_> = strata
                .iter()
                .filter(several)
                .map(|(one, other)| Deviation::of(&ranks(one, other)))
                .collect();
            two_sided(&all)
        }
    }
}

/// What the exact test says at best of samples of these sizes.
pub fn least_p(one: usize, other: usize) -> f64 {
    (2.0 / choices(one, other)).min(1.0)
}

/// How many ways there are to choose the second sample.
pub fn choices(one: usize, other: usize) -> f64 {
    (1..=other).map(|k| (one + k) as f64 / k as f64).product()
}

/// The greatest p that is a discovery at this rate; negative if none is.
pub fn discoveries(all: &[f64], rate: f64) -> f64 {
    let mut sorted = all.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len() as f64;
    let bound = |index: usize| rate * (index + 1) as f64 / count;
    let last = sorted
        .iter()
        .enumerate()
        .rfind(|(index, p)| **p <= bound(*index));
    last.map_or(-1.0, |(_, p)| *p)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, wanted: f64) {
        assert!((found - wanted).abs() < 1e-9, "{found} is not {wanted}");
    }

    #[test]
    fn small_samples_by_hand() {
        // Parted entirely: one of the ten choices at either end, 2/10.
        near(p(&[1.0, 2.0, 3.0], &[4.0, 5.0]), 0.2);
        near(p(&[4.0, 5.0], &[1.0, 2.0, 3.0]), 0.2);
        // Four of 5: 2/C(10,5).
        near(
            p(&[1., 2., 3., 4., 5.], &[6., 7., 8., 9., 10.]),
            2.0 / 252.0,
        );
        // All the same: nothing to tell.
        near(p(&[1.0; 4], &[1.0; 4]), 1.0);
        near(p(&[], &[1.0]), 1.0);
        // Sums of two of the doubled ranks 2, 5, 5, 8 are 7, 7, 10, 10, 13, 13; {1, 2} and {2, 3}
        // have 7 and 13: two of six at either end.
        near(p(&[1.0, 2.0], &[2.0, 3.0]), 2.0 / 3.0);
    }

    #[test]
    fn the_approximation_meets_the_exact_test() {
        let one: Vec<f64> = (0..20).map(|n| f64::from(n * 7 % 20)).collect();
        let other: Vec<f64> = (0..20).map(|n| f64::from(n * 11 % 20) + 4.6).collect();
        let exact = p(&one, &other);
        let near = two_sided(&[Deviation::of(&ranks(&one, &other))]);
        assert!((exact - near).abs() < 0.002, "{exact} {near}");
        assert!((0.001..0.05).contains(&exact), "{exact}");
    }

    #[test]
    fn strata_add_up() {
        let pair: (&[f64], &[f64]) = (&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]);
        let back: (&[f64], &[f64]) = (pair.1, pair.0);
        assert!(stratified_p(&[pair; 6]) < 0.0001);
        assert!(stratified_p(&[pair, back, pair, back]) > 0.9);
        near(stratified_p(&[pair]), 0.1);
    }

    #[test]
    fn least_and_discoveries() {
        near(least_p(5, 5), 2.0 / 252.0);
        near(least_p(10, 10), 2.0 / 184_756.0);
        near(discoveries(&[0.2, 0.001, 0.03, 0.012], 0.05), 0.03);
        near(discoveries(&[0.2, 0.3], 0.05), -1.0);
        near(discoveries(&[], 0.05), -1.0);
    }
}
