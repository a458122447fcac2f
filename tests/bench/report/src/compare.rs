//! Two reports → what changed beyond noise.
//!
//! Figures are matched by measure, subject and conditions. Where both reports have `direct` beside
//! a figure, its ratios to direct are compared, round by round: what the machine did between the two
//! runs cancels out. A change counts when a rank test finds it (the false discovery rate is held
//! over all figures), when it is at least [`LEAST`], and when each median lies outside the
//! other's quartiles. Each measure of a subject is tested over all its conditions as well, which
//! finds what few rounds hide in one figure alone.

use serde::Serialize;
use serde_json::Value;
use vetch_bench_record::{Better, Figure, Report, SCHEMA, Summary, ratio};

use crate::aims::DIRECT;
use crate::verdict::{FigureRef, beside};

mod pool;
mod rank;
mod remarks;
mod text;

/// Smaller relative changes are not looked at: two runs of the same program differ by as much.
pub const LEAST: f64 = 0.01;
/// The share of false discoveries that is borne; half of it each for figures and for pools.
const RATE: f64 = 0.05;
pub(crate) const HALF_RATE: f64 = RATE / 2.0;

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// Why the two cannot be compared; then there is nothing else.
    pub refused: Option<String>,
    /// What a reader has to know beside the numbers.
    pub remarks: Vec<String>,
    /// A measure of a subject over all its conditions.
    pub pooled: Vec<Pooled>,
    /// Every figure that both reports have.
    pub rows: Vec<Row>,
    pub only_before: Vec<FigureRef>,
    pub only_after: Vec<FigureRef>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    pub figure: FigureRef,
    pub basis: Basis,
    /// Of the compared values: the figure's own, or `× direct`.
    pub unit: String,
    pub better: Better,
    pub before: Summary,
    pub after: Summary,
    /// Of the median, relative: −0.05 is five percent less.
    pub change: f64,
    /// Of the rank test, two-sided.
    pub p: f64,
    pub finding: Finding,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pooled {
    pub measure: String,
    pub subject: String,
    pub basis: Basis,
    pub figures: usize,
    /// The median of the figures' changes.
    pub change: f64,
    pub p: f64,
    pub finding: Finding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Basis {
    /// Ratios to `direct` of the same round.
    Direct,
    /// The values themselves.
    Absolute,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Finding {
    Better,
    Worse,
    WithinNoise,
    /// No change could show with so few rounds.
    TooFewRounds,
}

/// `a` is the one before.
pub fn compare(a: &Report, b: &Report) -> Comparison {
    let mut comparison = Comparison {
        refused: refusal(a, b),
        remarks: Vec::new(),
        pooled: Vec::new(),
        rows: Vec::new(),
        only_before: Vec::new(),
        only_after: Vec::new(),
    };
    if comparison.refused.is_some() {
        return comparison;
    }
    let mut tested = Vec::new();
    for before in &a.figures {
        let Some(after) = b.figures.iter().find(|figure| figure.is_like(before)) else {
            comparison.only_before.push(FigureRef::of(before));
            continue;
        };
        if before.unit != after.unit || before.better != after.better {
            comparison.remarks.push(remarks::other_unit(before, after));
            continue;
        }
        tested.extend(Tested::of(a, before, b, after));
    }
    let is_new = |figure: &&Figure| !a.figures.iter().any(|known| known.is_like(figure));
    comparison.only_after = b.figures.iter().filter(is_new).map(FigureRef::of).collect();
    // The machine's own changes are no part of the question; they have a test of their own.
    for direct in [true, false] {
        judge(
            tested
                .iter_mut()
                .filter(|t| (t.row.figure.subject == DIRECT) == direct),
        );
    }
    comparison.pooled = pool::pool(&tested);
    comparison.rows = tested.into_iter().map(|tested| tested.row).collect();
    let said = remarks::remarks(a, b, &comparison);
    comparison.remarks.extend(said);
    comparison
}

impl Comparison {
    /// Whether anything but the machine changed beyond noise.
    pub fn changed(&self) -> bool {
        let rows = self
            .rows
            .iter()
            .map(|row| (&row.figure.subject, row.finding));
        let pools = self.pooled.iter().map(|pool| (&pool.subject, pool.finding));
        rows.chain(pools)
            .any(|(subject, finding)| subject != DIRECT && finding.is_change())
    }
}

impl Finding {
    pub fn is_change(self) -> bool {
        matches!(self, Finding::Better | Finding::Worse)
    }

    pub fn of(change: f64, better: Better) -> Finding {
        match (change > 0.0, better) {
            (true, Better::Higher) | (false, Better::Lower) => Finding::Better,
            _ => Finding::Worse,
        }
    }
}

fn refusal(a: &Report, b: &Report) -> Option<String> {
    for report in [a, b] {
        if report.schema != SCHEMA {
            return Some(format!(
                "One report is of schema {}, this program reads schema {SCHEMA}.",
                report.schema
            ));
        }
    }
    (a.bench != b.bench).then(|| {
        format!(
            "The reports are of different benches, {} and {}: there is nothing to compare.",
            a.bench, b.bench
        )
    })
}

/// A row, and the values it was made of.
struct Tested {
    row: Row,
    before: Vec<f64>,
    after: Vec<f64>,
}

impl Tested {
    /// None where either report has no sample of it.
    fn of(a: &Report, before: &Figure, b: &Report, after: &Figure) -> Option<Tested> {
        let beside = (before.subject != DIRECT)
            .then(|| Some((beside(a, before, DIRECT)?, beside(b, after, DIRECT)?)))
            .flatten();
        let ratios = beside.map(|(direct, other)| {
            (
                finite(ratio(&before.samples, &direct.samples)),
                finite(ratio(&after.samples, &other.samples)),
            )
        });
        let ratios = ratios.filter(|(one, other)| !one.is_empty() && !other.is_empty());
        let basis = if ratios.is_some() {
            Basis::Direct
        } else {
            Basis::Absolute
        };
        let (one, other) =
            ratios.unwrap_or_else(|| (finite(before.present()), finite(after.present())));
        let (from, to) = (Summary::of(&one)?, Summary::of(&other)?);
        let row = Row {
            figure: FigureRef::of(before),
            basis,
            unit: match basis {
                Basis::Direct => format!("× {DIRECT}"),
                Basis::Absolute => before.unit.clone(),
            },
            better: before.better,
            before: from,
            after: to,
            change: relative(from.median, to.median),
            p: rank::p(&one, &other),
            finding: Finding::WithinNoise,
        };
        Some(Tested {
            row,
            before: one,
            after: other,
        })
    }

    /// Whether the medians are so far apart that a change may be spoken of.
    fn is_apart(&self) -> bool {
        let outside = |value: f64, of: &Summary| value < of.low || value > of.high;
        let Row { before, after, .. } = &self.row;
        self.row.change.abs() >= LEAST
            && outside(after.median, before)
            && outside(before.median, after)
    }
}

fn judge<'a>(tested: impl Iterator<Item = &'a mut Tested>) {
    let (few, enough): (Vec<_>, Vec<_>) =
        tested.partition(|t| rank::least_p(t.before.len(), t.after.len()) > HALF_RATE);
    for tested in few {
        tested.row.finding = Finding::TooFewRounds;
    }
    let all: Vec<f64> = enough.iter().map(|tested| tested.row.p).collect();
    let limit = rank::discoveries(&all, HALF_RATE);
    for tested in enough {
        if tested.row.p <= limit && tested.is_apart() {
            tested.row.finding = Finding::of(tested.row.change, tested.row.better);
        }
    }
}

fn finite(values: Vec<f64>) -> Vec<f64> {
    values
        .into_iter()
        .filter(|value| value.is_finite())
        .collect()
}

/// What grew from nothing grew by the whole of it.
fn relative(from: f64, to: f64) -> f64 {
    match from == 0.0 {
        true if to == 0.0 => 0.0,
        true => to.signum(),
        false => (to - from) / from.abs(),
    }
}

/// Of a settings value, for a sentence.
fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "nothing".into(), ToString::to_string)
}

#[cfg(test)]
mod tests;
