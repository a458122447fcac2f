//! A pod on its way out.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Client};

use super::clean::{CleanJob, Traces};
use super::end::EndJob;
use super::job::{Kind, Outcome};
use super::volumes::FollowedObjects;
use super::{Stage, Worker};
use crate::pods::text::api_words;
use crate::pods::{sandbox, spec};

/// Before what failed on the way out is tried again.
const RETRY: Duration = Duration::from_secs(1);

impl Worker {
    pub(super) fn step_ending(&mut self, now: Timestamp) {
        let waiting = self.end_retry.is_some_and(|at| now < at);
        if waiting || self.jobs.is_building() || self.jobs.is_running(&Kind::End) {
            return;
        }
        let job = EndJob {
            context: self.context.clone(),
            pod: self.pod.clone(),
            seen: self.seen.clone(),
            pod_ip: self.pod_ips.first().copied(),
            grace: self.grace.subscribe(),
        };
        self.jobs.spawn(Kind::End, job.run());
    }

    fn is_deleted(&self) -> bool {
        self.removed || spec::is_deleted(&self.pod)
    }

    pub(super) fn step_cleaning(&mut self, now: Timestamp) {
        let waiting = self.end_retry.is_some_and(|at| now < at);
        if waiting || self.jobs.is_running(&Kind::Clean) {
            return;
        }
        self.cleaning_all = self.is_deleted();
        let traces = self.cleaning_all.then(|| Traces {
            sandboxes: self.sandboxes.iter().cloned().collect(),
            logs: sandbox::log_directory(&self.context.config.pod_log_dir, &self.pod),
        });
        let job = CleanJob {
            context: self.context.clone(),
            dir: self.dir.clone(),
            traces,
        };
        self.jobs.spawn(Kind::Clean, job.run());
    }

    pub(super) fn step_over(&mut self, now: Timestamp) {
        if self.is_deleted() {
            self.stage = Stage::Cleaning;
            self.step_cleaning(now);
        }
    }

    pub(super) fn step_deleting(&mut self) {
        if self.removed {
            self.stage = Stage::Gone;
            return;
        }
        if !self.deleted && !self.jobs.is_running(&Kind::Delete) {
            let flushed = self.writer.flushed();
            let (client, pod) = (self.context.client.clone(), self.pod.clone());
            self.jobs.spawn(Kind::Delete, async move {
                // People and controllers see how it ended before it is gone.
                flushed.await;
                Outcome::Deleted(delete(client, &pod).await)
            });
        }
    }

    pub(super) fn take_end(&mut self, result: Result<(), String>, now: Timestamp) {
        if self.went_well(result, now) {
            self.stage = Stage::Cleaning;
        }
    }

    pub(super) fn take_clean(&mut self, result: Result<(), String>, now: Timestamp) {
        if !self.went_well(result, now) {
            return;
        }
        self.context.release(spec::uid(&self.pod));
        // Their watches end with the last pod that uses them.
        self.objects = Arc::new(FollowedObjects::none());
        self.stage = match (self.cleaning_all, self.removed) {
            (false, _) => Stage::Over,
            (true, false) => Stage::Deleting,
            (true, true) => Stage::Gone,
        };
    }

    fn went_well(&mut self, result: Result<(), String>, now: Timestamp) -> bool {
        match result {
            Ok(()) => {
                self.end_retry = None;
                true
            }
            Err(words) => {
                tracing::warn!(
                    pod = self.name(),
                    namespace = spec::namespace(&self.pod),
                    "ending: {words}"
                );
                self.end_retry = now.saturating_add(RETRY).ok();
                false
            }
        }
    }

    pub(super) fn take_delete(&mut self, result: Result<(), String>) {
        match result {
            // The watch says when it is gone: finalizers may hold it.
            Ok(()) => self.deleted = true,
            Err(words) => tracing::warn!(
                pod = self.name(),
                namespace = spec::namespace(&self.pod),
                "deleting from the API server: {words}"
            ),
        }
    }
}

/// Only this very pod, at once.
async fn delete(client: Client, pod: &Pod) -> Result<(), String> {
    let pods: Api<Pod> = Api::namespaced(client, spec::namespace(pod));
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions {
            uid: pod.metadata.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match pods.delete(spec::name(pod), &params).await {
        Ok(_) => Ok(()),
        // Gone, or another pod has its name.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(api_words(&error)),
    }
}
