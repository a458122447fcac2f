//! Medians and their spread. No average: one stalled round would own it.

use serde::{Deserialize, Serialize};

/// Of the samples that are there.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub count: usize,
    pub median: f64,
    /// The first and the third quartile: the spread that is stated beside a median.
    pub low: f64,
    pub high: f64,
    pub min: f64,
    pub max: f64,
}

impl Summary {
    pub fn of(samples: &[f64]) -> Option<Summary> {
        Some(Summary {
            count: samples.len(),
            median: median(samples)?,
            low: quantile(samples, 0.25)?,
            high: quantile(samples, 0.75)?,
            min: quantile(samples, 0.0)?,
            max: quantile(samples, 1.0)?,
        })
    }
}

pub fn median(samples: &[f64]) -> Option<f64> {
    quantile(samples, 0.5)
}

/// Between neighbours it is interpolated linearly (type 7 of Hyndman and Fan, 1996).
pub fn quantile(samples: &[f64], part: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let place = part.clamp(0.0, 1.0) * last as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    Some(sorted[below] + (sorted[above] - sorted[below]) * place.fract())
}

/// One over the other, round by round: what both rounds shared (heat, neighbours) cancels out.
/// Rounds that lack either are left out.
pub fn ratio(numerator: &[Option<f64>], denominator: &[Option<f64>]) -> Vec<f64> {
    numerator
        .iter()
        .zip(denominator)
        .filter_map(|pair| match pair {
            (Some(above), Some(below)) if *below != 0.0 => Some(above / below),
            _ => None,
        })
        .collect()
}
