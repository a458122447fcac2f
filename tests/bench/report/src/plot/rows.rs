//! A row a subject (or a set of conditions): its samples, their quartiles and their median.

use maud::{Markup, html};

use super::scale::Scale;
use super::{Styles, WIDTH, at, svg, tip};
use crate::number;
use crate::panels::{Panel, Row};

const LEFT: f64 = 10.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 22.0;
const ROW: f64 = 36.0;
const BOTTOM: f64 = 22.0;
/// Letters that fit beside the value.
const LABEL: usize = 40;

pub fn draw(panel: &Panel, name: &str, rows: &[Row], styles: &Styles) -> Markup {
    let mut values: Vec<f64> = rows.iter().flat_map(|row| row.samples.clone()).collect();
    values.extend(panel.rules.iter().map(|rule| rule.at));
    let x = match panel.is_ratio {
        true => Scale::around(&values, LEFT, WIDTH - RIGHT),
        false => Scale::up(&values, super::wide(panel), LEFT, WIDTH - RIGHT),
    };
    // Above the rows, the names of the rules.
    let names = if panel.rules.is_empty() { 0.0 } else { 16.0 };
    let top = TOP + names;
    let bottom = top + ROW * rows.len() as f64 + 4.0;
    let content = html! {
        text.unit x="2" y="13" { (super::unit(panel)) @if x.is_log() { ", log" } }
        g.grid {
            @for tick in x.ticks() {
                path d=(format!("M{} {top}V{bottom}", at(x.place(tick)))) {}
                text.tick x=(at(x.place(tick))) y=(bottom + 15.0) text-anchor=(anchor(x.place(tick))) {
                    (number::compact(tick))
                }
            }
        }
        @for rule in &panel.rules {
            path.rule d=(format!("M{} {}V{bottom}", at(x.place(rule.at)), top - 2.0)) {}
        }
        @for (rule, place) in rule_names(panel, &x) {
            text.rule-name x=(at(place)) y=(top - 6.0) text-anchor=(anchor(place)) { (rule) }
        }
        @for (index, row) in rows.iter().enumerate() {
            @let style = styles.get(&row.subject);
            @let base = top + ROW * index as f64;
            @let y = base + 25.0;
            g class=(format!("series {}", style.class())) data-subject=(row.subject) {
                text.row-name x=(LEFT) y=(base + 13.0) { (cut(&row.label)) }
                text.row-value x=(WIDTH - RIGHT) y=(base + 13.0) text-anchor="end" { (shown(panel, row)) }
                @if !panel.is_ratio && !x.is_log() {
                    path.stem d=(format!("M{} {}H{}", at(x.place(0.0)), at(y), at(x.place(row.summary.median)))) {}
                }
                g.point {
                    @for sample in &row.samples {
                        circle.sample cx=(at(x.place(*sample))) cy=(at(y)) r="2.2" {}
                    }
                    path.spread d=(format!("M{} {}H{}", at(x.place(row.summary.low)), at(y), at(x.place(row.summary.high)))) {}
                    (style.mark(x.place(row.summary.median), y))
                    title { (row.label) ": " (tip(panel, &row.summary)) }
                }
            }
        }
    };
    svg(name, bottom + BOTTOM, &content)
}

fn shown(panel: &Panel, row: &Row) -> String {
    match panel.is_ratio {
        true => format!("{:.2}", row.summary.median),
        false => number::value(row.summary.median),
    }
}

/// Names near an edge stay inside the drawing.
fn anchor(place: f64) -> &'static str {
    match place {
        place if place < 24.0 => "start",
        place if place > WIDTH - 28.0 => "end",
        _ => "middle",
    }
}

/// Names of rules that stand close together are one name, or they would cover each other.
fn rule_names(panel: &Panel, x: &Scale) -> Vec<(String, f64)> {
    let mut names: Vec<(String, f64)> = Vec::new();
    for rule in &panel.rules {
        let place = x.place(rule.at);
        match names.last_mut() {
            Some((name, last)) if (place - *last).abs() < 64.0 => {
                *name = format!("{name} | {}", rule.label);
                *last = (*last + place) / 2.0;
            }
            _ => names.push((rule.label.clone(), place)),
        }
    }
    names
}

fn cut(label: &str) -> String {
    if label.chars().count() <= LABEL {
        return label.to_owned();
    }
    let kept: String = label.chars().take(LABEL - 1).collect();
    format!("{kept}…")
}
