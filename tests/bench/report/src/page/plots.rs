//! Every panel, in a grid that is one column wide on a small screen.

use maud::{Markup, html};

use crate::panels::{Body, Panel, Section};
use crate::plot::{self, Styles, legend_mark};
use crate::words;

/// So few panels share a grid with those of other sections.
const FEW: usize = 2;

pub fn draw(sections: &[Section<'_>], styles: &Styles) -> Markup {
    let (alone, several): (Vec<_>, Vec<_>) = sections
        .iter()
        .partition(|section| section.panels.len() <= FEW);
    let alone: Vec<_> = alone
        .into_iter()
        .flat_map(|section| section.panels.iter().map(move |panel| (section, panel)))
        .collect();
    html! {
        @if alone.is_empty() && several.is_empty() { p { "There is no sample to draw." } }
        @for section in &several {
            h3 { (section.title) }
            @if !section.constants.is_empty() { p.note { (section.constants) } }
            div.grid {
                @for panel in &section.panels { (figure(panel, &section.title, &panel.title, styles)) }
            }
        }
        @if !alone.is_empty() {
            @if !several.is_empty() { h3 { "More measures" } }
            div.grid {
                @for (section, panel) in alone { (figure(panel, &section.title, &title(section, panel), styles)) }
            }
        }
    }
}

/// A panel away from its kin says what it shows.
fn title(section: &Section<'_>, panel: &Panel) -> String {
    match panel.title.is_empty() {
        true => section.title.clone(),
        false => format!("{} · {}", section.title, panel.title),
    }
}

fn figure(panel: &Panel, section: &str, title: &str, styles: &Styles) -> Markup {
    let name = match panel.title.is_empty() {
        true => section.to_owned(),
        false => format!("{section}, {}", panel.title),
    };
    let over = match panel.is_ratio {
        true => panel.unit.replacen('×', "÷", 1),
        false => String::new(),
    };
    let heading = words::capital(format!("{title} {over}").trim());
    let with_line = matches!(panel.body, Body::Lines { .. });
    html! {
        figure.plot {
            figcaption { (if heading.is_empty() { section } else { &heading }) }
            (plot::draw(panel, &name, styles))
            // Rows carry their names; lines need a legend.
            @if with_line {
                p.legend {
                    @for subject in plot::subjects(panel) {
                        span { (legend_mark(styles.get(subject), true)) (subject) }
                    }
                }
            }
        }
    }
}
