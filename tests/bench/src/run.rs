//! One run: where the figures gather, and the wish to end early.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use indicatif::MultiProgress;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use vetch_bench_record::{Figure, Report, Skipped};

use crate::output;
use crate::target::Target;

/// What a benchmark is handed.
pub struct Run {
    pub target: Target,
    pub report: Report,
    pub progress: MultiProgress,
    /// Where the report goes.
    pub out: PathBuf,
    /// Cancelled by Ctrl-C: the benchmark returns soon, and the report tells what was done so far.
    pub stop: CancellationToken,
}

impl Run {
    pub fn stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    pub fn add(&mut self, figure: Figure, round: usize, sample: Option<f64>) {
        self.report.add(figure, round, sample);
    }

    pub fn skip(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.report.skipped.push(Skipped {
            what: what.into(),
            why: why.into(),
        });
    }

    /// Writes what there is so far, for a run that will be killed.
    pub fn save(&mut self) -> Result<()> {
        self.report.finished = Timestamp::now();
        output::write(&self.out, &self.report).map(drop)
    }

    /// Sleeps, or returns false at once when the run is to end.
    pub async fn pause(&self, time: Duration) -> bool {
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = tokio::time::sleep(time) => true,
        }
    }
}
