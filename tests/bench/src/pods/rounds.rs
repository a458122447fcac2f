//! The rounds of pods: create, wait for Ready, delete, wait for gone.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::StreamExt as _;
use indicatif::ProgressBar;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};

use super::sample::{self, Life};
use super::timeline::{Step, milliseconds};
use super::watch::{Waited, Watch};
use super::{Options, capacity, manifest, steps, subject};
use crate::run::Run;

/// Requests under way at a time where many pods are made: enough to keep an API server busy, and
/// few enough that connecting is not what is measured.
const IN_FLIGHT: usize = 16;
const ONE_AT_A_TIME: &str = "one-at-a-time";
/// From Ready to the delete: a program that has only just been started as PID 1 has no handler yet,
/// and the kernel drops its SIGTERM. One pod is soon through; many share the processors.
const ONE_SETTLES: Duration = Duration::from_millis(250);
const MANY_SETTLE: Duration = Duration::from_secs(2);

pub struct Rounds<'a> {
    pub(super) run: &'a mut Run,
    pub(super) options: &'a Options,
    pub(super) client: kube::Client,
    pub(super) pods: Api<Pod>,
    pub(super) watch: Watch,
    pub(super) subject: String,
    pub(super) bar: ProgressBar,
}

/// What came of a group of pods.
pub(super) enum Outcome<T> {
    Whole(T),
    /// In words.
    Failed(String),
    Stopped,
}

/// Pods that are Ready.
pub(super) struct Started {
    /// The first create was sent.
    sent: Duration,
    /// By name: when the create was acknowledged, and the uid.
    pub created: BTreeMap<String, (Duration, String)>,
}

impl<'a> Rounds<'a> {
    pub async fn start(
        run: &'a mut Run,
        options: &'a Options,
        client: &kube::Client,
        namespace: &str,
    ) -> Result<Rounds<'a>> {
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let watch = Watch::start(pods.clone()).await?;
        let round = options.pods + options.at_once.min(1) + options.pods_on_node.len();
        Ok(Rounds {
            bar: steps::bar(run, options.rounds * round),
            subject: subject(run, options.subject.as_deref()),
            run,
            options,
            client: client.clone(),
            pods,
            watch,
        })
    }

    pub fn stopped(&self) -> bool {
        self.run.stopped()
    }

    /// A pod on each node, so that each has the image.
    pub async fn warm(&mut self, nodes: &[Node]) -> Result<()> {
        self.bar.set_message("warm the image on every node");
        let names = nodes
            .iter()
            .filter_map(|node| node.metadata.name.as_deref());
        let pods: Vec<Pod> = names
            .enumerate()
            .map(|(index, node)| self.pod(&format!("warm-{index}"), Some(node)))
            .collect();
        match self.lives(&pods).await? {
            Outcome::Failed(why) => bail!("image {}: {why}", self.options.image),
            Outcome::Whole(_) | Outcome::Stopped => Ok(()),
        }
    }

    pub async fn one_at_a_time(&mut self, round: usize) -> Result<()> {
        let mut lives = Vec::new();
        for index in 0..self.options.pods {
            self.bar
                .set_message(format!("round {}: pods one at a time", round + 1));
            let pod = self.pod(&format!("one-{round}-{index}"), None);
            match self.lives(&[pod]).await? {
                Outcome::Whole((_, of_one)) => lives.extend(of_one),
                Outcome::Failed(why) => {
                    self.failed(&format!("pods one at a time, round {}", round + 1), &why);
                    self.file(round, ONE_AT_A_TIME, &[]);
                    return self.clear().await;
                }
                Outcome::Stopped => return Ok(()),
            }
            self.bar.inc(1);
        }
        if !lives.is_empty() {
            self.file(round, ONE_AT_A_TIME, &lives);
        }
        Ok(())
    }

    pub async fn at_once(&mut self, round: usize) -> Result<()> {
        let count = self.options.at_once;
        if count == 0 || self.stopped() {
            return Ok(());
        }
        let mode = format!("{count}-at-once");
        let room = self.room().await?;
        if room < count {
            self.skip_once(
                &format!("{count} pods at once"),
                &format!("the nodes' allocatable pods leave room for {room}"),
            );
            return Ok(());
        }
        self.bar
            .set_message(format!("round {}: {count} pods at once", round + 1));
        let pods: Vec<Pod> = (0..count)
            .map(|index| self.pod(&format!("burst-{round}-{index}"), None))
            .collect();
        match self.lives(&pods).await? {
            Outcome::Whole((last_ready, lives)) => {
                self.file(round, &mode, &lives);
                let figure = sample::milliseconds("created-last-ready", &self.subject, &mode);
                self.run.add(figure, round, Some(last_ready));
            }
            Outcome::Failed(why) => {
                self.failed(&format!("{count} pods at once, round {}", round + 1), &why);
                self.file(round, &mode, &[]);
                let figure = sample::milliseconds("created-last-ready", &self.subject, &mode);
                self.run.add(figure, round, None);
                return self.clear().await;
            }
            Outcome::Stopped => return Ok(()),
        }
        self.bar.inc(1);
        Ok(())
    }

    fn file(&mut self, round: usize, mode: &str, lives: &[Life]) {
        let samples = sample::samples(&self.subject, mode, lives);
        for (figure, sample) in samples {
            if sample.is_none() && !lives.is_empty() {
                self.skip_once(
                    &format!("{} ({mode})", figure.measure),
                    "the watch did not show this step, or the one before it, for every pod",
                );
            }
            self.run.add(figure, round, sample);
        }
    }

    /// From nothing to Ready to gone; with the milliseconds until the last was Ready.
    async fn lives(&mut self, pods: &[Pod]) -> Result<Outcome<(f64, Vec<Life>)>> {
        let started = match self.ready(pods).await? {
            Outcome::Whole(started) => started,
            Outcome::Failed(why) => return Ok(Outcome::Failed(why)),
            Outcome::Stopped => return Ok(Outcome::Stopped),
        };
        let names: Vec<String> = started.created.keys().cloned().collect();
        let settle = match names.len() {
            1 => ONE_SETTLES,
            _ => MANY_SETTLE,
        };
        if !self.run.pause(settle).await {
            return Ok(Outcome::Stopped);
        }
        let deleted = match self.gone(&names).await? {
            Outcome::Whole(deleted) => deleted,
            Outcome::Failed(why) => return Ok(Outcome::Failed(why)),
            Outcome::Stopped => return Ok(Outcome::Stopped),
        };
        if let Some(why) = self.watch.take_broken() {
            return Ok(Outcome::Failed(format!("the watch broke: {why}")));
        }
        let lives: Vec<Life> = started
            .created
            .iter()
            .map(|(name, (created, _))| Life {
                created: *created,
                deleted: deleted.get(name).copied().unwrap_or_default(),
                timeline: self.watch.timelines.of(name),
            })
            .collect();
        let last = lives
            .iter()
            .filter_map(|life| life.timeline.at(Step::Ready))
            .max()
            .context("a pod that was Ready has no such moment")?;
        Ok(Outcome::Whole((milliseconds(started.sent, last), lives)))
    }

    /// Creates them and waits until all are Ready.
    pub(super) async fn ready(&mut self, pods: &[Pod]) -> Result<Outcome<Started>> {
        let origin = self.watch.origin;
        let api = &self.pods;
        let sent = origin.elapsed();
        let answers: Vec<_> = futures::stream::iter(pods)
            .map(|pod| async move {
                let made = api.create(&PostParams::default(), pod).await;
                (origin.elapsed(), made)
            })
            .buffer_unordered(IN_FLIGHT)
            .collect()
            .await;
        let mut created = BTreeMap::new();
        let mut errors = Vec::new();
        for (at, answer) in answers {
            match answer {
                Ok(pod) => {
                    let name = pod.metadata.name.unwrap_or_default();
                    created.insert(name, (at, pod.metadata.uid.unwrap_or_default()));
                }
                Err(error) => errors.push(error),
            }
        }
        if let Some(first) = errors.first() {
            let (failed, all) = (errors.len(), pods.len());
            let why = format!("{failed} of {all} creates failed, the first with: {first}");
            return Ok(Outcome::Failed(why));
        }
        let names: Vec<String> = created.keys().cloned().collect();
        match self.wait(&names, Step::Ready).await {
            Waited::All => Ok(Outcome::Whole(Started { sent, created })),
            Waited::Late(late) => Ok(Outcome::Failed(self.why(&late, "Ready").await)),
            Waited::Stopped => Ok(Outcome::Stopped),
        }
    }

    /// Deletes them and waits until all are gone; by name, when the delete was acknowledged.
    pub(super) async fn gone(
        &mut self,
        names: &[String],
    ) -> Result<Outcome<BTreeMap<String, Duration>>> {
        let origin = self.watch.origin;
        let api = &self.pods;
        let answers: Vec<_> = futures::stream::iter(names)
            .map(|name| async move {
                let answer = api.delete(name, &DeleteParams::default()).await;
                (name.clone(), origin.elapsed(), answer)
            })
            .buffer_unordered(IN_FLIGHT)
            .collect()
            .await;
        let mut deleted = BTreeMap::new();
        for (name, at, answer) in answers {
            if let Err(error) = answer {
                return Ok(Outcome::Failed(format!("delete of {name}: {error}")));
            }
            deleted.insert(name, at);
        }
        match self.wait(names, Step::Gone).await {
            Waited::All => Ok(Outcome::Whole(deleted)),
            Waited::Late(late) => Ok(Outcome::Failed(self.why(&late, "gone").await)),
            Waited::Stopped => Ok(Outcome::Stopped),
        }
    }

    async fn wait(&mut self, names: &[String], step: Step) -> Waited {
        let limit = Duration::from_secs(self.options.limit);
        let stop = self.run.stop.clone();
        self.watch.until(names, step, limit, &stop).await
    }

    /// What is known about those that are late.
    async fn why(&self, late: &[String], step: &str) -> String {
        let state = match late.first() {
            Some(name) => match self.pods.get(name).await {
                Ok(pod) => format!("{name} has {}", brief_status(&pod)),
                Err(error) => format!("{name}: {error}"),
            },
            None => String::new(),
        };
        format!(
            "{} pods were not {step} after {} s; {state}",
            late.len(),
            self.options.limit
        )
    }

    /// After a failure: the next round finds the namespace without pods.
    pub(super) async fn clear(&mut self) -> Result<()> {
        self.pods
            .delete_collection(&DeleteParams::default(), &ListParams::default())
            .await
            .context("delete the pods of a failed round")?;
        let limit = Duration::from_secs(self.options.limit);
        let deadline = tokio::time::Instant::now() + limit;
        // Rare, and the watch may be what failed: asking again is simple and sure.
        while self.run.pause(Duration::from_secs(1)).await {
            let left = self.pods.list(&ListParams::default().limit(1)).await;
            if left
                .context("list what is left of a failed round")?
                .items
                .is_empty()
            {
                self.watch.take_broken();
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                bail!("pods of a failed round are not gone after {limit:?}");
            }
        }
        Ok(())
    }

    async fn room(&self) -> Result<usize> {
        let nodes = super::usable_nodes(&self.client).await?;
        let placed = super::placed_pods(&self.client).await?;
        Ok(nodes.iter().map(|node| capacity::room(node, &placed)).sum())
    }

    pub(super) fn pod(&self, name: &str, node: Option<&str>) -> Pod {
        manifest::pod(name, &self.options.image, node)
    }

    pub(super) fn failed(&mut self, what: &str, why: &str) {
        self.run.skip(what, why);
    }

    /// What holds for every round is said in one line.
    pub(super) fn skip_once(&mut self, what: &str, why: &str) {
        let said = &self.run.report.skipped;
        if !said.iter().any(|skipped| skipped.what == what) {
            self.run.skip(what, why);
        }
    }
}

impl Drop for Rounds<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Phase, and why a container waits or ended.
fn brief_status(pod: &Pod) -> String {
    let Some(status) = &pod.status else {
        return "no status".into();
    };
    let phase = status.phase.as_deref().unwrap_or("none");
    let mut words = vec![format!("phase {phase}")];
    for container in status.container_statuses.iter().flatten() {
        let Some(state) = &container.state else {
            continue;
        };
        if let Some(waiting) = &state.waiting {
            let reason = waiting.reason.as_deref().unwrap_or("no reason");
            let message = waiting.message.as_deref().unwrap_or("no message");
            words.push(format!("{} waits ({reason}: {message})", container.name));
        }
        if let Some(ended) = &state.terminated {
            words.push(format!("{} ended with {}", container.name, ended.exit_code));
        }
    }
    let conditions = status.conditions.iter().flatten();
    for condition in conditions.filter(|c| c.type_ == "PodScheduled" && c.status != "True") {
        let message = condition.message.as_deref().unwrap_or("no message");
        words.push(format!("not scheduled ({message})"));
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_late_pod_says_what_it_waits_for() {
        let container = |state: Value| {
            json!([{"name": "main", "image": "", "imageID": "", "ready": false,
                    "restartCount": 0, "state": state}])
        };
        for (status, wanted) in [
            (json!({"phase": "Running"}), "phase Running"),
            (
                json!({"phase": "Pending", "containerStatuses":
                    container(json!({"waiting": {"reason": "ErrImagePull", "message": "no"}}))}),
                "phase Pending, main waits (ErrImagePull: no)",
            ),
            (
                json!({"phase": "Failed", "containerStatuses":
                    container(json!({"terminated": {"exitCode": 3}}))}),
                "phase Failed, main ended with 3",
            ),
            (
                json!({"phase": "Pending", "conditions":
                    [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]}),
                "phase Pending, not scheduled (0/1 nodes)",
            ),
        ] {
            let pod: Pod = serde_json::from_value(json!({
                "metadata": {}, "spec": {"containers": []}, "status": status,
            }))
            .unwrap();
            assert_eq!(brief_status(&pod), wanted);
        }
        assert_eq!(brief_status(&Pod::default()), "no status");
    }
}
