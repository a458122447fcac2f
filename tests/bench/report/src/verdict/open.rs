//! What was measured and has no aim: one sentence a measure.

use vetch_bench_record::{Figure, Report, Summary};

use super::{FigureRef, Outcome, Verdict};
use crate::aims::{Aim, DIRECT, OURS};
use crate::{number, words};

pub fn verdicts(report: &Report, aims: &[Aim]) -> Vec<Verdict> {
    let mut measures: Vec<&str> = Vec::new();
    let mut ours: Vec<&Figure> = report
        .figures
        .iter()
        .filter(|f| f.subject == OURS)
        .collect();
    if ours.is_empty() {
        // A bench whose subjects are not proxies.
        ours = report
            .figures
            .iter()
            .filter(|f| f.subject != DIRECT)
            .collect();
    }
    for figure in &ours {
        let has_aim = aims.iter().any(|aim| {
            aim.bench == report.bench && words::family(&figure.measure).0 == aim.measure
        });
        if !has_aim && !measures.contains(&figure.measure.as_str()) {
            measures.push(&figure.measure);
        }
    }
    measures.sort_by_key(|measure| words::rank(words::family(measure).0));
    let of = |measure: &&str| {
        let all: Vec<_> = ours
            .iter()
            .copied()
            .filter(|f| f.measure == *measure)
            .collect();
        verdict(measure, &all)
    };
    measures.iter().map(of).collect()
}

fn verdict(measure: &str, figures: &[&Figure]) -> Verdict {
    let measured: Vec<(&Figure, Summary)> = figures
        .iter()
        .filter_map(|figure| Some((*figure, figure.summary?)))
        .collect();
    let title = words::title(measure);
    let (sentence, outcome) = match measured.as_slice() {
        [] => (
            format!("{title}: no round has a sample."),
            Outcome::NotMeasured,
        ),
        [(figure, found)] => (
            format!(
                "{title}: {}{}; no aim is set.",
                number::spread_of(found, &figure.unit, number::value),
                rounds(found.count)
            ),
            Outcome::Open,
        ),
        many => (several(&title, many), Outcome::Open),
    };
    Verdict {
        heading: "Without an aim".into(),
        aim: None,
        sentence,
        outcome,
        medians: measured.iter().map(|(_, found)| found.median).collect(),
        figures: figures.iter().map(|figure| FigureRef::of(figure)).collect(),
    }
}

fn rounds(count: usize) -> String {
    match count {
        1 => ", from 1 round".into(),
        2 => ", from 2 rounds".into(),
        _ => String::new(),
    }
}

/// The lowest and the highest median, each with where it was.
fn several(title: &str, many: &[(&Figure, Summary)]) -> String {
    let varying = words::differing(many.iter().map(|(figure, _)| &figure.conditions));
    let by_median = |one: &&(&Figure, Summary), other: &&(&Figure, Summary)| {
        one.1.median.total_cmp(&other.1.median)
    };
    let (Some(low), Some(high)) = (many.iter().min_by(by_median), many.iter().max_by(by_median))
    else {
        return format!("{title}: no round has a sample.");
    };
    let show = |(figure, found): &(&Figure, Summary)| {
        let place = words::conditions(&figure.conditions, |key| varying.contains(key));
        let place = match place.is_empty() {
            true => figure.subject.clone(),
            false => place.join(", "),
        };
        format!("{} {} ({place})", number::value(found.median), figure.unit)
    };
    format!(
        "{title}: medians from {} to {}; no aim is set.",
        show(low),
        show(high)
    )
}
