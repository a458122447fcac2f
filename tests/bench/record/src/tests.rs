use super::*;

fn report() -> Report {
    Report {
        schema: SCHEMA,
        bench: "service".into(),
        tool: "vetch-bench".into(),
        command: vec!["vetch-bench".into(), "service".into()],
        started: Timestamp::UNIX_EPOCH,
        finished: Timestamp::UNIX_EPOCH,
        complete: true,
        machine: Machine::default(),
        settings: BTreeMap::new(),
        figures: Vec::new(),
        skipped: Vec::new(),
    }
}

fn keepalive(subject: &str, services: u32) -> Figure {
    Figure::new("keepalive", subject, "requests/s", Better::Higher).with("services", services)
}

#[test]
fn samples_gather_in_the_figure_they_belong_to() {
    let mut report = report();
    report.add(keepalive("vetch", 1), 0, Some(10.0));
    report.add(keepalive("direct", 1), 0, Some(9.0));
    report.add(keepalive("vetch", 1000), 0, Some(8.0));
    report.add(keepalive("vetch", 1), 2, Some(12.0));
    assert_eq!(report.figures.len(), 3);
    let vetch = &report.figures[0];
    assert_eq!(vetch.samples, [Some(10.0), None, Some(12.0)]);
    assert_eq!(vetch.summary.map(|summary| summary.median), Some(11.0));
    assert!(vetch.is_beside(&report.figures[1]));
    assert!(!vetch.is_beside(&report.figures[2]));
}

#[test]
fn a_report_is_read_as_it_was_written() {
    let mut report = report();
    report.add(keepalive("vetch", 1), 1, Some(0.1 + 0.2));
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
}

#[test]
fn quantiles_are_interpolated() {
    for (samples, part, wanted) in [
        (&[][..], 0.5, None),
        (&[3.0], 0.99, Some(3.0)),
        (&[4.0, 1.0, 2.0, 3.0], 0.5, Some(2.5)),
        (&[4.0, 1.0, 2.0, 3.0], 0.25, Some(1.75)),
        (&[4.0, 1.0, 2.0, 3.0], 1.0, Some(4.0)),
    ] {
        assert_eq!(quantile(samples, part), wanted, "{samples:?} {part}");
    }
}

#[test]
fn ratios_are_of_the_same_round() {
    let above = [Some(10.0), None, Some(30.0), Some(4.0)];
    let below = [Some(5.0), Some(1.0), Some(10.0), None];
    assert_eq!(ratio(&above, &below), [2.0, 3.0]);
}
