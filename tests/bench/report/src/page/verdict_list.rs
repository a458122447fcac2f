//! The verdicts, what is missed before what is met.

use maud::{Markup, html};

use crate::number;
use crate::verdict::{Outcome, Verdict};

/// Longer lists are folded unless something in them was missed.
const SHORT: usize = 3;

const ORDER: [Outcome; 5] = [
    Outcome::Missed,
    Outcome::CannotTell,
    Outcome::Met,
    Outcome::NotMeasured,
    Outcome::Open,
];

struct Group<'a> {
    heading: &'a str,
    verdicts: Vec<&'a Verdict>,
}

pub fn draw(verdicts: &[Verdict]) -> Markup {
    let mut groups: Vec<Group<'_>> = Vec::new();
    // What was not measured is one list at the end, else absent subjects would fill the page.
    let (absent, told): (Vec<&Verdict>, Vec<&Verdict>) = verdicts
        .iter()
        .partition(|verdict| verdict.figures.is_empty());
    for verdict in told {
        match groups
            .iter_mut()
            .find(|group| group.heading == verdict.heading)
        {
            Some(group) => group.verdicts.push(verdict),
            None => groups.push(Group {
                heading: &verdict.heading,
                verdicts: vec![verdict],
            }),
        }
    }
    for group in &mut groups {
        group.verdicts.sort_by_key(|verdict| verdict.outcome);
    }
    html! {
        @if verdicts.is_empty() { p { "Nothing was measured." } }
        p.tally {
            @for outcome in ORDER {
                @let count = verdicts.iter().filter(|verdict| verdict.outcome == outcome).count();
                @if count > 0 { (badge(outcome, Some(count))) " " }
            }
        }
        div.verdicts {
            @for group in &groups { (fold(group.heading, &group.verdicts, groups.len() == 1)) }
        }
        @if !absent.is_empty() {
            div.verdicts { (fold("Not measured in this run", &absent, false)) }
        }
    }
}

/// `alone`: there is nothing else to read.
fn fold(heading: &str, verdicts: &[&Verdict], alone: bool) -> Markup {
    let has = |outcome| verdicts.iter().any(|verdict| verdict.outcome == outcome);
    let told = has(Outcome::Missed) || has(Outcome::CannotTell) || has(Outcome::Met);
    let open = alone || has(Outcome::Missed) || (told && verdicts.len() <= SHORT);
    let aims = aims(verdicts);
    html! {
        details.group open[open] {
            summary {
                span.heading { (heading) }
                @if !aims.is_empty() { span.aim { "aim " (aims) (range(verdicts)) } }
                span.counts {
                    @for outcome in ORDER {
                        @let count = verdicts.iter().filter(|v| v.outcome == outcome).count();
                        @if count > 0 { (badge(outcome, Some(count))) " " }
                    }
                }
            }
            ul {
                @for verdict in verdicts {
                    li { (badge(verdict.outcome, None)) span { (verdict.sentence) } }
                }
            }
        }
    }
}

fn aims(verdicts: &[&Verdict]) -> String {
    let mut aims: Vec<&str> = verdicts.iter().filter_map(|v| v.aim.as_deref()).collect();
    aims.sort_unstable();
    aims.dedup();
    match aims.len() {
        // Of many absent subjects: their sentences say which.
        0 | 4.. => String::new(),
        _ => aims.join(", "),
    }
}

/// The medians of the ratios, so that a folded list says how far from its aim it is.
fn range(verdicts: &[&Verdict]) -> String {
    let is_ratio = |v: &&&Verdict| v.aim.as_deref().is_some_and(|aim| aim.contains('×'));
    let all = || {
        verdicts
            .iter()
            .filter(is_ratio)
            .flat_map(|verdict| verdict.medians.iter().copied())
    };
    let low = all().fold(f64::INFINITY, f64::min);
    let high = all().fold(f64::NEG_INFINITY, f64::max);
    let [low_text, high_text] = [low, high].map(|ratio| number::ratio(ratio, &[]));
    match low <= high {
        true if low_text == high_text => format!("; measured {low_text}"),
        true => format!("; measured {low_text} to {high_text}"),
        false => String::new(),
    }
}

/// An outcome, told by its word and sign as well as its colour.
pub fn badge(outcome: Outcome, count: Option<usize>) -> Markup {
    let (class, sign) = match outcome {
        Outcome::Met => ("met", "✓"),
        Outcome::Missed => ("missed", "✗"),
        Outcome::CannotTell => ("cannot-tell", "≈"),
        Outcome::NotMeasured => ("not-measured", "–"),
        Outcome::Open => ("open", "·"),
    };
    html! {
        span class=(format!("badge {class}")) {
            (sign) " " @if let Some(count) = count { (count) " " } (outcome.words())
        }
    }
}
