//! Closed-loop load: every client sends its next request when the last one is answered.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::exchange::exchange;
use super::operation::Worker;

/// A client that fails so often has made its point.
const ERRORS_AT_MOST: usize = 10;

/// What several clients got in one sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Load {
    /// Answers a second, of all clients together.
    pub rate: f64,
    /// Milliseconds.
    pub latencies: Vec<f64>,
    pub errors: usize,
    first_error: Option<String>,
}

/// What one client got.
#[derive(Clone, Debug, Default, PartialEq)]
struct Loop {
    latencies: Vec<f64>,
    /// From its start to its last answer.
    time: Duration,
    errors: Vec<String>,
}

impl Load {
    /// Each client's answers over its own time: the last one is waited for, and while it is, the
    /// others have ended.
    fn of(loops: &[Loop]) -> Load {
        let mut load = Load::default();
        for one in loops {
            if !one.time.is_zero() {
                load.rate += one.latencies.len() as f64 / one.time.as_secs_f64();
            }
            load.latencies.extend(&one.latencies);
            load.errors += one.errors.len();
            if load.first_error.is_none() {
                load.first_error = one.errors.first().cloned();
            }
        }
        load
    }

    /// Why it is no sample.
    pub fn failure(&self) -> Option<String> {
        match &self.first_error {
            Some(first) => Some(format!(
                "{} of {} requests failed, the first with: {first}",
                self.errors,
                self.errors + self.latencies.len()
            )),
            None if self.latencies.is_empty() => Some("no request was made".into()),
            None => None,
        }
    }
}

/// Runs each worker on its client for this time, or until stopped: then without what was under way.
///
/// # Errors
/// When a client cannot connect before it begins.
pub async fn closed_loop(
    workers: Vec<(Client, Worker)>,
    time: Duration,
    stop: &CancellationToken,
) -> Result<Load> {
    // A connection that was made anew belongs to no sample.
    let connected = futures::future::try_join_all(
        workers
            .iter()
            .map(|(client, _)| async { client.apiserver_version().await.context("connect") }),
    );
    tokio::select! {
        connected = connected => drop(connected?),
        () = stop.cancelled() => return Ok(Load::default()),
    }
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for (client, worker) in workers {
        let stop = stop.clone();
        tasks.spawn(async move {
            let mut got = Loop::default();
            tokio::select! {
                () = turns(&client, worker, began, time, &mut got) => {}
                () = stop.cancelled() => {}
            }
            got
        });
    }
    Ok(Load::of(&tasks.join_all().await))
}

async fn turns(
    client: &Client,
    mut worker: Worker,
    began: Instant,
    time: Duration,
    got: &mut Loop,
) {
    while began.elapsed() < time && got.errors.len() < ERRORS_AT_MOST {
        match turn(client, &mut worker).await {
            Ok(took) => {
                got.latencies.push(took.as_secs_f64() * 1e3);
                got.time = began.elapsed();
            }
            Err(error) => got.errors.push(format!("{error:#}")),
        }
    }
}

async fn turn(client: &Client, worker: &mut Worker) -> Result<Duration> {
    let request = worker.next()?;
    let answer = exchange(client, request, worker.keeps()).await?;
    worker.answered(&answer)?;
    Ok(answer.took)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(answers: usize, seconds: u64, errors: &[&str]) -> Loop {
        Loop {
            latencies: vec![1.0; answers],
            time: Duration::from_secs(seconds),
            errors: errors.iter().map(|&error| error.into()).collect(),
        }
    }

    #[test]
    fn clients_are_added_up_over_their_own_time() {
        for (loops, rate, answers, failure) in [
            (vec![one(30, 3, &[])], 10.0, 30, None),
            // The second's last answer took long: it had fewer, over a longer time.
            (vec![one(30, 3, &[]), one(8, 4, &[])], 12.0, 38, None),
            (
                vec![
                    one(9, 3, &[]),
                    one(0, 0, &["500: no", "x"]),
                    one(3, 3, &["y"]),
                ],
                4.0,
                12,
                Some("3 of 15 requests failed, the first with: 500: no"),
            ),
            (vec![one(0, 0, &[])], 0.0, 0, Some("no request was made")),
            (vec![], 0.0, 0, Some("no request was made")),
        ] {
            let load = Load::of(&loops);
            assert!((load.rate - rate).abs() < 1e-9, "{load:?}");
            assert_eq!(load.latencies.len(), answers);
            assert_eq!(load.failure().as_deref(), failure);
        }
    }
}
