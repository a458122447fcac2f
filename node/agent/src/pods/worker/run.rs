//! The worker's loop.

use std::time::Duration;

use jiff::Timestamp;

use super::{Stage, Worker};
use crate::pods::spec;

/// For API calls that fail.
const DELETE_RETRY: Duration = Duration::from_secs(1);

impl Worker {
    /// Until the pod is gone from the API server and from the node.
    pub async fn run(mut self) {
        self.begin().await;
        loop {
            self.take_update();
            self.observe().await;
            self.follow_resize().await;
            let now = Timestamp::now();
            self.step(now);
            self.publish(now);
            if self.stage == Stage::Gone {
                return;
            }
            self.wait(self.next_look(now)).await;
        }
    }

    async fn wait(&mut self, wake_at: Option<Timestamp>) {
        let pause = wake_at.map(|at| {
            let left = at.duration_since(Timestamp::now());
            Duration::try_from(left).unwrap_or_default()
        });
        let timer = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        let waiting_for_network = !*self.network_ready.borrow_and_update();
        let waiting_for_room = self.resize.is_pending();
        let outcome = tokio::select! {
            () = self.inbox.waker.notified() => None,
            () = self.probes.changed() => None,
            done = self.jobs.next() => Some(done),
            Ok(()) = self.network_ready.changed(), if waiting_for_network => None,
            Ok(()) = self.resize.room.changed(), if waiting_for_room => None,
            () = timer => None,
        };
        if let Some((kind, outcome)) = outcome {
            self.take_outcome(kind, outcome);
        }
    }

    /// Decides and acts.
    fn step(&mut self, now: Timestamp) {
        match self.stage {
            Stage::Running => self.step_running(now),
            Stage::Ending => self.step_ending(now),
            Stage::Cleaning => self.step_cleaning(now),
            Stage::Over => self.step_over(now),
            Stage::Deleting => self.step_deleting(),
            Stage::Gone => {}
        }
    }

    /// When to look again, if nothing happens before.
    fn next_look(&self, now: Timestamp) -> Option<Timestamp> {
        let times = match self.stage {
            Stage::Running => {
                let tokens = self.tokens.as_ref();
                let renewal = tokens.and_then(|tokens| tokens.next_renewal());
                // Not before volumes may be tried again.
                let held = self.volumes_retry.at.filter(|at| now < *at);
                let renewal = renewal.map(|at| held.map_or(at, |held| at.max(held)));
                let resize = self.resize.next_look(now);
                [self.wake_at, self.deadline(), renewal, resize]
            }
            Stage::Ending | Stage::Cleaning => [self.end_retry, None, None, None],
            Stage::Deleting if !self.deleted => {
                [now.saturating_add(DELETE_RETRY).ok(), None, None, None]
            }
            _ => [None; 4],
        };
        times.into_iter().flatten().min()
    }

    /// activeDeadlineSeconds after the start.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let seconds = spec::spec(&self.pod).active_deadline_seconds?;
        let began = self.status.start_time.as_ref()?.0;
        let seconds = Duration::from_secs(u64::try_from(seconds).ok()?);
        began.saturating_add(seconds).ok()
    }
}
