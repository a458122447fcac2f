//! Ending a pod: all its containers, then its sandbox and network.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;
use vetch_runtime::ContainerStatus;

use super::clean;
use super::job::Outcome;
use super::kill::Kill;
use crate::pods::context::Context;
use crate::pods::seen::Seen;
use crate::pods::termination;

pub struct EndJob {
    pub context: Arc<Context>,
    pub pod: Arc<Pod>,
    pub seen: Seen,
    pub pod_ip: Option<IpAddr>,
    pub grace: watch::Receiver<Duration>,
}

impl EndJob {
    pub async fn run(self) -> Outcome {
        Outcome::Ended(self.end().await)
    }

    async fn end(&self) -> Result<(), String> {
        let began = std::time::Instant::now();
        let alive: Vec<&ContainerStatus> = self.seen.alive().collect();
        for turn in termination::turns(&self.pod, &alive) {
            // Later turns have what the earlier ones left of the time.
            let (left, receiver) = watch::channel(self.left(began));
            let mut grace = self.grace.clone();
            let follow = async {
                while grace.changed().await.is_ok() {
                    left.send_replace(self.left(began));
                }
                std::future::pending::<()>().await;
            };
            let kills = turn.into_iter().map(async |container| {
                let kill = Kill {
                    context: self.context.clone(),
                    pod: self.pod.clone(),
                    container: container.name.clone(),
                    id: container.id.clone(),
                    message: format!("Stopping container {}", container.name),
                    pod_ip: self.pod_ip,
                };
                kill.run(receiver.clone()).await
            });
            tokio::select! {
                results = futures::future::join_all(kills) => {
                    results.into_iter().collect::<Result<Vec<()>, String>>()?;
                }
                () = follow => {}
            }
        }
        for sandbox in &self.seen.sandboxes {
            clean::stop_sandbox(&self.context, sandbox).await?;
        }
        Ok(())
    }

    fn left(&self, began: std::time::Instant) -> Duration {
        self.grace.borrow().saturating_sub(began.elapsed())
    }
}
