//! Pods end where the node runs short of something, or where they wrote more than they may: the kubelet's
//! eviction manager.
//!
//! Every round it observes (the node's room; what pods with limits wrote), decides (`History`, `limits`,
//! `rank`: pure) and acts: first the node's own (images that nobody has), then one pod; and looks again
//! when that has gone.

mod limits;
mod rank;
mod usage;
mod words;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::context::Context;
use super::preempt::is_critical;
use super::sentence::Sentence;
use super::spec;
use super::status::Verdict;
use super::text::chain;
use crate::node::events;
use crate::node::image_gc::Collector;
use crate::node::pressure::{Eviction, History, Observed, Place, Pressure, Starved, Threshold};
use usage::PodUsage;

/// In the status of pods and their events.
pub const REASON: &str = "Evicted";
/// How long a pod has that goes at once (immediateEvictionGracePeriodSeconds).
const AT_ONCE: Duration = Duration::from_secs(1);
/// How long a round waits for what it ended (podCleanupTimeout).
const CLEANUP_LIMIT: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub struct EvictionConfig {
    pub thresholds: Eviction,
    pub place: Place,
    /// Those that go before pods do.
    pub images: Arc<Collector>,
    /// Told what the node is short of.
    pub pressure: watch::Sender<Pressure>,
    /// Between two rounds.
    pub every: Duration,
}

/// For ever.
pub async fn keep(context: Arc<Context>) {
    let mut manager = Manager {
        context,
        history: History::default(),
        told: None,
    };
    loop {
        let evicted = manager.round().await;
        if evicted.is_empty() {
            tokio::time::sleep(manager.context.config.eviction.every).await;
        } else {
            manager.cleaned(&evicted).await;
        }
    }
}

struct Manager {
    context: Arc<Context>,
    history: History,
    /// What the last round was short of.
    told: Option<Starved>,
}

impl Manager {
    /// Uids of pods that go.
    async fn round(&mut self) -> Vec<String> {
        let Some(observed) = self.observe() else {
            return Vec::new();
        };
        let context = self.context.clone();
        let config = &context.config.eviction;
        let decision = self
            .history
            .take(&config.thresholds, &observed, Timestamp::now());
        config.pressure.send_if_modified(|known| {
            let changed = *known != decision.pressure;
            *known = decision.pressure;
            changed
        });
        let evicted = self.enforce_limits().await;
        if !evicted.is_empty() {
            return evicted;
        }
        let Some(crossed) = decision.crossed else {
            self.told = None;
            return Vec::new();
        };
        self.tell(crossed.signal.starved());
        if self.reclaim(&crossed).await {
            return Vec::new();
        }
        self.evict_one(&crossed, &observed).await
    }

    fn observe(&self) -> Option<Observed> {
        let observed = self.context.config.eviction.place.observe();
        observed
            .inspect_err(|error| tracing::warn!("measuring the node's room: {}", chain(error)))
            .ok()
    }

    /// Once for as long as it is the same.
    fn tell(&mut self, starved: Starved) {
        if self.told.replace(starved) == Some(starved) {
            return;
        }
        let words = format!("Attempting to reclaim {}", starved.name());
        tracing::warn!("a threshold is crossed: {words}");
        let client = self.context.client.clone();
        let node = self.context.config.node_name.clone();
        // An API server that is slow must not hold this up.
        tokio::spawn(async move {
            events::warn(&client, &node, "EvictionThresholdMet", words).await;
        });
    }

    /// Takes back what no pod has. Whether that was enough.
    async fn reclaim(&self, crossed: &Threshold) -> bool {
        let config = &self.context.config.eviction;
        if !matches!(
            crossed.signal.starved(),
            Starved::EphemeralStorage | Starved::Inodes
        ) {
            return false;
        }
        match config.images.remove_unused().await {
            Ok(bytes) => tracing::info!(bytes, "removed images for room on the disk"),
            Err(words) => tracing::warn!("removing images for room on the disk: {words}"),
        }
        let met = |observed| config.thresholds.all().any(|own| own.is_met(&observed));
        self.observe().is_some_and(|observed| !met(observed))
    }

    /// All that wrote more than they may.
    async fn enforce_limits(&self) -> Vec<String> {
        let mut pods = self.context.candidates();
        pods.retain(|pod| limits::has_any(pod) && !is_critical(pod));
        let used = usage::of(&self.context, &pods, true).await;
        let mut evicted = Vec::new();
        for pod in &pods {
            let used = used.get(spec::uid(pod));
            if let Some(words) = used.and_then(|used| limits::exceeded(pod, used)) {
                // It has itself to blame: no disruption.
                self.evict(pod, words, AT_ONCE, false);
                evicted.push(spec::uid(pod).to_owned());
            }
        }
        evicted
    }

    async fn evict_one(&self, crossed: &Threshold, observed: &Observed) -> Vec<String> {
        let starved = crossed.signal.starved();
        let mut pods = self.context.candidates();
        let files = matches!(starved, Starved::EphemeralStorage | Starved::Inodes);
        let used = usage::of(&self.context, &pods, files).await;
        rank::order(starved, &mut pods, &used);
        let Some(pod) = pods.iter().find(|pod| !is_critical(pod)) else {
            tracing::warn!("no pod can be ended to reclaim {}", starved.name());
            return Vec::new();
        };
        let words = words::low(crossed, observed, pod, used.get(spec::uid(pod)));
        let grace = match crossed.grace {
            None => AT_ONCE,
            Some(_) => self.context.config.eviction.thresholds.max_pod_grace,
        };
        self.evict(pod, words, grace, true);
        vec![spec::uid(pod).to_owned()]
    }

    fn evict(&self, pod: &Pod, words: String, grace: Duration, disruption: bool) {
        tracing::warn!(
            pod = spec::name(pod),
            namespace = spec::namespace(pod),
            "evicted: {words}"
        );
        let sentence = Sentence {
            disruption: disruption.then(|| words.clone()),
            verdict: Verdict {
                reason: REASON.to_owned(),
                message: words,
            },
            grace: Some(grace),
        };
        self.context.sentence(spec::uid(pod), sentence);
    }

    /// Until nothing of them is left, but not for ever.
    async fn cleaned(&self, uids: &[String]) {
        let deadline = Instant::now() + CLEANUP_LIMIT;
        let mut room = self.context.room();
        while uids.iter().any(|uid| self.context.has(uid)) {
            // Its sender is in the context, which is here.
            if timeout_at(deadline, room.changed()).await.is_err() {
                return tracing::warn!(?uids, "pods that were evicted are still here");
            }
        }
    }
}

type Used = BTreeMap<String, PodUsage>;
