//! A pod that shall run: the plan, and the jobs that carry it out.

use jiff::Timestamp;
use tokio::sync::watch;
use vetch_runtime::{ContainerId, ContainerState, ContainerStatus};

use super::job::{Kind, Outcome};
use super::kill::Kill;
use super::make_sandbox::SandboxJob;
use super::start::StartJob;
use super::volumes::VolumeJob;
use super::{Worker, clean};
use crate::pods::plan::{self, Action, KillReason, Observed, Plan, Readiness};
use crate::pods::status::Verdict;
use crate::pods::volumes::used;
use crate::pods::{ephemeral, restart, spec, termination};

impl Worker {
    pub(super) fn step_running(&mut self, now: Timestamp) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            let message = "Pod was active on the node longer than the specified deadline";
            let teller = self.context.recorder.pod(&self.pod);
            teller.normal("DeadlineExceeded", message);
            self.verdict = Some(Verdict {
                reason: "DeadlineExceeded".to_owned(),
                message: message.to_owned(),
            });
            return self.end(now);
        }
        self.forgive_holds();
        let plan = self.plan(now);
        self.tell(&plan);
        self.waiting = plan.waiting;
        self.wake_at = plan.wake_at;
        if plan.ended {
            return self.end(now);
        }
        let mut starting = self.jobs.busy().start.is_some();
        for action in plan.actions {
            if matches!(action, Action::Start { .. }) {
                // One after the other, in the order of the spec.
                if starting {
                    continue;
                }
                starting = true;
            }
            self.act(action, now);
        }
        self.actuate(now);
        self.refresh_volumes(now);
    }

    fn end(&mut self, now: Timestamp) {
        self.waiting.clear();
        self.leave_running();
        self.step_ending(now);
    }

    /// What failed for an object may go well with another version of it.
    fn forgive_holds(&mut self) {
        let print = self.objects.print();
        if print == self.objects_print {
            return;
        }
        self.objects_print = print;
        for name in std::mem::take(&mut self.config_held) {
            self.holds.remove(&name);
        }
        if !self.has_volumes() {
            self.volumes_retry.at = None;
        }
    }

    /// All that are mounted: an ephemeral container may mount one more.
    fn has_volumes(&self) -> bool {
        let made = self.volumes.as_ref();
        made.is_some_and(|made| {
            used(&self.pod)
                .iter()
                .all(|volume| made.contains_key(&volume.name))
        })
    }

    fn plan(&self, now: Timestamp) -> Plan {
        let busy = self.jobs.busy();
        plan::plan(&Observed {
            pod: &self.pod,
            seen: &self.seen,
            past: &self.past,
            results: self.probes.results(),
            readiness: Readiness {
                network: *self.network_ready.borrow(),
                addressed: !self.pod_ips.is_empty(),
                volumes: self.has_volumes(),
                sandbox_hold: self.sandbox_retry.at,
                volumes_hold: self.volumes_retry.at,
            },
            crashes: &self.crashes,
            pulls: &self.pulls,
            pull_errors: &self.pull_errors,
            resized: &self.resize.state.restarted,
            holds: &self.holds,
            busy: &busy,
            now,
        })
    }

    fn act(&mut self, action: Action, now: Timestamp) {
        match action {
            Action::MakeSandbox { attempt, replaces } => {
                if replaces {
                    let message = "Pod sandbox changed, it will be killed and re-created.";
                    let teller = self.context.recorder.pod(&self.pod);
                    teller.normal("SandboxChanged", message);
                }
                self.pod_ips.clear();
                let earlier = self.seen.sandboxes.clone();
                let job = self.sandbox_job();
                self.jobs.spawn(Kind::Sandbox, job.make(attempt, earlier));
            }
            Action::Attach(id) => {
                let found = self.seen.sandboxes.iter().find(|status| status.id == id);
                if let Some(sandbox) = found.cloned() {
                    let job = self.sandbox_job();
                    self.jobs.spawn(Kind::Sandbox, job.attach(sandbox));
                }
            }
            Action::SetUpVolumes => self.set_up_volumes(),
            Action::Start { container } => self.start(container, now),
            Action::Kill {
                id,
                container,
                message,
                reason,
            } => self.kill(id, container, message, reason),
            Action::RemoveContainer(id) => self.remove_container(id, false),
            Action::Reset { id, container } => self.reset(id, &container, now),
            Action::RemoveSandbox(id) => {
                let context = self.context.clone();
                self.jobs.spawn(Kind::SweepSandbox(id.clone()), async move {
                    let removed = clean::network_and_sandbox(&context, &id).await;
                    if let Err(words) = removed {
                        tracing::warn!(sandbox = %id, "{words}");
                    }
                    Outcome::Swept
                });
            }
        }
    }

    fn sandbox_job(&self) -> SandboxJob {
        SandboxJob {
            context: self.context.clone(),
            pod: self.pod.clone(),
            dir: self.dir.clone(),
        }
    }

    fn kill(&mut self, id: ContainerId, container: String, message: String, reason: KillReason) {
        let grace = spec::container(&self.pod, &container).map_or_else(
            || termination::pod_grace(&self.pod),
            |container| termination::container_grace(&self.pod, container, reason),
        );
        let kill = Kill {
            context: self.context.clone(),
            pod: self.pod.clone(),
            container,
            id: id.clone(),
            message,
            pod_ip: self.pod_ips.first().copied(),
        };
        if reason == KillReason::Resize {
            self.resize.state.restarted.insert(id.clone());
        }
        self.jobs.spawn(Kind::Kill(id), async move {
            let (_sender, grace) = watch::channel(grace);
            let killed = match reason {
                KillReason::RestartAll => kill.run_at_once().await,
                _ => kill.run(grace).await,
            };
            if let Err(words) = killed {
                tracing::warn!(container = %kill.id, "{words}");
            }
            Outcome::Killed
        });
    }

    /// A container whose end restarts all crashes no less for it.
    fn reset(&mut self, id: ContainerId, name: &str, now: Timestamp) {
        let triggers = restart::triggers(&self.pod, &self.seen);
        let own = triggers.iter().find(|(_, status)| status.id == id);
        if let Some((container, status)) = own
            && let Some(finished) = status.finished_at
        {
            let key = plan::crash_key(container);
            self.crashes.next(&key, finished, now);
        }
        self.failures.remove(name);
        self.remove_container(id, true);
    }

    /// Its log goes with it, as the kubelet has it.
    fn remove_container(&mut self, id: ContainerId, keep_log: bool) {
        let log = self.seen.sandboxes.iter().find_map(|sandbox| {
            let container = sandbox.containers.iter().find(|c| c.id == id)?;
            Some(sandbox.spec.log_directory.join(&container.log_path))
        });
        let runtime = self.context.runtime.clone();
        self.jobs
            .spawn(Kind::SweepContainer(id.clone()), async move {
                match runtime.remove_container(&id).await {
                    Err(error) => tracing::warn!(container = %id, "removing: {error}"),
                    Ok(()) => {
                        if let Some(log) = log.filter(|_| !keep_log) {
                            // One that was never written is as good.
                            let _ = tokio::fs::remove_file(log).await;
                        }
                    }
                }
                Outcome::Swept
            });
    }

    fn set_up_volumes(&mut self) {
        // It is away only while such a job runs.
        let Some(tokens) = self.tokens.take() else {
            return;
        };
        let job = VolumeJob {
            context: self.context.clone(),
            pod: self.pod.clone(),
            dir: self.dir.clone(),
            objects: self.objects.clone(),
            pod_ips: self.pod_ips.clone(),
            tokens,
            before: self.volumes.clone(),
            stopped: self.jobs.stopped(),
        };
        self.jobs.spawn(Kind::Volumes, job.run());
    }

    /// The content of volumes follows what it is made from.
    fn refresh_volumes(&mut self, now: Timestamp) {
        let held = self.volumes_retry.at.is_some_and(|at| now < at);
        let due = self.volumes.is_some() && !held && !self.jobs.busy().volumes;
        if due && self.volumes_are_stale(now) {
            self.set_up_volumes();
        }
    }

    fn start(&mut self, name: String, now: Timestamp) {
        let (Some(sandbox), Some(volumes)) = (self.seen.sandbox(), &self.volumes) else {
            return;
        };
        let history = self.seen.history(&name);
        let latest = history.first().copied();
        let never_ran = |status: &ContainerStatus| status.state == ContainerState::Created;
        let stale = latest.filter(|status| never_ran(status));
        // One that never ran gives its number to the next.
        let attempt = latest.map(|status| status.attempt + u32::from(!never_ran(status)));
        let finished = history
            .iter()
            .find(|status| status.state == ContainerState::Exited)
            // One that we ended is no crash.
            .filter(|status| !self.resize.state.restarted.contains(&status.id))
            .and_then(|status| status.finished_at);
        let job = StartJob {
            context: self.context.clone(),
            pod: self.pod.clone(),
            container: name.clone(),
            sandbox: sandbox.id.clone(),
            attempt,
            stale: stale.map(|status| status.id.clone()),
            target: self.target(&name),
            logs: sandbox.spec.log_directory.clone(),
            dir: self.dir.clone(),
            volumes: volumes.clone(),
            objects: self.objects.clone(),
            pod_ips: self.pod_ips.clone(),
            stopped: self.jobs.stopped(),
        };
        if let (Some(finished), Some(container)) = (finished, spec::container(&self.pod, &name)) {
            let key = plan::crash_key(container);
            self.crashes.next(&key, finished, now);
        }
        self.holds.remove(&name);
        self.jobs.spawn(Kind::Start(name), job.run());
    }

    /// Of an ephemeral container: which one its target is now.
    fn target(&self, name: &str) -> Result<Option<ContainerId>, String> {
        let Some(target) = ephemeral::target(&self.pod, name) else {
            return Ok(None);
        };
        match self.seen.current(target) {
            Some(status) => Ok(Some(status.id.clone())),
            None => Err(format!("unable to find target container {target}")),
        }
    }
}
