//! The report as one HTML page: verdicts, plots, figures, how it was run. It loads nothing.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use vetch_bench_record::Report;

use crate::panels;
use crate::plot::Styles;
use crate::verdict::verdicts;

mod about;
mod figures;
mod plots;
mod verdict_list;

const STYLE: &str = include_str!("page/style.css");

/// Whole and self-contained; light or dark as its reader's system is.
pub fn page(report: &Report) -> String {
    let verdicts = verdicts(report);
    let sections = panels::sections(report);
    let styles = Styles::of(&panels::subjects(report));
    let title = format!("Vetch benchmark: {}", report.bench);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                // Without it a browser asks the server of the page for one.
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    header {
                        h1 { (title) }
                        (about::byline(report))
                        nav {
                            a href="#verdicts" { "Verdicts" }
                            a href="#plots" { "Plots" }
                            a href="#figures" { "Figures" }
                            a href="#run" { "How it was run" }
                        }
                    }
                    (about::banner(report))
                    section id="verdicts" { h2 { "Verdicts" } (verdict_list::draw(&verdicts)) }
                    section id="plots" { h2 { "Plots" } (plots::draw(&sections, &styles)) }
                    section id="figures" {
                        h2 { "Figures" }
                        (figures::draw(report, &sections, &verdicts))
                    }
                    section id="run" { h2 { "How it was run" } (about::run(report)) }
                }
                (raw(report))
            }
        }
    };
    page.into_string()
}

/// `report.json` itself, for programs that are handed only the page.
fn raw(report: &Report) -> Markup {
    // A map whose keys are strings and plain values: there is nothing that fails to serialise.
    let json = serde_json::to_string(report).unwrap_or_default();
    // Inside a script element nothing is escaped; only `<` could end it.
    let json = json.replace('<', "\\u003c");
    html! { script type="application/json" id="report" { (PreEscaped(json)) } }
}

#[cfg(test)]
mod tests;
