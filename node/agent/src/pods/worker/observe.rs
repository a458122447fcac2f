//! What the worker knows: taken in before each decision.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use vetch_runtime::{ContainerState, SandboxState};

use super::volumes::{self, FollowedObjects};
use super::{Stage, Update, Worker};
use crate::pods::sources::references;
use crate::pods::static_pods::is_static;
use crate::pods::status::{self, Waiting};
use crate::pods::{addresses, spec, termination};

impl Worker {
    /// Before anything else: whether the node takes the pod.
    pub(super) async fn begin(&mut self) {
        // One that is over has nothing of the node any more.
        let over = spec::is_terminal(spec::phase(&self.pod));
        let begun = over || !self.sandboxes.is_empty() || self.status.start_time.is_some();
        if begun && !over {
            self.recall_allocation();
            self.context.take(&self.pod);
        } else if !begun
            && !spec::is_deleted(&self.pod)
            && let Err(verdict) = self.context.admit(&self.pod).await
        {
            self.reject(verdict);
            return;
        }
        if !begun {
            if !spec::is_deleted(&self.pod) {
                self.keep_allocation();
            }
            let missing = &self.context.config.missing_controllers;
            let teller = self.context.recorder.pod(&self.pod);
            for (reason, message) in crate::pods::unsupported::warnings(&self.pod, missing) {
                teller.warning(reason, message);
            }
        }
        if !over {
            self.context.runs(&self.pod);
            self.follow_objects();
        }
    }

    fn follow_objects(&mut self) {
        let objects = FollowedObjects::of(&self.context, &self.pod, &self.inbox.waker);
        self.objects = Arc::new(objects);
    }

    fn reject(&mut self, verdict: status::Verdict) {
        let teller = self.context.recorder.pod(&self.pod);
        teller.warning(verdict.reason.clone(), verdict.message.clone());
        self.verdict = Some(status::Verdict {
            message: format!("Pod was rejected: {}", verdict.message),
            ..verdict
        });
        self.stage = Stage::Ending;
    }

    pub(super) fn take_update(&mut self) {
        match self.inbox.take() {
            None => {}
            Some(Update::Present(pod)) => self.take_pod(pod),
            Some(Update::Removed(last)) => {
                if let Some(pod) = last {
                    self.take_pod(pod);
                }
                self.removed = true;
            }
        }
        if let Some(sentence) = self.inbox.take_sentence()
            && self.stage == Stage::Running
        {
            let verdict = &sentence.verdict;
            let teller = self.context.recorder.pod(&self.pod);
            teller.warning(verdict.reason.clone(), verdict.message.clone());
            self.verdict = Some(sentence.verdict);
            self.disruption = sentence.disruption;
            self.most_grace = sentence.grace;
            self.waiting.clear();
            self.leave_running();
        }
        if let Some(mirror) = self.inbox.take_mirror() {
            self.take_mirror(mirror.as_deref());
        }
        let own = termination::pod_grace(&self.pod);
        let grace = self.most_grace.map_or(own, |most| own.min(most));
        self.grace.send_if_modified(|known| {
            let shorter = grace < *known || self.stage == Stage::Running;
            let different = *known != grace && shorter;
            if different {
                *known = grace;
            }
            different
        });
        let doomed = self.removed
            || spec::is_deleted(&self.pod)
            || spec::is_terminal(spec::phase(&self.pod));
        if doomed && self.stage == Stage::Running {
            self.leave_running();
        }
    }

    fn take_pod(&mut self, pod: Arc<Pod>) {
        self.writer.observe(&pod);
        if pod.metadata.generation != self.pod.metadata.generation {
            // Another image may be one that can be had.
            self.holds.clear();
        }
        let known = references(&self.pod);
        self.pod = self.resize.take(pod);
        // An ephemeral container may use others.
        if self.stage == Stage::Running {
            self.context.runs(&self.pod);
            if references(&self.pod) != known {
                self.follow_objects();
            }
        }
    }

    /// Of a static pod: what its status is written to, and when it began by what was written there before.
    fn take_mirror(&mut self, mirror: Option<&Pod>) {
        let written = mirror.and_then(|mirror| mirror.status.as_ref()?.start_time.clone());
        let own = self.status.start_time.as_ref();
        if let Some(written) = written
            && own.is_some_and(|own| written.0 < own.0)
        {
            self.status.start_time = Some(written);
        }
        self.writer.follow_mirror(mirror);
    }

    pub(super) fn leave_running(&mut self) {
        self.stage = Stage::Ending;
        self.context.ends(spec::uid(&self.pod));
        self.jobs.stop_building();
    }

    pub(super) async fn observe(&mut self) {
        let mut sandboxes = Vec::new();
        let mut gone = Vec::new();
        for id in &self.sandboxes {
            match self.context.runtime.sandbox(id).await {
                Some(status) => sandboxes.push(status),
                None => gone.push(id.clone()),
            }
        }
        for id in gone {
            self.sandboxes.remove(&id);
        }
        self.seen = crate::pods::seen::Seen::new(sandboxes);
        self.forget_restarted();
        self.read_messages();
        if self.pod_ips.is_empty() {
            self.find_addresses().await;
        }
        let held = self.held();
        self.probes.follow(
            &self.pod,
            &self.seen,
            self.pod_ips.first().copied(),
            held.as_deref(),
            self.stage != Stage::Running,
        );
    }

    /// Of a sandbox that an earlier daemon made.
    async fn find_addresses(&mut self) {
        let Some(sandbox) = self.seen.newest() else {
            return;
        };
        if sandbox.state != SandboxState::Ready || self.jobs.busy().sandbox {
            return;
        }
        if spec::host_network(&self.pod) {
            self.pod_ips = self.context.config.node_ips.clone();
        } else if let Some(found) = self.context.network.addresses(&sandbox.id.0).await {
            let node_ips = &self.context.config.node_ips;
            self.pod_ips = addresses::of_pod(&found.ips, node_ips);
        }
    }

    fn read_messages(&mut self) {
        for sandbox in &self.seen.sandboxes {
            for container in &sandbox.containers {
                if container.state != ContainerState::Exited
                    || self.messages.contains_key(&container.id)
                {
                    continue;
                }
                let log = sandbox.spec.log_directory.join(&container.log_path);
                let message = status::read_termination_message(container, &log);
                self.messages.insert(container.id.clone(), message);
            }
        }
        let seen = &self.seen;
        self.messages
            .retain(|id, _| seen.containers().any(|container| container.id == *id));
    }

    /// A container whose postStart hook runs: it is not shown as running yet.
    pub(super) fn held(&self) -> Option<String> {
        let starting = self.jobs.busy().start?;
        let container = spec::container(&self.pod, &starting)?;
        let hook = container
            .lifecycle
            .as_ref()
            .is_some_and(|lifecycle| lifecycle.post_start.is_some());
        hook.then_some(starting)
    }

    /// Whether the volumes' content is behind what it is made from.
    pub(super) fn volumes_are_stale(&self, now: Timestamp) -> bool {
        let renewal = self
            .tokens
            .as_ref()
            .and_then(|tokens| tokens.next_renewal());
        renewal.is_some_and(|at| at <= now)
            || volumes::print(&self.pod, &self.objects) != self.volumes_print
    }

    pub(super) fn publish(&mut self, now: Timestamp) {
        // The mirror of a static pod shows how it ends.
        if self.removed && !is_static(&self.pod) {
            return;
        }
        let mut waiting = self.failures.clone();
        waiting.extend(
            self.waiting
                .iter()
                .map(|(name, waiting)| (name.clone(), Waiting::clone(waiting))),
        );
        let held = self.held();
        let sandbox_ready = self.seen.sandbox().is_some() && !self.pod_ips.is_empty();
        let terminal = matches!(
            self.stage,
            Stage::Cleaning | Stage::Over | Stage::Deleting | Stage::Gone
        );
        self.status = status::build(&status::Inputs {
            pod: &self.pod,
            previous: &self.status,
            seen: &self.seen,
            waiting: &waiting,
            results: self.probes.results(),
            messages: &self.messages,
            held: held.as_deref(),
            resizing: &self.resize.state,
            pod_ips: &self.pod_ips,
            node_ips: &self.context.config.node_ips,
            sandbox_ready,
            terminal,
            verdict: self.verdict.as_ref(),
            disruption: self.disruption.as_deref(),
            now,
        });
        self.writer.set(&self.status);
    }
}
