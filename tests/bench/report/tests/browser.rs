//! The page in a real browser: Debian's chromium, at two widths, light and dark.

use std::collections::BTreeSet;
use std::path::Path;
use std::{env, fs};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use serde::Deserialize;
use vetch_bench_record::Report;

use devtools::Browser;

#[path = "browser/devtools.rs"]
mod devtools;
#[path = "common/synthetic.rs"]
mod synthetic;

#[derive(Debug, Deserialize)]
struct Seen {
    viewport: f64,
    document: f64,
    texts: usize,
    smallest: Text,
    faintest: Text,
    plots: Vec<Plot>,
    colours: Vec<String>,
    raw: usize,
}

#[derive(Debug, Deserialize)]
struct Text {
    text: String,
    size: f64,
    contrast: f64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Plot {
    name: String,
    width: f64,
    height: f64,
    series: Vec<String>,
    marks: usize,
    drawn: usize,
    mark_contrast: f64,
    outside: Vec<String>,
    covered: Vec<String>,
}

#[test]
fn many_numbers_of_services() -> Result<()> {
    let services = [1, 10, 100, 1000, 10_000];
    let report = synthetic::service(&services, 8);
    for seen in look("many", &report)? {
        // Rates and ratios at four places, latencies there for three quantiles.
        let of = |title: &str| -> Vec<&Plot> {
            seen.plots
                .iter()
                .filter(|plot| plot.name.starts_with(title))
                .collect()
        };
        assert_eq!(of("Keep-alive requests").len(), 8);
        assert_eq!(of("Keep-alive latency").len(), 12);
        assert_eq!(of("Memory of the maps").len(), 1);
        for plot in of("Keep-alive requests") {
            let ratio = plot.name.contains("× direct");
            let wanted: &[&str] = match ratio {
                true => &["iptables", "nftables", "vetch"],
                false => &["direct", "iptables", "nftables", "vetch"],
            };
            assert_eq!(plot.series, wanted, "{}", plot.name);
            assert_eq!(plot.marks, wanted.len() * services.len(), "{}", plot.name);
        }
    }
    Ok(())
}

#[test]
fn one_number_of_services_in_an_incomplete_run() -> Result<()> {
    let mut report = synthetic::service(&[1000], 4);
    report.complete = false;
    for seen in look("one", &report)? {
        let rates = seen
            .plots
            .iter()
            .filter(|plot| plot.name.starts_with("Keep-alive requests"));
        for plot in rates {
            assert_eq!(
                plot.marks,
                plot.series.len(),
                "a row a subject in {}",
                plot.name
            );
        }
    }
    Ok(())
}

#[test]
fn pods_with_one_subject() -> Result<()> {
    for seen in look("pods", &synthetic::pods(5))? {
        let marks = |title: &str| -> usize {
            let plots = seen
                .plots
                .iter()
                .filter(|plot| plot.name.starts_with(title));
            plots.map(|plot| plot.marks).sum()
        };
        assert_eq!(marks("Created to Ready"), 4);
        assert_eq!(marks("Steps of a pod"), 8);
        assert_eq!(marks("Memory of the daemon"), 6);
    }
    Ok(())
}

/// Holds the page at each width and theme against what every page has to keep.
fn look(name: &str, report: &Report) -> Result<Vec<Seen>> {
    ensure!(
        chromium_is_here(),
        "there is no `chromium` to look at the page with: `apt-get install chromium`, or `cargo xtask test`, which does that"
    );
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("report.html");
    fs::write(&file, vetch_bench_report::page(report))?;
    let url = format!("file://{}", file.display());
    let mut browser = Browser::start()?;
    let mut all = Vec::new();
    for width in [390, 1400] {
        let mut colours = BTreeSet::new();
        for scheme in ["light", "dark"] {
            let seen = see(&mut browser, &url, width, scheme, name)
                .with_context(|| format!("{width} pixels, {scheme}"))?;
            let at = format!("{name}, {width} pixels, {scheme}");
            check(&seen, width, report).with_context(|| at.clone())?;
            ensure!(
                colours.insert(seen.colours.clone()),
                "{at}: both themes look the same"
            );
            all.push(seen);
        }
    }
    Ok(all)
}

fn see(browser: &mut Browser, url: &str, width: u32, scheme: &str, name: &str) -> Result<Seen> {
    browser.emulate(width, scheme)?;
    browser.open(url)?;
    // For people: VETCH_PAGE_PICTURES=DIR keeps what the browser drew.
    if let Some(folder) = env::var_os("VETCH_PAGE_PICTURES") {
        let pictures = browser.pictures(width, 1500)?;
        for (index, picture) in pictures.iter().enumerate() {
            let picture = base64::engine::general_purpose::STANDARD.decode(picture)?;
            let file = format!("{name}-{width}-{scheme}-{index:02}.png");
            fs::write(Path::new(&folder).join(file), picture)?;
        }
    }
    let seen = browser.evaluate(include_str!("browser/measure.js"))?;
    let complaints = browser.complaints();
    ensure!(complaints.is_empty(), "the page complains: {complaints:#?}");
    serde_json::from_value(seen).context("read what was measured")
}

fn check(seen: &Seen, width: u32, report: &Report) -> Result<()> {
    ensure!(
        seen.viewport == f64::from(width),
        "the viewport is {} wide",
        seen.viewport
    );
    ensure!(
        seen.document <= seen.viewport,
        "the page is {} wide",
        seen.document
    );
    ensure!(seen.texts > 100, "only {} pieces of text", seen.texts);
    ensure!(seen.smallest.size >= 10.0, "too small: {:?}", seen.smallest);
    ensure!(
        seen.faintest.contrast >= 4.5,
        "too faint: {:?} {}",
        seen.faintest,
        seen.faintest.text
    );
    ensure!(
        seen.raw == report.figures.len(),
        "the raw report has {} figures",
        seen.raw
    );
    ensure!(!seen.plots.is_empty(), "no plot");
    for plot in &seen.plots {
        let room = plot.width >= 300.0 && plot.height >= 60.0;
        ensure!(room, "no room: {plot:?}");
        ensure!(
            plot.marks > 0 && plot.drawn == plot.marks,
            "marks are not drawn: {plot:?}"
        );
        ensure!(plot.mark_contrast >= 3.0, "marks are too faint: {plot:?}");
        ensure!(plot.outside.is_empty(), "reaches out of its plot: {plot:?}");
        ensure!(plot.covered.is_empty(), "words cover each other: {plot:?}");
    }
    Ok(())
}

fn chromium_is_here() -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join("chromium").is_file())
}
