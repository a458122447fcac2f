//! A line a subject, over the number of services or the like.

use maud::{Markup, html};

use super::scale::Scale;
use super::{Styles, WIDTH, at, svg, tip};
use crate::number;
use crate::panels::{Panel, Series};

const HEIGHT: f64 = 236.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 40.0;

pub fn draw(panel: &Panel, name: &str, axis: &str, series: &[Series], styles: &Styles) -> Markup {
    let points = || series.iter().flat_map(|series| &series.points);
    let mut xs: Vec<f64> = points().map(|point| point.0).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    let mut ys: Vec<f64> = points()
        .flat_map(|(_, found)| [found.low, found.high])
        .collect();
    ys.extend(panel.rules.iter().map(|rule| rule.at));
    let x = Scale::across(&xs, LEFT + 14.0, WIDTH - RIGHT - 14.0);
    let (bottom, top) = (HEIGHT - BOTTOM, TOP);
    let y = match panel.is_ratio {
        true => Scale::around(&ys, bottom, top),
        false => Scale::up(&ys, bottom, top),
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
            text.rule-name x=(WIDTH - RIGHT) y=(at(y.place(rule.at) - 4.0)) text-anchor="end" {
                (rule.label)
            }
        }
        @for (index, one) in series.iter().enumerate() {
            @let style = styles.get(&one.subject);
            // Spreads of one x stand side by side.
            @let aside = (index as f64 - (series.len() as f64 - 1.0) / 2.0) * 3.0;
            g class=(format!("series {}", style.class())) data-subject=(one.subject) {
                path.line d=(line(one, &x, &y, aside)) {}
                @for (value, found) in &one.points {
                    @let place = x.place(*value) + aside;
                    g.point {
                        path.spread d=(format!("M{} {}V{}", at(place), at(y.place(found.low)), at(y.place(found.high)))) {}
                        (style.mark(place, y.place(found.median)))
                        title { (one.subject) ", " (number::value(*value)) " " (axis) ": " (tip(panel, found)) }
                    }
                }
            }
        }
    };
    svg(name, HEIGHT, &content)
}

fn line(series: &Series, x: &Scale, y: &Scale, aside: f64) -> String {
    let place = |(value, found): &(f64, vetch_bench_record::Summary)| {
        format!(
            "{} {}",
            at(x.place(*value) + aside),
            at(y.place(found.median))
        )
    };
    let places: Vec<String> = series.points.iter().map(place).collect();
    format!("M{}", places.join("L"))
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
