//! Aims and figures → sentences. Nothing is said that the samples do not hold.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use vetch_bench_record::{Figure, Report, Summary, ratio};

use crate::aims::{Aim, Goal, REAL, aims, scale};
use crate::{number, words};

mod growth;
mod open;

/// Fewer rounds have no spread to speak of.
pub const FEWEST: usize = 3;

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// What this verdict and its neighbours are about: `New connections ÷ direct, one node`.
    pub heading: String,
    /// `≥ 1.15 × direct`; none when there is no aim.
    pub aim: Option<String>,
    /// Plain English, with the numbers and their spread.
    pub sentence: String,
    pub outcome: Outcome,
    /// The medians it speaks of: ratios where the aim is one.
    pub medians: Vec<f64>,
    /// What it was read from: ours, and what ours was divided by.
    pub figures: Vec<FigureRef>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    Missed,
    /// The spread holds the aim, or there are too few rounds.
    CannotTell,
    Met,
    NotMeasured,
    /// Measured, and no aim is set.
    Open,
}

/// Finds a figure in its report.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FigureRef {
    pub measure: String,
    pub subject: String,
    pub conditions: BTreeMap<String, Value>,
}

impl FigureRef {
    pub fn of(figure: &Figure) -> FigureRef {
        FigureRef {
            measure: figure.measure.clone(),
            subject: figure.subject.clone(),
            conditions: figure.conditions.clone(),
        }
    }

    pub fn is(&self, figure: &Figure) -> bool {
        self.measure == figure.measure
            && self.subject == figure.subject
            && self.conditions == figure.conditions
    }
}

impl Outcome {
    pub fn words(self) -> &'static str {
        match self {
            Outcome::Missed => "missed",
            Outcome::CannotTell => "cannot tell",
            Outcome::Met => "met",
            Outcome::NotMeasured => "not measured",
            Outcome::Open => "no aim",
        }
    }
}

/// In the order of the aims; measures without one are last.
pub fn verdicts(report: &Report) -> Vec<Verdict> {
    let all = aims();
    let mut verdicts: Vec<_> = all
        .iter()
        .filter(|aim| aim.bench == report.bench)
        .flat_map(|aim| of_aim(report, aim))
        .collect();
    verdicts.extend(open::verdicts(report, &all));
    verdicts
}

fn of_aim(report: &Report, aim: &Aim) -> Vec<Verdict> {
    let over = match aim.goal {
        Goal::Growth { over } => return growth::verdicts(report, aim, over),
        Goal::Ratio { over, .. } => Some(over),
        Goal::Limit { .. } => None,
    };
    let covered = ours(report, aim);
    let verdicts: Vec<_> = covered
        .iter()
        .filter(|figure| aim.is_for(figure))
        .filter_map(|figure| match (aim.goal, over) {
            (_, Some(over)) => {
                let other = beside(report, figure, over)?;
                Some(of_ratio(report, aim, figure, other))
            }
            _ => Some(of_limit(report, aim, figure)),
        })
        .collect();
    if !verdicts.is_empty() {
        return verdicts;
    }
    // The real program runs only when asked for: without it there is nothing to miss.
    let unasked = over.is_some_and(|over| REAL.contains(&over))
        && !report
            .figures
            .iter()
            .any(|figure| Some(figure.subject.as_str()) == over);
    if unasked {
        return Vec::new();
    }
    let at = match aim.services {
        Some(services) => format!(", at {}", words::condition("services", &services.into())),
        None => String::new(),
    };
    let sentence = format!("{}{at}: not measured in this run.", aim.heading());
    vec![aim.verdict(sentence, Outcome::NotMeasured, Vec::new())]
}

/// The figures the aim is about, by their number of services.
fn ours<'a>(report: &'a Report, aim: &Aim) -> Vec<&'a Figure> {
    let mut figures: Vec<_> = report
        .figures
        .iter()
        .filter(|figure| aim.covers(figure))
        .collect();
    figures.sort_by_key(|figure| services(figure));
    figures
}

fn services(figure: &Figure) -> Option<u64> {
    figure.conditions.get("services").and_then(Value::as_u64)
}

pub fn beside<'a>(report: &'a Report, figure: &Figure, subject: &str) -> Option<&'a Figure> {
    let mut all = report.figures.iter();
    all.find(|other| other.subject == subject && other.is_beside(figure))
}

fn of_ratio(report: &Report, aim: &Aim, figure: &Figure, other: &Figure) -> Verdict {
    let Goal::Ratio { over, bound } = aim.goal else {
        unreachable!("the caller asked for a ratio")
    };
    let place = words::place(&figure.conditions, &words::varying(report, &figure.measure));
    let (noun, plural) = words::noun(aim.measure);
    let through = words::through(&figure.conditions);
    let subject = sentence_start(&place, &format!("{noun}{through}"));
    let figures = vec![FigureRef::of(figure), FigureRef::of(other)];
    let Some(found) = Summary::of(&ratio(&figure.samples, &other.samples)) else {
        let sentence = format!("{subject}: no round has it beside {over}.");
        return aim.verdict(sentence, Outcome::NotMeasured, figures);
    };
    let show = |ratio| number::ratio(ratio, &[bound.number()]);
    let runs = if plural { "run" } else { "runs" };
    let numbers = format!(
        "{subject} {runs} at {}",
        number::spread_of(&found, &format!("× {over}"), show)
    );
    let goal = match bound.sign() {
        ">" => format!("more than {}", bound.number()),
        _ => format!("{:.2}", bound.number()),
    };
    let held = [found.low, found.high].map(|ratio| bound.holds(ratio));
    let (tail, outcome) = judge(&goal, held, found.count);
    aim.verdict(format!("{numbers}; {tail}."), outcome, figures)
        .of([found.median])
}

fn of_limit(report: &Report, aim: &Aim, figure: &Figure) -> Verdict {
    let Goal::Limit {
        words: lead,
        after,
        most,
        unit,
    } = aim.goal
    else {
        unreachable!("the caller asked for a limit")
    };
    let place = words::place(&figure.conditions, &words::varying(report, &figure.measure));
    let subject = sentence_start(&place, lead);
    let figures = vec![FigureRef::of(figure)];
    let Some(found) = figure.summary else {
        let sentence = format!(
            "{}: no round has a sample.",
            sentence_start(&place, &words::noun(aim.measure).0)
        );
        return aim.verdict(sentence, Outcome::NotMeasured, figures);
    };
    let numbers = format!(
        "{subject} {}{after}",
        number::spread_of(&found, &figure.unit, number::value)
    );
    let goal = format!("at most {most} {unit}");
    let Some(scale) = scale(&figure.unit, unit) else {
        let sentence = format!("{numbers}; the aim is {goal}, which is of another unit.");
        return aim
            .verdict(sentence, Outcome::CannotTell, figures)
            .of([found.median]);
    };
    let held = [found.high, found.low].map(|value| value * scale <= most);
    let (tail, outcome) = judge(&goal, held, found.count);
    aim.verdict(format!("{numbers}; {tail}."), outcome, figures)
        .of([found.median])
}

/// `held`: whether the aim holds at either end of the spread.
fn judge(goal: &str, held: [bool; 2], rounds: usize) -> (String, Outcome) {
    if rounds < FEWEST {
        let rounds = match rounds {
            1 => "1 round is".to_owned(),
            _ => format!("{rounds} rounds are"),
        };
        let tail = format!("the aim is {goal}: {rounds} too few to tell");
        return (tail, Outcome::CannotTell);
    }
    match held {
        [true, true] => (format!("the aim is {goal}: met"), Outcome::Met),
        [false, false] => (format!("the aim is {goal}: missed"), Outcome::Missed),
        _ => (
            format!("the aim is {goal}, inside that spread: it cannot be told"),
            Outcome::CannotTell,
        ),
    }
}

fn sentence_start(place: &str, subject: &str) -> String {
    match place {
        "" => words::capital(subject),
        _ => format!("{place}, {subject}"),
    }
}

impl Aim {
    fn verdict(&self, sentence: String, outcome: Outcome, figures: Vec<FigureRef>) -> Verdict {
        Verdict {
            heading: self.heading(),
            aim: Some(self.short()),
            sentence,
            outcome,
            medians: Vec::new(),
            figures,
        }
    }
}

impl Verdict {
    fn of(mut self, medians: impl IntoIterator<Item = f64>) -> Verdict {
        self.medians = medians.into_iter().collect();
        self
    }
}

#[cfg(test)]
mod tests;
