//! When, where and how it was run.

use std::collections::BTreeMap;

use maud::{Markup, html};
use serde_json::Value;
use vetch_bench_record::{Machine, Report};

use crate::{number, words};

/// Under the title.
pub fn byline(report: &Report) -> Markup {
    let machine = &report.machine;
    let parts = [
        report.started.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        machine.cluster.clone(),
        match machine.kernel.is_empty() {
            true => String::new(),
            false => format!("Linux {}", machine.kernel),
        },
        report.tool.clone(),
    ];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    html! { p.byline { (parts.join(" · ")) } }
}

/// Nobody takes half a run for a whole one.
pub fn banner(report: &Report) -> Markup {
    html! {
        @if !report.complete {
            div.banner role="note" {
                strong { "This run is incomplete." }
                " It was ended early: the page shows what was measured until then, and some figures have fewer rounds than others."
            }
        }
    }
}

pub fn run(report: &Report) -> Markup {
    html! {
        h3 { "To repeat it" }
        pre.command tabindex="0" { code { (command(&report.command)) } }
        div.columns {
            div {
                h3 { "Machine" }
                (pairs(machine(&report.machine)))
            }
            div {
                h3 { "Settings" }
                (settings(&report.settings))
            }
            div {
                h3 { "Run" }
                (pairs(vec![
                    ("started", report.started.to_string()),
                    ("finished", report.finished.to_string()),
                    ("duration", duration(report)),
                    ("complete", if report.complete { "yes" } else { "no" }.into()),
                    ("made by", report.tool.clone()),
                ]))
            }
        }
        h3 { "Not measured" }
        @if report.skipped.is_empty() {
            p { "All that was asked for was measured." }
        } @else {
            ul.skipped {
                @for skipped in &report.skipped {
                    li { strong { (skipped.what) } ": " (skipped.why) }
                }
            }
        }
        h3 { "How to read it" }
        p {
            "Each sample was taken beside the samples of the other subjects in the same round. A median stands with its first and third quartile in brackets. Ratios are made round by round, and the median is of those ratios. "
            "An aim is met or missed when both quartiles are on one side of it; else, and with fewer than three rounds, it cannot be told. "
            "All samples are in this page, as JSON in the element "
            code { "script#report" }
            ", and in " code { "report.json" } " beside it."
        }
    }
}

fn pairs(pairs: Vec<(&str, String)>) -> Markup {
    html! {
        dl {
            @for (name, value) in pairs.into_iter().filter(|pair| !pair.1.is_empty()) {
                dt { (name) } dd { (value) }
            }
        }
    }
}

fn machine(machine: &Machine) -> Vec<(&'static str, String)> {
    let count = |number: u64, shown: String| if number == 0 { String::new() } else { shown };
    let memory = number::value(machine.memory_bytes as f64 / f64::from(1 << 30));
    vec![
        ("kernel", machine.kernel.clone()),
        ("distribution", machine.distribution.clone()),
        ("processor", machine.processor.clone()),
        (
            "processors",
            count(machine.processors.into(), machine.processors.to_string()),
        ),
        (
            "memory",
            count(machine.memory_bytes, format!("{memory} GiB")),
        ),
        ("cluster", machine.cluster.clone()),
    ]
}

fn settings(settings: &BTreeMap<String, Value>) -> Markup {
    let shown = |value: &Value| match value {
        Value::Array(items) => items
            .iter()
            .map(words::plain)
            .collect::<Vec<_>>()
            .join(", "),
        other => words::plain(other),
    };
    html! {
        @if settings.is_empty() { p { "None." } }
        dl { @for (name, value) in settings { dt { (name) } dd { (shown(value)) } } }
    }
}

fn duration(report: &Report) -> String {
    let seconds = report
        .finished
        .duration_since(report.started)
        .as_secs()
        .max(0);
    match seconds {
        s if s >= 3600 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        s if s >= 60 => format!("{} min {} s", s / 60, s % 60),
        s => format!("{s} s"),
    }
}

/// As a shell takes it.
fn command(words: &[String]) -> String {
    let quoted = |word: &String| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%".contains(c);
        match !word.is_empty() && word.chars().all(is_plain) {
            true => word.clone(),
            false => format!("'{}'", word.replace('\'', r"'\''")),
        }
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_what_a_shell_takes() {
        let words = [
            "vetch-bench",
            "service",
            "--services",
            "1,1000",
            "--out",
            "my dir",
            "it's",
            "",
        ];
        assert_eq!(
            command(&words.map(String::from)),
            r"vetch-bench service --services 1,1000 --out 'my dir' 'it'\''s' ''"
        );
    }
}
