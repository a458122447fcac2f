use jiff::Timestamp;
use vetch_bench_record::{Better, Figure, Machine, SCHEMA, Skipped};

use super::*;

const HOSTILE: &str = "</script><script>alert(1)</script>\"'&";

fn report() -> Report {
    Report {
        schema: SCHEMA,
        bench: "service".into(),
        tool: "vetch-bench 0.1.0".into(),
        command: vec!["vetch-bench".into(), "service".into()],
        started: Timestamp::UNIX_EPOCH,
        finished: Timestamp::UNIX_EPOCH,
        complete: true,
        machine: Machine::default(),
        settings: [("seconds".to_owned(), 3.into())].into(),
        figures: Vec::new(),
        skipped: Vec::new(),
    }
}

fn keepalive(subject: &str, services: u32) -> Figure {
    Figure::new("keepalive", subject, "requests/s", Better::Higher)
        .with("placement", "same-node")
        .with("frontend", "ClusterIP")
        .with("services", services)
}

fn measured() -> Report {
    let mut report = report();
    for round in 0..3 {
        for services in [1, 1000] {
            report.add(
                keepalive("direct", services),
                round,
                Some(100.0 + round as f64),
            );
            report.add(
                keepalive("vetch", services),
                round,
                Some(120.0 + round as f64),
            );
        }
    }
    report
}

#[test]
fn the_page_has_its_parts_in_order() {
    let page = page(&measured());
    let parts = [
        "<!DOCTYPE html>",
        "<h1>Vetch benchmark: service</h1>",
        "id=\"verdicts\"",
        "keep-alive through the ClusterIP runs at",
        "id=\"plots\"",
        "<svg viewBox",
        "id=\"figures\"",
        "≥ 1.15 × direct",
        "id=\"run\"",
        "vetch-bench service",
        "<script type=\"application/json\" id=\"report\">",
    ];
    let mut from = 0;
    for part in parts {
        let found = page[from..].find(part);
        from += found.unwrap_or_else(|| panic!("{part} is missing or out of order"));
    }
    assert!(!page.contains("incomplete"));
}

#[test]
fn one_line_a_subject_and_a_ratio_beside() {
    let page = page(&measured());
    // Rates have two lines, the ratio has one.
    assert_eq!(page.matches("class=\"series ").count(), 3);
    assert_eq!(page.matches("class=\"point\"").count(), 6);
    assert!(page.contains("÷ direct"));
    assert!(page.contains("aim 1.15"));
}

#[test]
fn nothing_is_loaded_and_nothing_runs() {
    let page = page(&measured());
    for word in [
        "http://", "https://", "src=", "@import", "url(", "onclick", "onload",
    ] {
        assert!(!page.contains(word), "{word}");
    }
    assert_eq!(page.matches("<script").count(), 1);
}

#[test]
fn the_raw_report_is_read_back_from_the_page() {
    let mut report = measured();
    report.machine.cluster = HOSTILE.into();
    let page = page(&report);
    let (_, rest) = page.split_once("id=\"report\">").unwrap();
    let (json, _) = rest.split_once("</script>").unwrap();
    assert_eq!(serde_json::from_str::<Report>(json).unwrap(), report);
}

#[test]
fn hostile_names_stay_text() {
    let mut report = measured();
    for text in [
        &mut report.bench,
        &mut report.tool,
        &mut report.machine.kernel,
    ] {
        *text = HOSTILE.into();
    }
    report.command.push(HOSTILE.into());
    report.settings.insert(HOSTILE.into(), HOSTILE.into());
    report.skipped.push(Skipped {
        what: HOSTILE.into(),
        why: HOSTILE.into(),
    });
    let figure = Figure::new(HOSTILE, HOSTILE, HOSTILE, Better::Lower).with(HOSTILE, HOSTILE);
    report.add(figure.clone().with("services", 1), 0, Some(1.0));
    report.add(figure.with("services", 2), 0, Some(1.0));
    let page = page(&report);
    assert_eq!(page.matches("<script").count(), 1);
    assert_eq!(page.matches("</script").count(), 1);
    assert!(page.contains("&lt;script&gt;alert(1)"));
}

#[test]
fn half_a_run_and_what_it_lacks_is_said() {
    let mut report = measured();
    report.complete = false;
    report.skipped.push(Skipped {
        what: "nftables".into(),
        why: "the kernel has no nf_tables".into(),
    });
    report.add(keepalive("iptables", 1), 0, None);
    let page = page(&report);
    assert!(page.contains("This run is incomplete."));
    assert!(page.contains("<strong>nftables</strong>: the kernel has no nf_tables"));
    assert!(page.contains("<td>iptables</td><td class=\"number\">–</td>"));
}

#[test]
fn an_empty_report_is_a_page_too() {
    let page = page(&report());
    assert!(page.contains("There is no sample to draw."));
    assert!(page.contains("not measured in this run"));
}

#[test]
fn measures_nobody_named_here_are_shown() {
    let mut report = report();
    report.bench = "api".into();
    for (measure, quantile) in [
        ("watch-lag-p50", 1.0),
        ("watch-lag-p99", 4.0),
        ("step-image", 2.0),
    ] {
        report.add(
            Figure::new(measure, "vetch", "ms", Better::Lower),
            0,
            Some(quantile),
        );
    }
    let page = page(&report);
    for words in [
        "Watch lag",
        "p99",
        "Steps of a pod",
        "image",
        "no aim is set",
    ] {
        assert!(page.contains(words), "{words}");
    }
}
