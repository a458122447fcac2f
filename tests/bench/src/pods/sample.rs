//! From the lives of a round's pods to its samples. No IO.

use std::time::Duration;

use vetch_bench_record::{Better, Figure, quantile};

use super::timeline::{Step, Timeline};

/// One pod of a round: when the API server acknowledged what, and what was seen.
#[derive(Clone, Debug)]
pub struct Life {
    pub created: Duration,
    pub deleted: Duration,
    pub timeline: Timeline,
}

type Measure = (&'static str, fn(&Life) -> Option<f64>);

/// With p50 and p99.
const ENDS: [Measure; 2] = [
    ("created-ready", |life| {
        life.timeline.since(life.created, Step::Ready)
    }),
    ("deleted-gone", |life| {
        life.timeline.since(life.deleted, Step::Gone)
    }),
];

/// With p50.
const STEPS: [Measure; 4] = [
    ("step-scheduled", |life| {
        life.timeline.since(life.created, Step::Scheduled)
    }),
    ("step-sandbox", |life| {
        life.timeline.between(Step::Scheduled, Step::Sandbox)
    }),
    ("step-running", |life| {
        life.timeline.between(Step::Sandbox, Step::Running)
    }),
    ("step-ready", |life| {
        life.timeline.between(Step::Running, Step::Ready)
    }),
];

const QUANTILES: [(&str, f64); 2] = [("p50", 0.5), ("p99", 0.99)];

/// The figures a round of this mode has a sample for; without lives they get none.
pub fn samples(subject: &str, mode: &str, lives: &[Life]) -> Vec<(Figure, Option<f64>)> {
    let ends = ENDS.iter().map(|measure| (measure, &QUANTILES[..]));
    let steps = STEPS.iter().map(|measure| (measure, &QUANTILES[..1]));
    let mut samples = Vec::new();
    for ((measure, of), quantiles) in ends.chain(steps) {
        // A quantile over some of them only would be flattering.
        let values: Option<Vec<f64>> = lives.iter().map(of).collect();
        for (name, part) in quantiles {
            let figure = milliseconds(measure, subject, mode).with("quantile", *name);
            let sample = values.as_ref().and_then(|values| quantile(values, *part));
            samples.push((figure, sample));
        }
    }
    samples
}

pub fn milliseconds(measure: &str, subject: &str, mode: &str) -> Figure {
    Figure::new(measure, subject, "ms", Better::Lower).with("mode", mode)
}

#[cfg(test)]
mod tests {
    use super::super::timeline::{Sight, Timelines};
    use super::*;

    fn life(created: u64, moments: &[(Step, u64)], deleted: u64) -> Life {
        let mut all = Timelines::default();
        for (step, at) in moments {
            all.see(&Sight {
                at: Duration::from_millis(*at),
                pod: "a".into(),
                steps: vec![*step],
            });
        }
        Life {
            created: Duration::from_millis(created),
            deleted: Duration::from_millis(deleted),
            timeline: all.of("a"),
        }
    }

    fn found(lives: &[Life]) -> Vec<(String, Option<f64>)> {
        samples("vetch", "one-at-a-time", lives)
            .into_iter()
            .map(|(figure, sample)| {
                assert_eq!(figure.conditions["mode"], "one-at-a-time");
                let quantile = figure.conditions["quantile"].as_str().unwrap().to_owned();
                // The clock's fractions are not what is tested.
                let sample = sample.map(|value| (value * 1e6).round() / 1e6);
                (format!("{} {quantile}", figure.measure), sample)
            })
            .collect()
    }

    #[test]
    fn every_step_of_every_pod() {
        use Step::{Gone, Ready, Running, Sandbox, Scheduled};
        let quick = [
            (Scheduled, 12),
            (Sandbox, 15),
            (Running, 20),
            (Ready, 20),
            (Gone, 50),
        ];
        let slow = [
            (Scheduled, 16),
            (Sandbox, 29),
            (Running, 40),
            (Ready, 50),
            (Gone, 80),
        ];
        let lives = [life(10, &quick, 40), life(20, &slow, 60)];
        let wanted = [
            ("created-ready p50", Some(20.0)),
            ("created-ready p99", Some(29.8)),
            ("deleted-gone p50", Some(15.0)),
            ("deleted-gone p99", Some(19.9)),
            // Bound before the create was answered: 2 and -4.
            ("step-scheduled p50", Some(-1.0)),
            ("step-sandbox p50", Some(8.0)),
            ("step-running p50", Some(8.0)),
            ("step-ready p50", Some(5.0)),
        ];
        let wanted = wanted.map(|(name, sample)| (name.to_owned(), sample));
        assert_eq!(found(&lives), wanted);
    }

    #[test]
    fn a_pod_without_a_step_takes_the_sample_away_and_no_other() {
        use Step::{Gone, Ready, Running, Scheduled};
        let older = [(Scheduled, 2), (Running, 4), (Ready, 5), (Gone, 9)];
        let lives = [life(0, &older, 8)];
        for (name, sample) in found(&lives) {
            let lacks = ["step-sandbox p50", "step-running p50"].contains(&name.as_str());
            assert_eq!(sample.is_none(), lacks, "{name} {sample:?}");
        }
        assert!(found(&[]).iter().all(|(_, sample)| sample.is_none()));
    }
}
