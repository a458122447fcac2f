//! A measure of a subject over all its conditions: one question, many figures.

use vetch_bench_record::median;

use super::{Finding, HALF_RATE, LEAST, Pooled, Tested, rank};
use crate::aims::DIRECT;

pub fn pool(tested: &[Tested]) -> Vec<Pooled> {
    let mut groups: Vec<Vec<&Tested>> = Vec::new();
    for one in tested {
        match groups.iter_mut().find(|group| is_kin(group[0], one)) {
            Some(group) => group.push(one),
            None => groups.push(vec![one]),
        }
    }
    let mut pools: Vec<(Pooled, &[&Tested])> = groups
        .iter()
        .map(|group| (pooled(group), group.as_slice()))
        .collect();
    for direct in [true, false] {
        let is_asked = |pool: &Pooled| {
            (pool.subject == DIRECT) == direct && pool.finding != Finding::TooFewRounds
        };
        let asked: Vec<f64> = pools
            .iter()
            .filter(|p| is_asked(&p.0))
            .map(|p| p.0.p)
            .collect();
        let limit = rank::discoveries(&asked, HALF_RATE);
        for (pool, group) in pools.iter_mut().filter(|p| is_asked(&p.0)) {
            let is_apart = pool.change.abs() >= LEAST.max(spread(group));
            if pool.p <= limit && is_apart {
                pool.finding = Finding::of(pool.change, group[0].row.better);
            }
        }
    }
    pools.into_iter().map(|pool| pool.0).collect()
}

fn is_kin(one: &Tested, other: &Tested) -> bool {
    let (one, other) = (&one.row, &other.row);
    one.figure.measure == other.figure.measure
        && one.figure.subject == other.figure.subject
        && one.unit == other.unit
        && one.better == other.better
}

fn pooled(group: &[&Tested]) -> Pooled {
    let row = &group[0].row;
    let changes: Vec<f64> = group.iter().map(|tested| tested.row.change).collect();
    let strata: Vec<(&[f64], &[f64])> = group
        .iter()
        .map(|tested| (tested.before.as_slice(), tested.after.as_slice()))
        .collect();
    // What parts every pair entirely has one choice of each at either end.
    let ways: f64 = strata
        .iter()
        .map(|(one, other)| rank::choices(one.len(), other.len()))
        .product();
    Pooled {
        measure: row.figure.measure.clone(),
        subject: row.figure.subject.clone(),
        basis: row.basis,
        figures: group.len(),
        change: median(&changes).unwrap_or(0.0),
        p: rank::stratified_p(&strata),
        finding: match 2.0 / ways > HALF_RATE {
            true => Finding::TooFewRounds,
            false => Finding::WithinNoise,
        },
    }
}

/// Half of what lies between the quartiles, relative to the median, of the figure in the middle.
fn spread(group: &[&Tested]) -> f64 {
    let of = |tested: &&Tested| {
        let half = |s: &vetch_bench_record::Summary| match s.median == 0.0 {
            true => 0.0,
            false => (s.high - s.low) / 2.0 / s.median.abs(),
        };
        half(&tested.row.before).max(half(&tested.row.after))
    };
    median(&group.iter().map(of).collect::<Vec<_>>()).unwrap_or(0.0)
}
