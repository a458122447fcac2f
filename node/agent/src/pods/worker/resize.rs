//! The pod's resources on their way from the spec to its containers.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use vetch_runtime::ContainerState;

use super::job::Kind;
use super::update::UpdateJob;
use super::{Retry, Stage, Worker};
use crate::pods::resize::{self, Allocation, Answer, Resizing, Told};
use crate::pods::text::chain;
use crate::pods::{spec, unsupported};

/// The node's own size may change, which nobody tells.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

pub struct Resize {
    /// The pod as the API server had it last.
    wanted: Arc<Pod>,
    allocation: Allocation,
    pub state: Resizing,
    /// Another pod gave something back.
    pub room: watch::Receiver<()>,
    retry: Retry,
}

impl Resize {
    /// Until more is known, the pod has what it wants.
    pub fn new(pod: Arc<Pod>, room: watch::Receiver<()>) -> Resize {
        Resize {
            allocation: Allocation::of(&pod),
            wanted: pod,
            state: Resizing::default(),
            room,
            retry: Retry::new(Duration::from_secs(5), Duration::from_secs(60)),
        }
    }

    /// A new version of the pod: what of it the worker goes by.
    pub fn take(&mut self, pod: Arc<Pod>) -> Arc<Pod> {
        self.wanted = pod.clone();
        self.allocation.applied(pod)
    }

    pub fn is_pending(&self) -> bool {
        self.state.pending.is_some()
    }

    /// When to look again, if nothing happens before.
    pub fn next_look(&self, now: Timestamp) -> Option<Timestamp> {
        let pending = self.is_pending().then_some(LOOK_AGAIN);
        let asked_again = pending.and_then(|pause| now.saturating_add(pause).ok());
        let tried_again = self.retry.at.filter(|at| now < *at);
        asked_again.into_iter().chain(tried_again).min()
    }
}

impl Worker {
    /// Of a pod that an earlier daemon took: what it was granted then.
    pub(super) fn recall_allocation(&mut self) {
        match Allocation::read(&self.dir) {
            Ok(Some(allocation)) => {
                self.resize.allocation = allocation;
                self.pod = self.resize.take(self.resize.wanted.clone());
            }
            Ok(None) => self.keep_allocation(),
            Err(error) => tracing::warn!(
                pod = self.name(),
                "what it was granted is not known, its spec goes for it: {}",
                chain(&error)
            ),
        }
    }

    /// Of one the node has just taken.
    pub(super) fn keep_allocation(&self) {
        if let Err(error) = self.resize.allocation.write(&self.dir) {
            tracing::warn!(pod = self.name(), "{}", chain(&error));
        }
    }

    /// Whether the node grants what the spec wants now.
    pub(super) async fn follow_resize(&mut self) {
        if self.stage != Stage::Running {
            self.resize.state = Resizing::default();
            return;
        }
        // What is wanted is what the worker goes by.
        if Arc::ptr_eq(&self.resize.wanted, &self.pod) {
            self.resize.state.pending = None;
            return;
        }
        let pod = self.resize.wanted.clone();
        match self.context.resize(&pod).await {
            Answer::Granted => self.allocate(Allocation::of(&pod)),
            Answer::Deferred(words) => self.not_granted("Deferred", "ResizeDeferred", words),
            Answer::Infeasible(words) => self.not_granted("Infeasible", "ResizeInfeasible", words),
        }
    }

    /// Kept before anything is made of it.
    fn allocate(&mut self, allocation: Allocation) {
        if let Err(error) = allocation.write(&self.dir) {
            tracing::warn!(pod = self.name(), "not resized: {}", chain(&error));
            self.resize.retry.failed(Timestamp::now());
            return;
        }
        self.resize.allocation = allocation;
        let before = std::mem::replace(&mut self.pod, self.resize.wanted.clone());
        self.resize.retry.succeeded();
        self.resize.state.pending = None;
        self.resize.state.in_progress = Some(self.begun());
        let teller = self.context.recorder.pod(&self.pod);
        teller.normal("ResizeStarted", resize::message("started", &self.pod, ""));
        // Of limits that have no effect here, those that were not there before.
        let missing = &self.context.config.missing_controllers;
        let known = unsupported::warnings(&before, missing);
        for warning in unsupported::warnings(&self.pod, missing) {
            if !known.contains(&warning) {
                teller.warning(warning.0, warning.1);
            }
        }
    }

    fn not_granted(&mut self, reason: &'static str, event: &'static str, words: String) {
        let told = Told {
            reason,
            message: words,
            generation: self.resize.wanted.metadata.generation,
        };
        if self.resize.state.pending.as_ref() == Some(&told) {
            return;
        }
        let message = resize::message(reason, &self.resize.wanted, &told.message);
        let teller = self.context.recorder.pod(&self.pod);
        teller.warning(event, message);
        self.resize.state.pending = Some(told);
    }

    fn begun(&self) -> Told {
        Told {
            generation: self.pod.metadata.generation,
            ..Told::default()
        }
    }

    /// Ended containers are forgotten when another one has taken their place.
    pub(super) fn forget_restarted(&mut self) {
        let seen = &self.seen;
        let starting = self.jobs.busy().start;
        self.resize.state.restarted.retain(|id| {
            let mut containers = seen.containers();
            let own = containers.find(|container| container.id == *id);
            own.and_then(|own| seen.latest(&own.name))
                .is_some_and(|latest| {
                    latest.id == *id
                        || latest.state == ContainerState::Created
                        || starting.as_ref() == Some(&latest.name)
                })
        });
    }

    /// What runs is given what the pod was granted.
    pub(super) fn actuate(&mut self, now: Timestamp) {
        if self.jobs.is_running(&Kind::Update) {
            return;
        }
        let actuation = resize::actuation(
            &self.pod,
            &self.seen,
            self.context.config.memory_qos.as_ref(),
        );
        let begun = self.begun();
        let state = &mut self.resize.state;
        if actuation.outstanding || !state.restarted.is_empty() {
            state.in_progress.get_or_insert(begun);
        } else if !self.jobs.is_building() && state.in_progress.take().is_some() {
            let message = resize::message("completed", &self.pod, "");
            let teller = self.context.recorder.pod(&self.pod);
            teller.normal("ResizeCompleted", message);
        }
        let held = self.resize.retry.at.is_some_and(|at| now < at);
        let Some(sandbox) = self.seen.sandbox().filter(|_| !held) else {
            return;
        };
        if actuation.steps.is_empty() {
            return;
        }
        let job = UpdateJob {
            context: self.context.clone(),
            sandbox: sandbox.id.clone(),
            actuation,
            generation: self.pod.metadata.generation,
        };
        self.jobs.spawn(Kind::Update, job.run());
    }

    pub(super) fn take_updated(
        &mut self,
        generation: Option<i64>,
        result: Result<(), String>,
        now: Timestamp,
    ) {
        match result {
            Ok(()) => {
                self.resize.retry.succeeded();
                if let Some(told) = &mut self.resize.state.in_progress {
                    told.reason = "";
                    told.message.clear();
                }
            }
            // Of a pod on its way out.
            Err(_) if self.stage != Stage::Running => {}
            // Of what was wanted before: what is wanted now comes next.
            Err(_) if generation != self.pod.metadata.generation => {}
            Err(words) => self.not_given(words, now),
        }
    }

    fn not_given(&mut self, words: String, now: Timestamp) {
        self.resize.retry.failed(now);
        let begun = self.begun();
        let told = self.resize.state.in_progress.get_or_insert(begun);
        if told.message == words {
            return;
        }
        told.reason = "Error";
        told.message.clone_from(&words);
        tracing::warn!(
            pod = self.name(),
            namespace = spec::namespace(&self.pod),
            "resizing: {words}"
        );
        let message = resize::message("error", &self.pod, &words);
        let teller = self.context.recorder.pod(&self.pod);
        teller.warning("ResizeError", message);
    }
}
