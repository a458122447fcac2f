//! Stopping one container: its preStop hook, its stop signal, SIGKILL.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use vetch_runtime::{ContainerId, ContainerState, ContainerStatus};

use crate::pods::context::Context;
use crate::pods::termination::after_hook;
use crate::pods::text::chain;
use crate::pods::{lifecycle, spec};

/// So that a container that does not die is not killed in a busy loop.
const RETRY: Duration = Duration::from_secs(1);

pub struct Kill {
    pub context: Arc<Context>,
    pub pod: Arc<Pod>,
    pub container: String,
    pub id: ContainerId,
    pub message: String,
    pub pod_ip: Option<IpAddr>,
}

impl Kill {
    /// Returns when it is dead. `grace` may become shorter meanwhile.
    pub async fn run(&self, grace: watch::Receiver<Duration>) -> Result<(), String> {
        self.context
            .recorder
            .container(&self.pod, &self.container)
            .normal("Killing", self.message.clone());
        let began = Instant::now();
        self.pre_stop(grace.clone()).await;
        let result = self.stop(grace, began.elapsed()).await;
        if let Err(words) = &result {
            let message = format!("error killing pod: {words}");
            let teller = self.context.recorder.pod(&self.pod);
            teller.warning("FailedKillPod", message);
            tokio::time::sleep(RETRY).await;
        }
        result
    }

    /// Without a hook and without time to end.
    pub async fn run_at_once(&self) -> Result<(), String> {
        let teller = self.context.recorder.container(&self.pod, &self.container);
        teller.normal("Killing", self.message.clone());
        let stopped = self
            .context
            .runtime
            .stop_container(&self.id, Duration::ZERO);
        stopped.await.map_err(|error| chain(&error))
    }

    async fn pre_stop(&self, mut grace: watch::Receiver<Duration>) {
        let lifecycle = spec::container(&self.pod, &self.container)
            .and_then(|container| Some((container, container.lifecycle.as_ref()?)));
        let Some((container, hook)) = lifecycle
            .and_then(|(container, lifecycle)| Some((container, lifecycle.pre_stop.as_ref()?)))
        else {
            return;
        };
        let began = Instant::now();
        let context = &self.context;
        let mut run = std::pin::pin!(lifecycle::run(
            &context.runtime,
            &context.http,
            &self.id,
            container,
            self.pod_ip,
            hook,
        ));
        loop {
            let left = grace.borrow_and_update().saturating_sub(began.elapsed());
            if left.is_zero() {
                return;
            }
            tokio::select! {
                result = &mut run => {
                    if let Err(error) = result {
                        tracing::info!(container = %self.id, "preStop hook: {}", chain(&error));
                        // Its words may hold secrets of the application.
                        context
                            .recorder
                            .container(&self.pod, &self.container)
                            .warning("FailedPreStopHook", "PreStopHook failed");
                    }
                    return;
                }
                () = self.dead() => return,
                () = tokio::time::sleep(left) => return,
                Ok(()) = grace.changed() => {}
            }
        }
    }

    /// A hook has nothing to wait for when the container ended by itself.
    async fn dead(&self) {
        let runtime = &self.context.runtime;
        let mut events = runtime.subscribe();
        let is_ours = |container: &ContainerStatus| container.id == self.id;
        let all = runtime.list().await;
        let found = all
            .into_iter()
            .find(|sandbox| sandbox.containers.iter().any(is_ours));
        let Some(sandbox) = found.map(|sandbox| sandbox.id) else {
            return;
        };
        while let Some(status) = runtime.sandbox(&sandbox).await {
            let running = status
                .containers
                .iter()
                .any(|container| is_ours(container) && container.state == ContainerState::Running);
            if !running {
                return;
            }
            // One that was missed is as good as one that came.
            while let Ok(event) = events.recv().await
                && event.sandbox != sandbox
            {}
        }
    }

    async fn stop(
        &self,
        mut grace: watch::Receiver<Duration>,
        hook: Duration,
    ) -> Result<(), String> {
        let began = Instant::now();
        loop {
            let whole = *grace.borrow_and_update();
            let left = after_hook(whole, hook).saturating_sub(began.elapsed());
            let stop = self.context.runtime.stop_container(&self.id, left);
            tokio::select! {
                result = stop => return result.map_err(|error| chain(&error)),
                // Less time than before: the signal is sent again, then SIGKILL.
                Ok(()) = grace.changed() => {}
            }
        }
    }
}
