//! One probe of one container, on its schedule.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Probe;
use tokio::sync::mpsc;

use super::machine::Machine;
use super::set::Report;
use super::{Asked, Kind, Outcome, Prober, Target};
use crate::pods::events::Recorder;
use crate::pods::spec;

/// A question that cannot be asked is tried so often at once.
const TRIES: u32 = 3;
/// A container that begins to listen a moment after its start should not wait
/// a whole period to be ready: until the first answer, or the period is over,
/// it is asked again after this, then twice this, and so on. These first
/// failures change nothing and are not told. Its first success ends that: if more
/// are wanted, each has a period of its own.
const EARLY: Duration = Duration::from_millis(20);

pub struct ProbeTask {
    pub kind: Kind,
    pub probe: Probe,
    pub target: Target,
    pub started_at: Timestamp,
    /// Found by an earlier daemon; its probes are spread over a period then.
    pub believed: Option<bool>,
    pub prober: Prober,
    pub recorder: Recorder,
    pub reports: mpsc::UnboundedSender<Report>,
}

impl ProbeTask {
    /// Until nothing more is to be asked, or it is dropped.
    pub async fn run(self) {
        let period = spec::probe_period(&self.probe);
        let mut machine = Machine::new(self.kind, &self.probe, self.believed);
        let asked = self.prober.numbers.follow(self.asked());
        tokio::time::sleep(self.first_delay(period)).await;
        let mut early = Early::new(self.kind, period);
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first tick is now.
        ticks.tick().await;
        loop {
            let outcome = self.ask().await;
            let quiet = machine.believed() != Some(true) && early.is_open();
            let counts = !quiet || matches!(outcome, Outcome::Success | Outcome::Warning(_));
            let success = self.take(outcome, quiet);
            if counts {
                asked.count(success);
            }
            if let Some(success) = success
                && let Some(believed) = machine.record(success)
            {
                let report = Report {
                    container: self.target.id.clone(),
                    kind: self.kind,
                    success: believed,
                };
                if self.reports.send(report).is_err() {
                    return;
                }
            }
            if machine.finished() {
                return;
            }
            if success == Some(true) {
                early.end();
            }
            match early.next().filter(|_| machine.believed() != Some(true)) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => {
                    ticks.tick().await;
                }
            }
        }
    }

    fn asked(&self) -> Asked {
        let pod = &self.target.pod;
        Asked {
            kind: self.kind.name(),
            namespace: spec::namespace(pod).to_owned(),
            pod: spec::name(pod).to_owned(),
            pod_uid: spec::uid(pod).to_owned(),
            container: self.target.container.clone(),
            ..Asked::default()
        }
    }

    fn first_delay(&self, period: Duration) -> Duration {
        let initial = spec::probe_seconds(self.probe.initial_delay_seconds, 0);
        let age = Timestamp::now().duration_since(self.started_at);
        let age = Duration::try_from(age).unwrap_or_default();
        let left = initial.saturating_sub(age);
        if self.believed.is_some() {
            left.max(period.mul_f64(rand::random::<f64>()))
        } else {
            left
        }
    }

    async fn ask(&self) -> Outcome {
        let mut outcome = self.prober.ask(&self.probe, &self.target).await;
        for _ in 1..TRIES {
            if !matches!(outcome, Outcome::Error(_)) {
                break;
            }
            outcome = self.prober.ask(&self.probe, &self.target).await;
        }
        outcome
    }

    /// Tells people; whether it was a success, if it counts.
    fn take(&self, outcome: Outcome, quiet: bool) -> Option<bool> {
        let kind = self.kind.name();
        let tell = |reason, message| {
            self.recorder
                .container(&self.target.pod, &self.target.container)
                .warning(reason, message);
        };
        match outcome {
            Outcome::Success => Some(true),
            Outcome::Warning(words) => {
                tell("ProbeWarning", format!("{kind} probe warning: {words}"));
                Some(true)
            }
            Outcome::Failure(_) | Outcome::Error(_) if quiet => None,
            Outcome::Failure(words) => {
                tell("Unhealthy", format!("{kind} probe failed: {words}"));
                Some(false)
            }
            Outcome::Error(words) => {
                let message =
                    format!("{kind} probe errored and resulted in unknown state: {words}");
                tell("Unhealthy", message);
                None
            }
        }
    }
}

/// The first period of a readiness probe.
struct Early {
    pause: Duration,
    left: Duration,
}

impl Early {
    fn new(kind: Kind, period: Duration) -> Early {
        let left = match kind {
            Kind::Readiness => period,
            // Their failures count.
            Kind::Liveness | Kind::Startup => Duration::ZERO,
        };
        Early { pause: EARLY, left }
    }

    fn end(&mut self) {
        self.left = Duration::ZERO;
    }

    fn is_open(&self) -> bool {
        !self.left.is_zero()
    }

    /// How long to wait before asking again; `None` when the regular schedule
    /// has taken over.
    fn next(&mut self) -> Option<Duration> {
        if self.pause >= self.left {
            self.left = Duration::ZERO;
            return None;
        }
        self.left -= self.pause;
        let pause = self.pause;
        self.pause *= 2;
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_questions_fit_into_the_first_period() {
        let mut early = Early::new(Kind::Readiness, Duration::from_secs(1));
        let pauses: Vec<u128> = std::iter::from_fn(|| early.next())
            .map(|pause| pause.as_millis())
            .collect();
        assert_eq!(pauses, [20, 40, 80, 160, 320]);
        assert!(!early.is_open());
        let mut early = Early::new(Kind::Readiness, Duration::from_secs(1));
        assert!(early.next().is_some() && early.is_open());
        early.end();
        assert!(!early.is_open() && early.next().is_none());
        for kind in [Kind::Liveness, Kind::Startup] {
            let mut early = Early::new(kind, Duration::from_secs(1));
            assert!(!early.is_open() && early.next().is_none());
        }
    }
}
