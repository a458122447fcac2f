//! Every figure in tables, with its samples.

use maud::{Markup, html};
use serde_json::Value;
use vetch_bench_record::{Figure, Report, Summary, ratio};

use super::verdict_list::badge;
use crate::aims::DIRECT;
use crate::panels::{Member, Section};
use crate::verdict::{Verdict, beside};
use crate::{number, words};

pub fn draw(report: &Report, sections: &[Section<'_>], verdicts: &[Verdict]) -> Markup {
    html! {
        @if sections.is_empty() { p { "There is none." } }
        @for section in sections { (table(report, section, verdicts)) }
    }
}

fn table(report: &Report, section: &Section<'_>, verdicts: &[Verdict]) -> Markup {
    let mut keys: Vec<&String> = section.varying.iter().collect();
    keys.sort_by_key(|key| words::condition_rank(key));
    let has_direct = section
        .members
        .iter()
        .any(|member| member.figure.subject == DIRECT);
    let has_aim = section
        .members
        .iter()
        .any(|m| aims(verdicts, m.figure).next().is_some());
    let units: Vec<&str> = section
        .members
        .iter()
        .map(|m| m.figure.unit.as_str())
        .collect();
    let one_unit = units.iter().all(|unit| *unit == units[0]);
    let mut members: Vec<&Member<'_>> = section.members.iter().collect();
    members.sort_by_key(|member| order(member, &keys, &section.members));
    html! {
        details.group {
        summary {
            span.heading { (section.title) @if one_unit { span.unit { ", " (units[0]) } } }
            span.aim { (members.len()) @if members.len() == 1 { " figure" } @else { " figures" } }
        }
        @if !section.constants.is_empty() { p.note { (section.constants) } }
        div.scroll tabindex="0" {
            table {
                thead { tr {
                    @for key in &keys { th { (key.replace('-', " ")) } }
                    th { "subject" }
                    th.number { "median" }
                    th.number { "quartiles" }
                    th.number { "n" }
                    @if has_direct { th.number { "÷ direct" } }
                    @if has_aim { th { "aim" } }
                } }
                tbody {
                    @for member in &members {
                        tr {
                            @for key in &keys {
                                td { @if let Some(value) = member.conditions.get(*key) { (words::plain(value)) } }
                            }
                            td { (member.figure.subject) }
                            (numbers(member.figure, one_unit))
                            @if has_direct { td.number { (over_direct(report, member.figure)) } }
                            @if has_aim { td.aims {
                                @for verdict in aims(verdicts, member.figure) {
                                    span { (verdict.aim.as_deref().unwrap_or_default()) " " (badge(verdict.outcome, None)) }
                                }
                            } }
                        }
                    }
                }
            }
        }
        (samples(&members, &keys))
        }
    }
}

fn numbers(figure: &Figure, one_unit: bool) -> Markup {
    html! {
        @if let Some(found) = figure.summary {
            td.number { (number::value(found.median)) @if !one_unit { " " (figure.unit) } }
            td.number { @if found.count > 1 { (number::value(found.low)) "–" (number::value(found.high)) } }
            td.number { (found.count) }
        } @else {
            td.number { "–" } td.number { "–" } td.number { "0" }
        }
    }
}

fn over_direct(report: &Report, figure: &Figure) -> String {
    if figure.subject == DIRECT {
        return String::new();
    }
    let other = beside(report, figure, DIRECT);
    let found = other.and_then(|other| Summary::of(&ratio(&figure.samples, &other.samples)));
    found.map_or_else(String::new, |found| {
        number::spread(&found, |ratio| format!("{ratio:.2}"))
    })
}

/// The verdicts on our figure; those it only serves as the divisor of stand beside ours.
fn aims<'a>(verdicts: &'a [Verdict], figure: &'a Figure) -> impl Iterator<Item = &'a Verdict> {
    let is_about = |verdict: &&Verdict| {
        let ours = verdict.figures.first().map(|first| first.subject.clone());
        verdict.aim.is_some()
            && ours.as_deref() == Some(figure.subject.as_str())
            && verdict.figures.iter().any(|found| found.is(figure))
    };
    verdicts.iter().filter(is_about)
}

fn samples(members: &[&Member<'_>], keys: &[&String]) -> Markup {
    let rounds = members
        .iter()
        .map(|member| member.figure.samples.len())
        .max()
        .unwrap_or(0);
    html! {
        details.samples {
            summary { "Samples of each round" }
            div.scroll tabindex="0" {
                table {
                    thead { tr {
                        th { "figure" }
                        @for round in 1..=rounds { th.number { (round) } }
                    } }
                    tbody {
                        @for member in members {
                            tr {
                                td { (name(member, keys)) }
                                @for round in 0..rounds {
                                    td.number { @match member.figure.samples.get(round).copied().flatten() {
                                        Some(sample) => (number::value(sample)),
                                        None => "–",
                                    } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn name(member: &Member<'_>, keys: &[&String]) -> String {
    let mut words = words::conditions(&member.conditions, |key| keys.iter().any(|k| *k == key));
    words.push(member.figure.subject.clone());
    words.join(", ")
}

/// By condition: numbers rise, words come as the run had them, and so do the subjects.
fn order(member: &Member<'_>, keys: &[&String], all: &[Member<'_>]) -> Vec<u64> {
    let part = |key: &&String| {
        let value = member.conditions.get(*key);
        let place = || {
            all.iter()
                .position(|other| other.conditions.get(*key) == value)
        };
        let number = value.and_then(Value::as_u64);
        number.unwrap_or_else(|| place().unwrap_or_default() as u64)
    };
    keys.iter().map(part).collect()
}
