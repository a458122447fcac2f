//! How soon a changed endpoint is followed, and what that costs the proxy's daemon.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures::{AsyncBufReadExt as _, StreamExt as _, TryStreamExt as _};
use kube::api::LogParams;
use tokio::time::timeout;
use vetch_bench_record::median;

use super::daemon;
use super::load::Change;
use super::millis;
use super::objects::SERVER_PORT;
use super::plan::{self, Measure, Subject};
use super::progress::Progress;
use super::series::Series;
use crate::run::Run;

/// A change that nobody follows for so long will not be followed.
const FOLLOW_LIMIT: Duration = Duration::from_secs(60);
/// Between changes. kube-proxy writes at most once a second, after two at once.
const PAUSE: Duration = Duration::from_millis(200);
const KUBE_PROXY_PAUSE: Duration = Duration::from_millis(1200);
/// Between changes whose cost is counted: longer than a daemon gathers changes for.
const UPDATE_PAUSE: Duration = Duration::from_millis(100);
/// In which a daemon's CPU time without changes is seen, before and after them; as long again
/// before that, for the pods that went last.
const IDLE: Duration = Duration::from_secs(1);

impl Series<'_> {
    /// Every subject that follows the API, in turns.
    pub async fn effect(
        &mut self,
        run: &mut Run,
        services: u32,
        round: usize,
        progress: &Progress,
    ) -> Result<()> {
        let (effect, update) = (self.has(Measure::Effect), self.has(Measure::Update));
        if !effect && !update {
            return Ok(());
        }
        if run.target.local.is_none() {
            if round == 0 {
                run.skip(
                    format!("endpoint-effect and update-cost at {services} services"),
                    "they need the clock and the processes of the nodes: a cluster of this machine",
                );
            }
            return Ok(());
        }
        progress.say(&format!(
            "{services} Services, round {}: endpoint changes",
            round + 1
        ));
        for turn in plan::order(self.seed, round, usize::MAX, self.subjects.len()) {
            let subject = self.subjects[turn].clone();
            if !subject.follows() {
                continue;
            }
            let outcome = match self.stand(&subject).await? {
                Ok(()) => self.follow(run, services, round, &subject).await,
                Err(why) => Err(anyhow::Error::msg(why)),
            };
            if run.stopped() {
                bail!("the run was ended early");
            }
            if let Err(error) = outcome {
                let what = format!(
                    "endpoint changes of {}, {services} services, round {}",
                    subject.name(),
                    round + 1
                );
                run.skip(what, format!("{error:#}"));
            }
        }
        Ok(())
    }

    async fn follow(
        &mut self,
        run: &mut Run,
        services: u32,
        round: usize,
        subject: &Subject,
    ) -> Result<()> {
        if self.has(Measure::Update) {
            let pid = match (self.watched_kube_proxy(), &self.nodes.watched().local) {
                (Some(pid), _) => i32::try_from(pid)?,
                (None, Some(local)) => daemon::daemon_pid(local)?,
                (None, None) => bail!("the proxy's daemon is not on this machine"),
            };
            let figure = self.figure("update-cost", subject, "ms", services);
            let nanos = self.updates(run, subject, pid).await?;
            run.add(figure, round, Some(millis(nanos / 1000.0)));
        }
        if self.has(Measure::Effect) {
            let figure = self.figure("endpoint-effect", subject, "ms", services);
            let micros = self.flips(run, subject).await;
            let sample = micros.as_ref().ok().and_then(|micros| median(micros));
            run.add(figure, round, sample.map(millis));
            micros?;
        }
        Ok(())
    }

    /// Microseconds from each acknowledged change to the first connection that follows it.
    async fn flips(&mut self, run: &Run, subject: &Subject) -> Result<Vec<f64>> {
        let target = self.population(subject)?.flipped()?;
        let limit = FOLLOW_LIMIT.as_secs() * u64::from(self.options.flips);
        let words = [
            "follow".to_owned(),
            "--target".to_owned(),
            target.to_string(),
            "--seconds".to_owned(),
            limit.to_string(),
        ];
        let node = self.nodes.watched().name.clone();
        let name = self.pods.start(subject.path(), &node, &words).await?;
        let effects = self.watch_flips(run, subject, &name).await;
        self.pods.remove(&name).await?;
        effects
    }

    async fn watch_flips(&self, run: &Run, subject: &Subject, pod: &str) -> Result<Vec<f64>> {
        self.pods.running(pod).await?;
        let follow = LogParams {
            follow: true,
            ..LogParams::default()
        };
        let log = self.pods.api().log_stream(pod, &follow).await;
        let mut changes = log
            .with_context(|| format!("follow the log of pod {pod}"))?
            .lines()
            .map_err(anyhow::Error::from)
            .try_filter_map(|line| async move { Ok(serde_json::from_str::<Change>(&line).ok()) })
            .boxed();
        let mut effects = Vec::new();
        let mut port = SERVER_PORT;
        // Whoever answers now is told first; the last round may have ended at either port.
        self.population(subject)?.flip(port).await?;
        self.answered_by(run, &mut changes, port).await?;
        for _ in 0..self.options.flips {
            if !run.pause(pause(subject, PAUSE)).await {
                break;
            }
            port = if port == SERVER_PORT {
                SERVER_PORT + 1
            } else {
                SERVER_PORT
            };
            self.population(subject)?.flip(port).await?;
            let acknowledged = daemon::monotonic_micros();
            let connected = self.answered_by(run, &mut changes, port).await?;
            effects.push(connected - acknowledged);
        }
        Ok(effects)
    }

    /// When the first connection was there that this port of the server answered.
    async fn answered_by(
        &self,
        run: &Run,
        changes: &mut (impl futures::Stream<Item = Result<Change>> + Unpin),
        port: u16,
    ) -> Result<f64> {
        let wanted = format!(":{port}");
        let next = async {
            while let Some(change) = changes.next().await {
                let change = change?;
                if change.server.ends_with(&wanted) {
                    return Ok(change.connected_at_micros as f64);
                }
            }
            bail!("the following client ended")
        };
        tokio::select! {
            () = run.stop.cancelled() => bail!("the run was ended early"),
            followed = timeout(FOLLOW_LIMIT, next) => followed.with_context(|| {
                format!("nobody followed the change within {} s", FOLLOW_LIMIT.as_secs())
            })?,
        }
    }

    /// Nanoseconds of the daemon's CPU time for one change, beside what it does anyway.
    async fn updates(&self, run: &Run, subject: &Subject, pid: i32) -> Result<f64> {
        let population = self.population(subject)?;
        run.pause(IDLE).await;
        let before = self.idle(run, pid).await?;
        let (from, spent) = (Instant::now(), daemon::cpu_nanos(pid)?);
        for number in 0..self.options.flips {
            population
                .flip(SERVER_PORT + u16::from(number % 2 == 0))
                .await?;
            let pause = pause(subject, UPDATE_PAUSE);
            if !run.pause(pause).await {
                bail!("the run was ended early");
            }
        }
        let spent = daemon::cpu_nanos(pid)? as f64 - spent as f64;
        let took = from.elapsed().as_secs_f64();
        let idle = (before + self.idle(run, pid).await?) / 2.0;
        let more = spent - idle * took;
        Ok(more / f64::from(self.options.flips))
    }

    /// Nanoseconds of a second without changes.
    async fn idle(&self, run: &Run, pid: i32) -> Result<f64> {
        let (from, before) = (Instant::now(), daemon::cpu_nanos(pid)?);
        run.pause(IDLE).await;
        let spent = daemon::cpu_nanos(pid)? as f64 - before as f64;
        Ok(spent / from.elapsed().as_secs_f64())
    }
}

fn pause(subject: &Subject, usual: Duration) -> Duration {
    match subject {
        Subject::KubeProxy(_) => KUBE_PROXY_PAUSE,
        _ => usual,
    }
}
