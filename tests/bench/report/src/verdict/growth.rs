//! Whether a ratio grows with the number of services.

use std::cmp::Ordering;

use vetch_bench_record::{Figure, Report, Summary, ratio};

use super::{FEWEST, FigureRef, Outcome, Verdict, beside, ours, sentence_start, services};
use crate::aims::Aim;
use crate::{number, words};

struct Step {
    services: u64,
    ratio: Summary,
    figures: [FigureRef; 2],
}

/// One a set of the other conditions. Without that subject there is none: the ratio's own verdict
/// says so already.
pub fn verdicts(report: &Report, aim: &Aim, over: &str) -> Vec<Verdict> {
    let mut groups: Vec<(&Figure, Vec<Step>)> = Vec::new();
    for figure in ours(report, aim) {
        let step = beside(report, figure, over).and_then(|other| step(figure, other));
        let Some(step) = step else { continue };
        match groups.iter_mut().find(|(first, _)| alike(first, figure)) {
            Some((_, steps)) => steps.push(step),
            None => groups.push((figure, vec![step])),
        }
    }
    let judged = |(figure, steps): (&Figure, Vec<Step>)| judge(report, aim, over, figure, steps);
    groups.into_iter().map(judged).collect()
}

fn step(figure: &Figure, other: &Figure) -> Option<Step> {
    Some(Step {
        services: services(figure)?,
        ratio: Summary::of(&ratio(&figure.samples, &other.samples))?,
        figures: [FigureRef::of(figure), FigureRef::of(other)],
    })
}

/// The same conditions but for the number of services.
fn alike(one: &Figure, other: &Figure) -> bool {
    let rest = |figure: &Figure| {
        let mut rest = figure.conditions.clone();
        rest.remove("services");
        rest
    };
    one.measure == other.measure && rest(one) == rest(other)
}

fn judge(report: &Report, aim: &Aim, over: &str, figure: &Figure, steps: Vec<Step>) -> Verdict {
    let mut conditions = figure.conditions.clone();
    conditions.remove("services");
    let place = words::place(&conditions, &words::varying(report, &figure.measure));
    let (noun, plural) = words::noun(aim.measure);
    let what = format!("{noun}{} ÷ {over}", words::through(&conditions));
    let subject = sentence_start(&place, &what);
    let is = if plural { "are" } else { "is" };
    let shown: Vec<_> = steps.iter().map(show).collect();
    let shown = words::list(&shown);
    let (sentence, outcome) = match trend(&steps) {
        Trend::OneNumber => (
            format!("{subject} {is} {shown}; one number of services cannot tell whether it grows."),
            Outcome::CannotTell,
        ),
        Trend::TooFewRounds => (
            format!(
                "{subject} {is} {shown}; fewer than {FEWEST} rounds are too few to tell whether it grows."
            ),
            Outcome::CannotTell,
        ),
        Trend::Grows => (
            format!("{subject} grows with the number of services, {shown}: met."),
            Outcome::Met,
        ),
        Trend::Falls { from, to } => (
            format!(
                "{subject} does not grow with the number of services, it falls from {} to {}: {shown}; missed.",
                number::grouped(from),
                number::grouped(to)
            ),
            Outcome::Missed,
        ),
        Trend::Unclear => (
            format!(
                "{subject} {is} {shown}; no growth goes beyond the spread, so it cannot be told."
            ),
            Outcome::CannotTell,
        ),
    };
    let medians: Vec<f64> = steps.iter().map(|step| step.ratio.median).collect();
    let figures = steps.into_iter().flat_map(|step| step.figures).collect();
    aim.verdict(sentence, outcome, figures).of(medians)
}

fn show(step: &Step) -> String {
    let ratio = number::spread(&step.ratio, |ratio| number::ratio(ratio, &[]));
    format!("{ratio} at {}", number::grouped(step.services))
}

enum Trend {
    OneNumber,
    TooFewRounds,
    Grows,
    Falls { from: u64, to: u64 },
    Unclear,
}

fn trend(steps: &[Step]) -> Trend {
    let ([first, .., last], true) = (steps, steps.len() > 1) else {
        return Trend::OneNumber;
    };
    if steps.iter().any(|step| step.ratio.count < FEWEST) {
        return Trend::TooFewRounds;
    }
    let fall = steps
        .windows(2)
        .map(|pair| (&pair[0], &pair[1]))
        .chain([(first, last)])
        .find(|(one, next)| beyond(&one.ratio, &next.ratio) == Ordering::Less);
    match fall {
        Some((one, next)) => Trend::Falls {
            from: one.services,
            to: next.services,
        },
        None if beyond(&first.ratio, &last.ratio) == Ordering::Greater => Trend::Grows,
        None => Trend::Unclear,
    }
}

/// How the next stands to the one before where their spreads do not meet.
fn beyond(one: &Summary, next: &Summary) -> Ordering {
    if next.low > one.high {
        Ordering::Greater
    } else if next.high < one.low {
        Ordering::Less
    } else {
        Ordering::Equal
    }
}
