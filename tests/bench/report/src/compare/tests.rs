use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use vetch_bench_record::Machine;

use super::*;

/// A run as synthetic as can be: rounds share what the machine does, each sample has noise of its own.
struct Synthetic {
    rounds: usize,
    services: &'static [u32],
    /// Standard deviation of a sample, relative.
    noise: f64,
    /// Of the machine, on all figures.
    speed: f64,
    /// Of ours.
    ours: f64,
}

const PLAIN: Synthetic = Synthetic {
    rounds: 10,
    services: &[1, 1000],
    noise: 0.015,
    speed: 1.0,
    ours: 1.0,
};

impl Synthetic {
    fn report(&self, seed: u64) -> Report {
        let mut random = StdRng::seed_from_u64(seed);
        let mut report = empty("service");
        for round in 0..self.rounds {
            let heat = self.speed * noise(&mut random, 0.03);
            for measure in ["keepalive", "connect"] {
                for placement in ["same-node", "across-nodes"] {
                    for services in self.services {
                        for (subject, level) in [
                            ("direct", 1.0),
                            ("vetch", 1.1 * self.ours),
                            ("iptables", 0.9),
                        ] {
                            let figure =
                                Figure::new(measure, subject, "requests/s", Better::Higher)
                                    .with("placement", placement)
                                    .with("services", *services);
                            let sample = 1e5 * level * heat * noise(&mut random, self.noise);
                            report.add(figure, round, Some(sample));
                        }
                    }
                }
            }
            let memory = Figure::new("proxy-memory", "vetch", "MiB", Better::Lower);
            report.add(memory, round, Some(20.0 * noise(&mut random, self.noise)));
        }
        report
    }
}

/// About normal, around one: the sum of twelve even numbers.
fn noise(random: &mut StdRng, deviation: f64) -> f64 {
    let sum: f64 = (0..12).map(|_| random.random::<f64>()).sum();
    1.0 + (sum - 6.0) * deviation
}

fn empty(bench: &str) -> Report {
    Report {
        schema: SCHEMA,
        bench: bench.into(),
        tool: "vetch-bench".into(),
        command: Vec::new(),
        started: Timestamp::UNIX_EPOCH,
        finished: Timestamp::UNIX_EPOCH,
        complete: true,
        machine: Machine::default(),
        settings: Default::default(),
        figures: Vec::new(),
        skipped: Vec::new(),
    }
}

fn finding(comparison: &Comparison, measure: &str, subject: &str) -> Vec<Finding> {
    let is = |row: &&Row| row.figure.measure == measure && row.figure.subject == subject;
    comparison
        .rows
        .iter()
        .filter(is)
        .map(|row| row.finding)
        .collect()
}

#[test]
fn five_percent_are_found_in_ten_rounds() {
    let slow = Synthetic {
        ours: 0.95,
        ..PLAIN
    };
    let (mut found, mut of, mut wrong) = (0, 0, 0);
    for seed in 0..20 {
        let comparison = compare(&PLAIN.report(seed), &slow.report(1000 + seed));
        assert!(comparison.changed(), "seed {seed}: {}", comparison.text());
        for pool in &comparison.pooled {
            // The machine's own heat is no question of ours.
            match pool.subject.as_str() {
                "vetch" if pool.measure == "proxy-memory" => {}
                "vetch" => assert_eq!(pool.finding, Finding::Worse, "seed {seed}: {pool:?}"),
                "iptables" => wrong += usize::from(pool.finding.is_change()),
                _ => {}
            }
        }
        for measure in ["keepalive", "connect"] {
            let findings = finding(&comparison, measure, "vetch");
            of += findings.len();
            found += findings
                .iter()
                .filter(|finding| **finding == Finding::Worse)
                .count();
        }
    }
    assert!(found * 100 >= of * 95, "{found} of {of} single figures");
    assert!(wrong <= 2, "{wrong} of 40 that did not change");
    // And the other way round they are better.
    let comparison = compare(&slow.report(1), &PLAIN.report(2));
    assert!(
        comparison
            .pooled
            .iter()
            .any(|pool| pool.finding == Finding::Better)
    );
}

#[test]
fn few_rounds_find_it_over_all_conditions() {
    for rounds in [3, 5] {
        let plain = Synthetic {
            rounds,
            services: &[1, 10, 100, 1000],
            ..PLAIN
        };
        let slow = Synthetic {
            ours: 0.95,
            ..plain
        };
        let comparison = compare(&plain.report(5), &slow.report(6));
        assert!(
            comparison.changed(),
            "{rounds} rounds: {}",
            comparison.text()
        );
    }
}

#[test]
fn noise_is_no_change() {
    let pairs = 100;
    for (name, plain, other) in [
        ("the same machine", PLAIN, PLAIN),
        (
            "a machine ten percent slower",
            PLAIN,
            Synthetic {
                speed: 0.9,
                ..PLAIN
            },
        ),
        (
            "five rounds",
            Synthetic { rounds: 5, ..PLAIN },
            Synthetic { rounds: 5, ..PLAIN },
        ),
        (
            "three rounds",
            Synthetic { rounds: 3, ..PLAIN },
            Synthetic { rounds: 3, ..PLAIN },
        ),
        (
            "a loud machine",
            Synthetic {
                noise: 0.06,
                ..PLAIN
            },
            Synthetic {
                noise: 0.06,
                ..PLAIN
            },
        ),
    ] {
        let alarm =
            |seed: &u64| compare(&plain.report(*seed), &other.report(90_000 + seed)).changed();
        let alarms = (0..pairs).filter(alarm).count();
        // The rate that is borne is one in twenty.
        assert!(
            alarms <= 5,
            "{name}: {alarms} false alarms in {pairs} pairs"
        );
    }
}

#[test]
fn a_run_against_itself_has_no_change() {
    let report = PLAIN.report(3);
    let comparison = compare(&report, &report);
    assert!(!comparison.changed());
    assert!(comparison.rows.iter().all(|row| row.change == 0.0));
    assert!(comparison.text().contains("Nothing changed beyond noise."));
}

#[test]
fn a_slower_machine_is_said_and_cancels_out() {
    let slow = Synthetic {
        speed: 0.8,
        ..PLAIN
    };
    let comparison = compare(&PLAIN.report(1), &slow.report(2));
    assert!(!comparison.changed(), "{}", comparison.text());
    let ours = comparison
        .rows
        .iter()
        .find(|row| row.figure.subject == "vetch")
        .unwrap();
    assert_eq!(
        (ours.basis, ours.unit.as_str()),
        (Basis::Direct, "× direct")
    );
    assert!(
        comparison
            .text()
            .contains("Plain routing itself moved (Keep-alive requests −")
    );
}

#[test]
fn without_direct_values_are_compared_as_they_are() {
    let (mut before, mut after) = (PLAIN.report(1), PLAIN.report(2));
    for figure in after
        .figures
        .iter_mut()
        .filter(|figure| figure.measure == "proxy-memory")
    {
        for sample in figure.samples.iter_mut().flatten() {
            *sample *= 1.2;
        }
    }
    before.machine.kernel = "6.1".into();
    after.machine.kernel = "6.12".into();
    let comparison = compare(&before, &after);
    assert_eq!(
        finding(&comparison, "proxy-memory", "vetch"),
        [Finding::Worse]
    );
    let text = comparison.text();
    assert!(
        text.contains("The machines differ: kernel 6.1 → 6.12."),
        "{text}"
    );
    assert!(text.contains("tell of the machines too"), "{text}");
}

#[test]
fn what_cannot_be_compared_is_refused_in_words() {
    let plain = empty("service");
    let mut newer = empty("service");
    newer.schema = SCHEMA + 1;
    for (other, words) in [
        (
            newer,
            "One report is of schema 2, this program reads schema 1.",
        ),
        (empty("pods"), "different benches, service and pods"),
    ] {
        let comparison = compare(&plain, &other);
        assert!(comparison.refused.is_some() && !comparison.changed());
        assert!(comparison.text().contains(words), "{}", comparison.text());
    }
}

#[test]
fn what_differs_beside_the_figures_is_remarked() {
    let (mut before, mut after) = (empty("service"), empty("service"));
    before.settings.insert("seconds".into(), 3.into());
    after.settings.insert("seconds".into(), 5.into());
    after.settings.insert("pace".into(), "slow".into());
    after.complete = false;
    let figure = |unit: &str| Figure::new("keepalive", "vetch", unit, Better::Higher);
    before.add(figure("requests/s"), 0, Some(1.0));
    after.add(figure("requests/min"), 0, Some(60.0));
    before.add(
        Figure::new("old", "vetch", "s", Better::Lower),
        0,
        Some(1.0),
    );
    let text = compare(&before, &after).text();
    for words in [
        "The run after is incomplete.",
        "pace nothing → \"slow\"; seconds 3 → 5",
        "in requests/s before and in requests/min after",
        "1 figure is only in the run before.",
        "no measured figure in common",
    ] {
        assert!(text.contains(words), "{words} is not in:\n{text}");
    }
}

#[test]
fn settings_that_follow_from_a_run_are_no_difference() {
    for (key, one, other, told) in [
        ("seed", 1, 2, false),
        ("rate connect same-node 2 endpoints", 5000, 5300, false),
        ("rate connect same-node 2 endpoints", 5000, 9000, true),
        ("rateShare", 1, 2, true),
    ] {
        let (mut before, mut after) = (empty("service"), empty("service"));
        before.settings.insert(key.into(), one.into());
        after.settings.insert(key.into(), other.into());
        let text = compare(&before, &after).text();
        assert_eq!(text.contains("The settings differ"), told, "{key}: {text}");
    }
}

#[test]
fn too_few_rounds_are_said() {
    let few = Synthetic {
        rounds: 2,
        services: &[1],
        ..PLAIN
    };
    let comparison = compare(&few.report(1), &few.report(2));
    assert!(
        comparison
            .rows
            .iter()
            .all(|row| row.finding == Finding::TooFewRounds)
    );
    let text = comparison.text();
    assert!(text.contains("with too few rounds to tell"), "{text}");
    assert!(text.contains("With 2 rounds at most"), "{text}");
}

#[test]
fn the_terminal_is_not_steered_by_a_report() {
    let mut before = empty("service");
    let name = "\u{1b}[2Jhostile";
    before.add(Figure::new("x", name, "s", Better::Lower), 0, Some(1.0));
    let text = compare(&before, &before.clone()).text();
    assert!(text.contains("hostile") && !text.contains('\u{1b}'));
}

#[test]
fn programs_read_it_too() {
    let comparison = compare(
        &PLAIN.report(1),
        &Synthetic { ours: 0.9, ..PLAIN }.report(2),
    );
    let json = serde_json::to_value(&comparison).unwrap();
    assert_eq!(json["pooled"][1]["finding"], "worse");
    assert_eq!(json["rows"][0]["figure"]["measure"], "keepalive");
}
