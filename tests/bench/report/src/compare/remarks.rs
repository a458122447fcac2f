//! What a reader has to know beside the numbers.

use std::collections::BTreeSet;

use serde_json::Value;
use vetch_bench_record::{Figure, Machine, Report};

use super::{Basis, Comparison, Finding, HALF_RATE, rank, shown};
use crate::aims::DIRECT;
use crate::{number, words};

pub fn other_unit(before: &Figure, after: &Figure) -> String {
    format!(
        "{} of {} is in {} before and in {} after, or better the other way: left out.",
        words::title(&before.measure),
        before.subject,
        before.unit,
        after.unit
    )
}

pub fn remarks(a: &Report, b: &Report, comparison: &Comparison) -> Vec<String> {
    let mut remarks = Vec::new();
    for (report, name) in [(a, "before"), (b, "after")] {
        if !report.complete {
            remarks.push(format!("The run {name} is incomplete."));
        }
    }
    let absolute = comparison
        .rows
        .iter()
        .any(|row| row.basis == Basis::Absolute);
    let machines = machines(&a.machine, &b.machine);
    if !machines.is_empty() {
        let mut remark = format!("The machines differ: {}.", machines.join("; "));
        if absolute {
            remark.push_str(" Figures without direct beside them are compared as they are, and tell of the machines too.");
        }
        remarks.push(remark);
    }
    remarks.extend(settings(a, b));
    if comparison.rows.is_empty() {
        remarks.push("The reports have no measured figure in common.".into());
    }
    for (figures, name) in [
        (&comparison.only_before, "before"),
        (&comparison.only_after, "after"),
    ] {
        if !figures.is_empty() {
            let count = figures.len();
            let only = if count == 1 {
                "figure is"
            } else {
                "figures are"
            };
            remarks.push(format!("{count} {only} only in the run {name}."));
        }
    }
    remarks.extend(direct(comparison));
    remarks.extend(power(comparison));
    remarks
}

fn machines(a: &Machine, b: &Machine) -> Vec<String> {
    let pairs = [
        ("kernel", a.kernel.clone(), b.kernel.clone()),
        (
            "distribution",
            a.distribution.clone(),
            b.distribution.clone(),
        ),
        ("processor", a.processor.clone(), b.processor.clone()),
        (
            "processors",
            a.processors.to_string(),
            b.processors.to_string(),
        ),
        // A guest's memory differs by what its kernel keeps.
        ("memory", gib(a), gib(b)),
        ("cluster", a.cluster.clone(), b.cluster.clone()),
    ];
    let differing = pairs
        .into_iter()
        .filter(|(_, before, after)| before != after);
    differing
        .map(|(what, before, after)| format!("{what} {before} → {after}"))
        .collect()
}

fn gib(machine: &Machine) -> String {
    let gib = machine.memory_bytes as f64 / f64::from(1 << 30);
    format!("{gib:.0} GiB")
}

fn settings(a: &Report, b: &Report) -> Option<String> {
    let keys: BTreeSet<&String> = a.settings.keys().chain(b.settings.keys()).collect();
    let differing: Vec<String> = keys
        .into_iter()
        .filter(|key| !follows_from_the_run(key, a, b))
        .filter(|key| a.settings.get(*key) != b.settings.get(*key))
        .map(|key| {
            format!(
                "{key} {} → {}",
                shown(a.settings.get(key)),
                shown(b.settings.get(key))
            )
        })
        .collect();
    (!differing.is_empty()).then(|| {
        format!(
            "The settings differ: {}. A change may come from them.",
            differing.join("; ")
        )
    })
}

/// What nobody set: the order of turns, and rates that are shares of what direct reached, unless
/// they are far apart.
fn follows_from_the_run(key: &str, a: &Report, b: &Report) -> bool {
    const FAR: f64 = 0.1;
    if key == "seed" {
        return true;
    }
    let rate = |report: &Report| report.settings.get(key).and_then(Value::as_f64);
    match (key.starts_with("rate "), rate(a), rate(b)) {
        (true, Some(one), Some(other)) => (one - other).abs() <= FAR * one.max(other),
        (rate, ..) => rate,
    }
}

/// Plain routing moved: that is the machine, or something that slows all traffic.
fn direct(comparison: &Comparison) -> Option<String> {
    let moved = comparison
        .pooled
        .iter()
        .filter(|p| p.subject == DIRECT && p.finding.is_change());
    let moved: Vec<String> = moved
        .map(|p| format!("{} {}", words::title(&p.measure), number::percent(p.change)))
        .collect();
    (!moved.is_empty()).then(|| {
        format!(
            "Plain routing itself moved ({}): the machine did, or something that all traffic passes. Ratios to direct leave that out.",
            moved.join("; ")
        )
    })
}

/// What this comparison could not have seen.
fn power(comparison: &Comparison) -> Option<String> {
    let asked: Vec<_> = comparison
        .rows
        .iter()
        .filter(|row| row.figure.subject != DIRECT)
        .collect();
    let enough = asked
        .iter()
        .filter(|row| row.finding != Finding::TooFewRounds)
        .count();
    let limit = HALF_RATE / enough.max(1) as f64;
    let rounds = asked
        .iter()
        .map(|row| row.before.count.min(row.after.count))
        .max()?;
    if rank::least_p(rounds, rounds) <= limit {
        return None;
    }
    let wanted = (rounds..=60).find(|n| rank::least_p(*n, *n) <= HALF_RATE / asked.len() as f64)?;
    let rounds = if rounds == 1 {
        "1 round".into()
    } else {
        format!("{rounds} rounds")
    };
    Some(format!(
        "With {rounds} at most, a change of one figure alone among {} cannot be told from chance; {wanted} rounds could.",
        asked.len()
    ))
}
