//! A panel → SVG.
//!
//! Ours rather than a plotting crate's: those write colours and font sizes into every element,
//! while these carry classes, so that one drawing follows the theme of the reader, and are drawn
//! at the width of a small screen, so that their text never shrinks below what can be read.

use maud::{Markup, html};
use vetch_bench_record::{Better, Summary};

use crate::number;
use crate::panels::{Body, Panel};

mod lines;
mod mark;
mod rows;
mod scale;

pub use mark::{Styles, legend_mark};

/// In units of the drawing, which are pixels at 390.
const WIDTH: f64 = 356.0;

pub fn draw(panel: &Panel, title: &str, styles: &Styles) -> Markup {
    let name = format!("{title}, {}", unit(panel));
    match &panel.body {
        Body::Lines { axis, series } => lines::draw(panel, &name, axis, series, styles),
        Body::Rows(rows) => rows::draw(panel, &name, rows, styles),
    }
}

/// `requests/s, higher is better`.
pub fn unit(panel: &Panel) -> String {
    let better = match panel.better {
        Better::Higher => "higher is better",
        Better::Lower => "lower is better",
    };
    format!("{}, {better}", panel.unit)
}

/// How many times the lowest value the highest is before an axis goes by decades. Rates are read
/// from zero as long as they can be; times and sizes grow by factors.
fn wide(panel: &Panel) -> f64 {
    match panel.better {
        Better::Higher => 40.0,
        Better::Lower => 6.0,
    }
}

/// The subjects a panel shows.
pub fn subjects(panel: &Panel) -> Vec<&str> {
    let all: Vec<&str> = match &panel.body {
        Body::Lines { series, .. } => series.iter().map(|s| s.subject.as_str()).collect(),
        Body::Rows(rows) => rows.iter().map(|row| row.subject.as_str()).collect(),
    };
    let mut once: Vec<&str> = Vec::new();
    for subject in all {
        if !once.contains(&subject) {
            once.push(subject);
        }
    }
    once
}

fn svg(name: &str, height: f64, content: &Markup) -> Markup {
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {height}")) role="img" aria-label=(name) {
            (content)
        }
    }
}

/// A coordinate, short.
fn at(number: f64) -> String {
    format!("{number:.1}")
}

/// What the pointer is told.
fn tip(panel: &Panel, summary: &Summary) -> String {
    let show = |value| match panel.is_ratio {
        true => format!("{value:.3}"),
        false => number::value(value),
    };
    let spread = number::spread_of(summary, &panel.unit, show);
    format!("{spread}, n = {}", summary.count)
}

#[cfg(test)]
mod tests;
