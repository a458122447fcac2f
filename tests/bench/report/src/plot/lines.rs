//! A line a subject, over the number of services or the like.

use maud::{Markup, html};

use super::scale::Scale;
use super::{Styles, WIDTH, at, svg, tip};
use vetch_bench_record::Summary;

use crate::aims::OURS;
use crate::number;
use crate::panels::{Panel, Rule, Series};

const HEIGHT: f64 = 236.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 14.0;
/// As wide as `aim 1.15`.
const NAMES: f64 = 62.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 40.0;

pub fn draw(panel: &Panel, name: &str, axis: &str, series: &[Series], styles: &Styles) -> Markup {
    let mut xs: Vec<f64> = points(series).map(|point| point.0).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    // Ratios end before the names of what they are held against. Limits are named at the left,
    // where times and sizes that grow are low.
    let room = if panel.is_ratio { NAMES } else { 14.0 };
    let x = Scale::across(&xs, LEFT + 14.0, WIDTH - RIGHT - room);
    let (bottom, top) = (HEIGHT - BOTTOM, TOP);
    let y = match panel.is_ratio {
        true => Scale::around(&focus(panel, series), bottom, top),
        false => Scale::up(&values(panel, series), super::wide(panel), bottom, top),
    };
    let content = html! {
        text.unit x="2" y="13" { (super::unit(panel)) @if y.is_log() { ", log" } }
        g.grid {
            @for tick in y.ticks() {
                path d=(format!("M{LEFT} {}H{}", at(y.place(tick)), WIDTH - RIGHT)) {}
                text.tick x=(LEFT - 6.0) y=(at(y.place(tick) + 4.0)) text-anchor="end" {
                    (number::compact(tick))
                }
            }
            @for tick in apart(&xs, &x) {
                path d=(format!("M{} {bottom}v4", at(x.place(tick)))) {}
                text.tick x=(at(x.place(tick))) y=(bottom + 17.0) text-anchor="middle" {
                    (number::compact(tick))
                }
            }
            text.tick x=((LEFT + WIDTH - RIGHT) / 2.0) y=(HEIGHT - 6.0) text-anchor="middle" {
                (axis.replace('-', " ")) @if x.is_log() { " (log)" }
            }
        }
        @for rule in &panel.rules {
            path.rule d=(format!("M{LEFT} {}H{}", at(y.place(rule.at)), WIDTH - RIGHT)) {}
        }
        @for (index, one) in drawing_order(series) {
            @let style = styles.get(&one.subject);
            // Spreads of one x stand side by side.
            @let aside = (index as f64 - (series.len() as f64 - 1.0) / 2.0) * 4.0;
            g class=(format!("series {}", style.class())) data-subject=(one.subject) {
                path.line d=(line(one, &x, &y, aside)) {}
                @for (value, found) in &one.points {
                    @let place = x.place(*value) + aside;
                    g.point {
                        path.spread d=(format!("M{} {}V{}", at(place), at(y.place(found.low)), at(y.place(found.high)))) {}
                        (style.mark(place, y.place(found.median)))
                        @if !y.holds(found.median) {
                            @let below = y.place(found.median) > top;
                            @let row = 12.0 * off_before(series, one, *value, &y);
                            text.off x=(at(place)) text-anchor="middle" y=(at(if below { bottom - 8.0 - row } else { top + 16.0 + row })) {
                                (if below { "↓" } else { "↑" }) (number::ratio(found.median, &[]))
                            }
                        }
                        title { (one.subject) ", " (number::value(*value)) " " (axis) ": " (tip(panel, found)) }
                    }
                }
            }
        }
        @for (label, place) in rule_names(&panel.rules, &y) {
            @if panel.is_ratio {
                text.rule-name x=(WIDTH - RIGHT) y=(at(place)) text-anchor="end" { (label) }
            } @else {
                text.rule-name x=(LEFT + 4.0) y=(at(place)) { (label) }
            }
        }
    };
    svg(name, HEIGHT, &content)
}

/// Ours last, so that nothing covers it; each with its place in the legend.
fn drawing_order(series: &[Series]) -> Vec<(usize, &Series)> {
    let mut order: Vec<(usize, &Series)> = series.iter().enumerate().collect();
    order.sort_by_key(|(_, series)| series.subject == OURS);
    order
}

fn points(series: &[Series]) -> impl Iterator<Item = &(f64, Summary)> {
    series.iter().flat_map(|series| &series.points)
}

fn values(panel: &Panel, series: &[Series]) -> Vec<f64> {
    let spreads = points(series).flat_map(|(_, found)| [found.low, found.high]);
    spreads
        .chain(panel.rules.iter().map(|rule| rule.at))
        .collect()
}

/// Our ratios, the levels they are held against, and what is near: one that is far off would
/// flatten all that matters. It is drawn at the edge, with its number.
fn focus(panel: &Panel, series: &[Series]) -> Vec<f64> {
    let ours: Vec<Series> = series
        .iter()
        .filter(|s| s.subject == OURS)
        .cloned()
        .collect();
    if ours.is_empty() {
        return values(panel, series);
    }
    let mut focus = values(panel, &ours);
    let low = focus.iter().copied().fold(f64::INFINITY, f64::min);
    let high = focus.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let reach = 1.5 * (high - low).max(0.1);
    let near = low - reach..=high + reach;
    let others = values(panel, series);
    focus.extend(others.into_iter().filter(|value| near.contains(value)));
    focus
}

/// How many that are drawn earlier have their number at the same edge and x.
fn off_before(series: &[Series], one: &Series, x: f64, y: &Scale) -> f64 {
    let order = drawing_order(series);
    let earlier = order
        .iter()
        .map(|(_, other)| *other)
        .take_while(|other| other.subject != one.subject);
    let is_off = |other: &&Series| {
        other
            .points
            .iter()
            .any(|(at, found)| *at == x && !y.holds(found.median))
    };
    earlier.filter(is_off).count() as f64
}

fn line(series: &Series, x: &Scale, y: &Scale, aside: f64) -> String {
    let place = |(value, found): &(f64, Summary)| {
        format!(
            "{} {}",
            at(x.place(*value) + aside),
            at(y.place(found.median))
        )
    };
    let places: Vec<String> = series.points.iter().map(place).collect();
    format!("M{}", places.join("L"))
}

/// The place of each name: over its line, or under it where the line above is too close for two.
fn rule_names<'a>(rules: &'a [Rule], y: &Scale) -> Vec<(&'a str, f64)> {
    let mut sorted: Vec<&Rule> = rules.iter().collect();
    sorted.sort_by(|one, other| other.at.total_cmp(&one.at));
    let mut above = f64::NEG_INFINITY;
    let mut names = Vec::new();
    for rule in sorted {
        let place = y.place(rule.at);
        let aside = if place - above < 15.0 { 12.0 } else { -4.0 };
        above = place;
        names.push((rule.label.as_str(), place + aside));
    }
    names
}

/// The ticks whose names have room beside one another; the last is always there.
fn apart(xs: &[f64], x: &Scale) -> Vec<f64> {
    let mut kept: Vec<f64> = Vec::new();
    for value in xs.iter().rev() {
        let room = kept
            .last()
            .is_none_or(|last| x.place(*last) - x.place(*value) >= 26.0);
        if room {
            kept.push(*value);
        }
    }
    kept
}
