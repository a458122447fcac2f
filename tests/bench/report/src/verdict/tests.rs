use jiff::Timestamp;
use vetch_bench_record::{Better, Machine, SCHEMA};

use super::*;

fn report() -> Report {
    Report {
        schema: SCHEMA,
        bench: "service".into(),
        tool: "vetch-bench".into(),
        command: Vec::new(),
        started: Timestamp::UNIX_EPOCH,
        finished: Timestamp::UNIX_EPOCH,
        complete: true,
        machine: Machine::default(),
        settings: BTreeMap::new(),
        figures: Vec::new(),
        skipped: Vec::new(),
    }
}

fn rate(measure: &str, subject: &str, placement: &str, frontend: &str, services: u32) -> Figure {
    Figure::new(measure, subject, "requests/s", Better::Higher)
        .with("placement", placement)
        .with("frontend", frontend)
        .with("services", services)
        .with("endpoints", 2)
}

fn put(report: &mut Report, figure: &Figure, samples: &[f64]) {
    for (round, sample) in samples.iter().enumerate() {
        report.add(figure.clone(), round, Some(*sample));
    }
}

/// The sentences whose outcome is not that nothing was measured.
fn told(report: &Report) -> Vec<(String, Outcome)> {
    verdicts(report)
        .into_iter()
        .filter(|verdict| verdict.outcome != Outcome::NotMeasured)
        .map(|verdict| (verdict.sentence, verdict.outcome))
        .collect()
}

/// Ours beside a subject whose every sample is 100: the samples are percents.
fn against(
    subject: &str,
    measure: &str,
    placement: &str,
    frontend: &str,
    steps: &[(u32, &[f64])],
) -> Report {
    let mut report = report();
    for (services, samples) in steps {
        let other = rate(measure, subject, placement, frontend, *services);
        put(&mut report, &other, &vec![100.0; samples.len()]);
        put(
            &mut report,
            &rate(measure, "vetch", placement, frontend, *services),
            samples,
        );
    }
    report
}

#[test]
fn ratios_to_direct() {
    for (measure, placement, samples, sentence, outcome) in [
        (
            "keepalive",
            "same-node",
            &[100.0, 102.0, 104.0][..],
            "At 1,000 services on one node, keep-alive through the ClusterIP runs at 1.02 × direct (1.01–1.03); the aim is 1.15: missed.",
            Outcome::Missed,
        ),
        (
            "keepalive",
            "same-node",
            &[118.0, 120.0, 122.0],
            "At 1,000 services on one node, keep-alive through the ClusterIP runs at 1.20 × direct (1.19–1.21); the aim is 1.15: met.",
            Outcome::Met,
        ),
        (
            "connect",
            "across-nodes",
            &[95.0, 99.5, 104.0],
            "At 1,000 services across nodes, new connections through the ClusterIP run at 0.995 × direct (0.97–1.02); the aim is 0.99, inside that spread: it cannot be told.",
            Outcome::CannotTell,
        ),
        (
            "keepalive",
            "across-nodes",
            &[130.0, 134.0],
            "At 1,000 services across nodes, keep-alive through the ClusterIP runs at 1.32 × direct (1.31–1.33); the aim is 1.00: 2 rounds are too few to tell.",
            Outcome::CannotTell,
        ),
    ] {
        let report = against(
            "direct",
            measure,
            placement,
            "ClusterIP",
            &[(1000, samples)],
        );
        assert_eq!(told(&report), [(sentence.to_owned(), outcome)]);
    }
}

#[test]
fn an_aim_that_equals_the_figure_is_met() {
    let report = against(
        "direct",
        "keepalive",
        "across-nodes",
        "ClusterIP",
        &[(1, &[100.0; 3])],
    );
    assert_eq!(told(&report)[0].1, Outcome::Met);
    // More than one is more than one.
    let report = against(
        "iptables",
        "keepalive",
        "across-nodes",
        "ClusterIP",
        &[(1, &[100.0; 3])],
    );
    assert_eq!(told(&report)[0].1, Outcome::Missed);
}

#[test]
fn ratios_to_rules_and_their_growth() {
    let flat: &[f64] = &[104.0, 106.0, 108.0];
    let high: &[f64] = &[150.0, 152.0, 154.0];
    for (steps, sentence, outcome) in [
        (
            &[(1, flat), (1000, high)][..],
            "On one node, new connections through the ClusterIP ÷ iptables grows with the number of services, 1.06 (1.05–1.07) at 1 and 1.52 (1.51–1.53) at 1,000: met.",
            Outcome::Met,
        ),
        (
            &[(1, high), (100, flat), (1000, high)],
            "On one node, new connections through the ClusterIP ÷ iptables does not grow with the number of services, it falls from 1 to 100: 1.52 (1.51–1.53) at 1, 1.06 (1.05–1.07) at 100 and 1.52 (1.51–1.53) at 1,000; missed.",
            Outcome::Missed,
        ),
        (
            &[(1, flat), (1000, flat)],
            "On one node, new connections through the ClusterIP ÷ iptables are 1.06 (1.05–1.07) at 1 and 1.06 (1.05–1.07) at 1,000; no growth goes beyond the spread, so it cannot be told.",
            Outcome::CannotTell,
        ),
        (
            &[(1, &flat[..2]), (1000, high)],
            "On one node, new connections through the ClusterIP ÷ iptables are 1.05 (1.04–1.06) at 1 and 1.52 (1.51–1.53) at 1,000; fewer than 3 rounds are too few to tell whether it grows.",
            Outcome::CannotTell,
        ),
    ] {
        let report = against("iptables", "connect", "same-node", "ClusterIP", steps);
        let verdicts = told(&report);
        let growth = verdicts.iter().find(|verdict| verdict.0.contains('÷'));
        assert_eq!(growth, Some(&(sentence.to_owned(), outcome)));
        let first = &verdicts[0];
        assert!(
            first
                .0
                .starts_with("At 1 service on one node, new connections"),
            "{first:?}"
        );
        assert!(first.0.contains("the aim is more than 1"), "{first:?}");
    }
}

#[test]
fn node_ports_are_held_against_the_rules_only() {
    let mut report = against(
        "nftables",
        "connect",
        "across-nodes",
        "NodePort",
        &[(10, &[119.0, 121.0, 130.0])],
    );
    let direct = rate("connect", "direct", "across-nodes", "NodePort", 10);
    put(&mut report, &direct, &[300.0; 3]);
    let told = told(&report);
    assert_eq!(told.len(), 1);
    assert_eq!(
        told[0].0,
        "At 10 services across nodes, new connections through the NodePort run at 1.21 × nftables (1.20–1.25); the aim is 1.20: met."
    );
}

#[test]
fn limits() {
    let effect = |unit: &str, services: u32| {
        Figure::new("endpoint-effect", "vetch", unit, Better::Lower).with("services", services)
    };
    let program = Figure::new("program-from-nothing", "vetch", "ms", Better::Lower)
        .with("services", 10_000)
        .with("endpoints", 2);
    let memory =
        Figure::new("proxy-memory", "vetch", "MiB", Better::Lower).with("services", 10_000);
    for (figure, samples, sentence, outcome) in [
        (
            effect("ms", 10_000),
            [4.0, 4.2, 4.6],
            "At 10,000 services, an endpoint change takes effect after 4.20 ms (4.10–4.40); the aim is at most 5 ms: met.",
            Outcome::Met,
        ),
        (
            effect("parsecs", 10_000),
            [4.0, 4.2, 4.6],
            "At 10,000 services, an endpoint change takes effect after 4.20 parsecs (4.10–4.40); the aim is at most 5 ms, which is of another unit.",
            Outcome::CannotTell,
        ),
        (
            program,
            [1200.0, 1300.0, 1400.0],
            "At 10,000 services, programming from nothing takes 1,300 ms (1,250–1,350); the aim is at most 1 s: missed.",
            Outcome::Missed,
        ),
        (
            memory,
            [29.0, 30.0, 33.0],
            "At 10,000 services, the proxy's part holds 30.0 MiB (29.5–31.5) beside the maps; the aim is at most 30 MiB, inside that spread: it cannot be told.",
            Outcome::CannotTell,
        ),
    ] {
        let mut report = report();
        put(&mut report, &figure, &samples);
        assert_eq!(told(&report), [(sentence.to_owned(), outcome)]);
    }
    let mut report = report();
    put(&mut report, &effect("ms", 10), &[1.0, 1.0, 1.0]);
    assert_eq!(
        told(&report),
        [],
        "the aim is for another number of services"
    );
}

#[test]
fn what_is_absent_is_said_once_and_the_real_program_only_when_asked_for() {
    let absent = verdicts(&report());
    assert!(
        absent
            .iter()
            .all(|verdict| verdict.outcome == Outcome::NotMeasured)
    );
    assert!(
        absent
            .iter()
            .all(|verdict| !verdict.sentence.contains("kube-proxy"))
    );
    let sentences: Vec<_> = absent
        .iter()
        .map(|verdict| verdict.sentence.as_str())
        .collect();
    for sentence in [
        "Keep-alive requests ÷ direct, one node: not measured in this run.",
        "New connections ÷ nftables, across nodes, at 1 service: not measured in this run.",
        "Endpoint change to effect, at 10,000 services: not measured in this run.",
    ] {
        let count = sentences.iter().filter(|known| **known == sentence).count();
        assert_eq!(count, 1, "{sentence} in {sentences:#?}");
    }
    let real = against(
        "kube-proxy-iptables",
        "connect",
        "same-node",
        "ClusterIP",
        &[(10, &[120.0; 3])],
    );
    let sentences: Vec<_> = verdicts(&real)
        .into_iter()
        .map(|verdict| verdict.sentence)
        .collect();
    let wanted =
        "New connections ÷ kube-proxy-iptables, one node, at 1 service: not measured in this run.";
    assert!(
        sentences.iter().any(|sentence| sentence == wanted),
        "{sentences:#?}"
    );
}

#[test]
fn a_subject_without_a_round_in_common_is_not_judged() {
    let mut report = report();
    put(
        &mut report,
        &rate("keepalive", "vetch", "same-node", "ClusterIP", 1),
        &[1.0],
    );
    report.add(
        rate("keepalive", "direct", "same-node", "ClusterIP", 1),
        1,
        Some(1.0),
    );
    let verdict = &verdicts(&report)[0];
    assert_eq!(
        verdict.sentence,
        "At 1 service on one node, keep-alive through the ClusterIP: no round has it beside direct."
    );
    assert_eq!(verdict.outcome, Outcome::NotMeasured);
}

#[test]
fn measures_without_an_aim_are_told_as_they_are() {
    let mut report = report();
    report.bench = "pods".into();
    let ready = |quantile: &str| {
        Figure::new("created-ready", "vetch", "ms", Better::Lower)
            .with("mode", "one-at-a-time")
            .with("quantile", quantile)
    };
    put(&mut report, &ready("p50"), &[800.0, 812.0, 830.0]);
    put(&mut report, &ready("p99"), &[900.0, 910.0, 990.0]);
    put(
        &mut report,
        &Figure::new("keepalive", "vetch", "pods/s", Better::Higher),
        &[3.0],
    );
    assert_eq!(
        told(&report),
        [
            (
                "Keep-alive requests: 3.00 pods/s, from 1 round; no aim is set.".to_owned(),
                Outcome::Open
            ),
            (
                "Created to Ready: medians from 812 ms (p50) to 910 ms (p99); no aim is set."
                    .to_owned(),
                Outcome::Open
            ),
        ]
    );
}
