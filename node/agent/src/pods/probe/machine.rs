//! Thresholds: how many answers in a row change what is believed.

use k8s_openapi::api::core::v1::Probe;

use super::Kind;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    kind: Kind,
    success_threshold: u32,
    failure_threshold: u32,
    /// The last answer and how many times in a row it came.
    last: Option<(bool, u32)>,
    believed: Option<bool>,
}

impl Machine {
    /// `believed` is what an earlier daemon had found.
    pub fn new(kind: Kind, probe: &Probe, believed: Option<bool>) -> Machine {
        let threshold = |field: Option<i32>, default| {
            field
                .and_then(|value| u32::try_from(value).ok())
                .filter(|value| *value > 0)
                .unwrap_or(default)
        };
        Machine {
            kind,
            success_threshold: threshold(probe.success_threshold, 1),
            failure_threshold: threshold(probe.failure_threshold, 3),
            last: None,
            believed,
        }
    }

    pub fn believed(&self) -> Option<bool> {
        self.believed
    }

    /// Takes an answer; what is believed now, if enough of them came in a row.
    pub fn record(&mut self, success: bool) -> Option<bool> {
        let run = match self.last {
            Some((last, run)) if last == success => run + 1,
            _ => 1,
        };
        self.last = Some((success, run));
        let threshold = if success {
            self.success_threshold
        } else {
            self.failure_threshold
        };
        if run < threshold {
            return None;
        }
        self.believed = Some(success);
        self.believed
    }

    /// Nothing more to ask of this container: it will be restarted, or it is
    /// started for good.
    pub fn finished(&self) -> bool {
        match self.kind {
            Kind::Readiness => false,
            Kind::Liveness => self.believed == Some(false),
            Kind::Startup => self.believed.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(success: i32, failure: i32) -> Probe {
        Probe {
            success_threshold: Some(success),
            failure_threshold: Some(failure),
            ..Probe::default()
        }
    }

    #[test]
    fn answers_in_a_row() {
        let (yes, no) = (true, false);
        for (kind, success, failure, answers, want, finished) in [
            (Kind::Readiness, 1, 3, vec![yes], Some(true), false),
            (Kind::Readiness, 1, 3, vec![no, no], None, false),
            (Kind::Readiness, 1, 3, vec![no, no, no], Some(false), false),
            (Kind::Readiness, 1, 3, vec![yes, no, no], Some(true), false),
            (Kind::Readiness, 2, 1, vec![yes], None, false),
            (
                Kind::Readiness,
                2,
                1,
                vec![yes, no, yes],
                Some(false),
                false,
            ),
            (Kind::Readiness, 2, 1, vec![no, yes, yes], Some(true), false),
            (
                Kind::Liveness,
                1,
                2,
                vec![yes, no, yes, no],
                Some(true),
                false,
            ),
            (Kind::Liveness, 1, 2, vec![yes, no, no], Some(false), true),
            (Kind::Startup, 1, 2, vec![no], None, false),
            (Kind::Startup, 1, 2, vec![no, yes], Some(true), true),
            (Kind::Startup, 1, 2, vec![no, no], Some(false), true),
        ] {
            let mut machine = Machine::new(kind, &probe(success, failure), None);
            for answer in &answers {
                machine.record(*answer);
            }
            let case = format!("{kind:?} {success} {failure} {answers:?}");
            assert_eq!(machine.believed(), want, "{case}");
            assert_eq!(machine.finished(), finished, "{case}");
        }
    }

    #[test]
    fn what_was_believed_stays_until_the_threshold() {
        let mut machine = Machine::new(Kind::Readiness, &probe(1, 3), Some(true));
        assert_eq!(machine.record(false), None);
        assert_eq!(machine.record(false), None);
        assert_eq!(machine.believed(), Some(true));
        assert_eq!(machine.record(false), Some(false));
    }

    #[test]
    fn defaults() {
        let mut machine = Machine::new(Kind::Liveness, &Probe::default(), None);
        assert_eq!(machine.record(true), Some(true));
        let answers: Vec<Option<bool>> = (0..3).map(|_| machine.record(false)).collect();
        assert_eq!(answers, [None, None, Some(false)]);
    }
}
