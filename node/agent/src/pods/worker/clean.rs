//! Taking down what a pod had on the node. Every step may be done again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vetch_runtime::{SandboxId, SandboxStatus};

use super::job::Outcome;
use crate::pods::context::Context;
use crate::pods::text::chain;
use crate::pods::volumes;

/// Its network goes first, so that nothing new comes in; in words what failed.
pub async fn stop_sandbox(context: &Context, sandbox: &SandboxStatus) -> Result<(), String> {
    if !sandbox.spec.host_network {
        detach(context, &sandbox.id).await?;
    }
    context
        .runtime
        .stop_sandbox(&sandbox.id)
        .await
        .map_err(|error| chain(&error))
}

async fn detach(context: &Context, id: &SandboxId) -> Result<(), String> {
    context
        .network
        .detach(&id.0)
        .await
        .map_err(|error| format!("failed to take down the network: {}", chain(&error)))
}

/// A sandbox with all its containers, and its address.
pub async fn network_and_sandbox(context: &Context, id: &SandboxId) -> Result<(), String> {
    detach(context, id).await?;
    context
        .runtime
        .remove_sandbox(id)
        .await
        .map_err(|error| chain(&error))
}

pub struct CleanJob {
    pub context: Arc<Context>,
    pub dir: PathBuf,
    /// Of a pod that is deleted: all that is left of it.
    pub traces: Option<Traces>,
}

pub struct Traces {
    pub sandboxes: Vec<SandboxId>,
    pub logs: PathBuf,
}

impl CleanJob {
    pub async fn run(self) -> Outcome {
        Outcome::Cleaned(self.clean().await)
    }

    async fn clean(self) -> Result<(), String> {
        let dir = self.dir;
        blocking(move || volumes::remove(&dir).map_err(|error| chain(&error))).await?;
        let Some(traces) = self.traces else {
            return Ok(());
        };
        for sandbox in &traces.sandboxes {
            network_and_sandbox(&self.context, sandbox).await?;
        }
        blocking(move || remove_log_directory(&traces.logs)).await
    }
}

pub fn remove_log_directory(path: &Path) -> Result<(), String> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("removing {}: {error}", path.display()))
        }
        _ => Ok(()),
    }
}

async fn blocking(
    work: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> Result<(), String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(error.to_string()),
    }
}
