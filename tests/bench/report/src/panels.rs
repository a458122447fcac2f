//! Which figures share a plot: by family, by unit, and by their conditions.
//!
//! The numeric condition that varies becomes the x axis, the other varying conditions make one
//! panel each. What has no such axis becomes rows.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use vetch_bench_record::{Better, Figure, Report, Summary, ratio};

use crate::aims::{DIRECT, limit, over_direct};
use crate::verdict::beside;
use crate::words;

/// What may be an x axis, the likeliest first.
const AXES: [&str; 3] = ["services", "pods", "endpoints"];

/// The figures of one family of measures.
pub struct Section<'a> {
    pub title: String,
    /// What all its figures share: `ClusterIP, 2 endpoints`.
    pub constants: String,
    pub varying: BTreeSet<String>,
    pub members: Vec<Member<'a>>,
    pub panels: Vec<Panel>,
}

/// A figure, with what its measure's name says moved among the conditions.
pub struct Member<'a> {
    pub figure: &'a Figure,
    pub conditions: BTreeMap<String, Value>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    pub title: String,
    /// Of the values: `requests/s`, or `× direct`.
    pub unit: String,
    pub better: Better,
    pub is_ratio: bool,
    /// Levels to hold the values against.
    pub rules: Vec<Rule>,
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub at: f64,
    pub label: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Lines { axis: String, series: Vec<Series> },
    Rows(Vec<Row>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub subject: String,
    /// By rising x.
    pub points: Vec<(f64, Summary)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub label: String,
    pub subject: String,
    pub summary: Summary,
    pub samples: Vec<f64>,
}

/// In reading order.
pub fn sections(report: &Report) -> Vec<Section<'_>> {
    let mut members: Vec<(&str, Vec<Member<'_>>)> = Vec::new();
    for figure in &report.figures {
        let (family, variant) = words::family(&figure.measure);
        let mut conditions = figure.conditions.clone();
        if let Some((key, value)) = variant {
            conditions.entry(key.into()).or_insert_with(|| value.into());
        }
        let member = Member { figure, conditions };
        match members.iter_mut().find(|(known, _)| *known == family) {
            Some((_, all)) => all.push(member),
            None => members.push((family, vec![member])),
        }
    }
    members.sort_by_key(|(family, _)| words::rank(family));
    members
        .into_iter()
        .map(|(family, members)| section(report, family, members))
        .collect()
}

/// Every subject of the report, in the order of a legend.
pub fn subjects(report: &Report) -> Vec<String> {
    let mut subjects: Vec<String> = Vec::new();
    for figure in &report.figures {
        if !subjects.contains(&figure.subject) {
            subjects.push(figure.subject.clone());
        }
    }
    subjects.sort_by_key(|subject| subject_rank(subject));
    subjects
}

fn subject_rank(subject: &str) -> usize {
    let known = [
        "direct",
        "vetch",
        "iptables",
        "nftables",
        "kube-proxy-iptables",
        "kube-proxy-nftables",
        "coredns-published",
    ];
    known
        .iter()
        .position(|name| *name == subject)
        .unwrap_or(known.len())
}

fn section<'a>(report: &Report, family: &str, members: Vec<Member<'a>>) -> Section<'a> {
    let varying = words::differing(members.iter().map(|member| &member.conditions));
    let constants = words::conditions(&members[0].conditions, |key| !varying.contains(key));
    let mut panels = panels(report, &members, &varying, None);
    let direct = members.iter().any(|member| member.figure.subject == DIRECT);
    let others = members.iter().any(|member| member.figure.subject != DIRECT);
    // Latencies stand as they are: their ratios are in the tables.
    let quantiles = members
        .iter()
        .any(|m| m.conditions.contains_key("quantile"));
    if direct && others && !quantiles {
        panels.extend(self::panels(report, &members, &varying, Some(DIRECT)));
    }
    Section {
        title: words::title(family),
        constants: constants.join(", "),
        varying,
        members,
        panels,
    }
}

/// One value to draw.
struct Drawn<'a> {
    member: &'a Member<'a>,
    summary: Summary,
    samples: Vec<f64>,
}

fn panels(
    report: &Report,
    members: &[Member<'_>],
    varying: &BTreeSet<String>,
    over: Option<&str>,
) -> Vec<Panel> {
    let axis = axis(members, varying);
    let subjects: BTreeSet<_> = members.iter().map(|m| m.figure.subject.as_str()).collect();
    // Without an axis and with one subject, the conditions are the rows.
    let conditions_are_rows = axis.is_none() && subjects.len() == 1;
    let mut groups: Vec<(Vec<String>, &str, Vec<Drawn<'_>>)> = Vec::new();
    for member in members {
        let Some(value) = value(report, member, over) else {
            continue;
        };
        let mut title = words::conditions(&member.conditions, |key| {
            varying.contains(key) && Some(key) != axis && !conditions_are_rows
        });
        if title.is_empty() {
            title = words::conditions(&member.conditions, |key| {
                !varying.contains(key) && Some(key) != axis
            });
        }
        let unit = member.figure.unit.as_str();
        match groups
            .iter_mut()
            .find(|group| group.0 == title && group.1 == unit)
        {
            Some(group) => group.2.push(value),
            None => groups.push((title, unit, vec![value])),
        }
    }
    let panel = |(title, unit, values): (Vec<String>, &str, Vec<Drawn<'_>>)| {
        let figure = values[0].member.figure;
        let label = |value: &Drawn<'_>| {
            let words = words::conditions(&value.member.conditions, |key| varying.contains(key));
            match conditions_are_rows && !words.is_empty() {
                true => words.join(", "),
                false => value.member.figure.subject.clone(),
            }
        };
        Panel {
            title: title.join(" · "),
            unit: match over {
                Some(over) => format!("× {over}"),
                None => unit.into(),
            },
            better: figure.better,
            is_ratio: over.is_some(),
            rules: match over {
                Some(over) => rules(report, over, &values),
                None => limits(report, &values),
            },
            body: match axis {
                Some(axis) => lines(axis, &values),
                None => rows(&values, label),
            },
        }
    };
    groups.into_iter().map(panel).collect()
}

fn value<'a>(report: &Report, member: &'a Member<'a>, over: Option<&str>) -> Option<Drawn<'a>> {
    let samples = match over {
        None => member.figure.present(),
        Some(over) if member.figure.subject == over => return None,
        Some(over) => {
            let other = beside(report, member.figure, over)?;
            ratio(&member.figure.samples, &other.samples)
        }
    };
    let samples: Vec<f64> = samples
        .into_iter()
        .filter(|sample| sample.is_finite())
        .collect();
    Some(Drawn {
        member,
        summary: Summary::of(&samples)?,
        samples,
    })
}

fn rules(report: &Report, over: &str, values: &[Drawn<'_>]) -> Vec<Rule> {
    let aim = values
        .iter()
        .find_map(|value| over_direct(&report.bench, value.member.figure));
    let mut rules = vec![Rule {
        at: 1.0,
        label: over.into(),
    }];
    match aim {
        Some(1.0) => rules[0].label = format!("{over}, aim"),
        Some(at) => rules.push(Rule {
            at,
            label: format!("aim {at:.2}"),
        }),
        None => {}
    }
    rules
}

/// The aim of one of these figures, in their unit.
fn limits(report: &Report, values: &[Drawn<'_>]) -> Vec<Rule> {
    let limit = |value: &Drawn<'_>| limit(&report.bench, value.member.figure);
    let found = values.iter().find_map(limit);
    found
        .into_iter()
        .map(|(at, label)| Rule { at, label })
        .collect()
}

/// The numeric condition that takes more than one value.
fn axis<'a>(members: &[Member<'_>], varying: &'a BTreeSet<String>) -> Option<&'a str> {
    let numeric = |key: &str| {
        members
            .iter()
            .all(|member| member.conditions.get(key).is_some_and(Value::is_number))
    };
    let known = AXES
        .iter()
        .find_map(|axis| varying.get(*axis).filter(|key| numeric(key)));
    known
        .or_else(|| varying.iter().find(|key| numeric(key)))
        .map(String::as_str)
}

fn lines(axis: &str, values: &[Drawn<'_>]) -> Body {
    let mut series: Vec<Series> = Vec::new();
    for value in values {
        let Some(x) = value.member.conditions.get(axis).and_then(Value::as_f64) else {
            continue;
        };
        let subject = &value.member.figure.subject;
        let point = (x, value.summary);
        match series.iter_mut().find(|series| series.subject == *subject) {
            Some(series) => series.points.push(point),
            None => series.push(Series {
                subject: subject.clone(),
                points: vec![point],
            }),
        }
    }
    for series in &mut series {
        series
            .points
            .sort_by(|one, other| one.0.total_cmp(&other.0));
    }
    series.sort_by_key(|series| subject_rank(&series.subject));
    Body::Lines {
        axis: axis.into(),
        series,
    }
}

fn rows(values: &[Drawn<'_>], label: impl Fn(&Drawn<'_>) -> String) -> Body {
    let row = |value: &Drawn<'_>| Row {
        label: label(value),
        subject: value.member.figure.subject.clone(),
        summary: value.summary,
        samples: value.samples.clone(),
    };
    let mut rows: Vec<Row> = values.iter().map(row).collect();
    rows.sort_by_key(|row| subject_rank(&row.subject));
    Body::Rows(rows)
}
