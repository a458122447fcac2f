//! The handle everything else holds.

use std::time::Duration;

use tokio::sync::broadcast;

use crate::Error;
use crate::images::ImageStore;
use crate::types::*;

#[derive(Clone, Debug)]
pub struct Runtime {
    images: ImageStore,
    events: broadcast::Sender<RuntimeEvent>,
}

impl Runtime {
    /// Adopts living shims.
    pub async fn open(_config: RuntimeConfig) -> Result<Runtime, Error> {
        Ok(Runtime {
            images: ImageStore {},
            events: broadcast::channel(1024).0,
        })
    }

    pub fn images(&self) -> &ImageStore {
        &self.images
    }

    /// Starts the shim, makes the pod's namespaces. The netns exists when this returns.
    pub async fn create_sandbox(&self, _spec: SandboxSpec) -> Result<SandboxStatus, Error> {
        Err(Error::NoCommand)
    }

    /// Kills what still runs in it, releases namespaces. Idempotent.
    pub async fn stop_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        Err(Error::SandboxNotFound(id.clone()))
    }

    /// Removes every trace (logs stay). Idempotent.
    pub async fn remove_sandbox(&self, id: &SandboxId) -> Result<(), Error> {
        Err(Error::SandboxNotFound(id.clone()))
    }

    pub async fn create_container(
        &self,
        sandbox: &SandboxId,
        _spec: ContainerSpec,
    ) -> Result<ContainerId, Error> {
        Err(Error::SandboxNotFound(sandbox.clone()))
    }

    pub async fn start_container(&self, id: &ContainerId) -> Result<(), Error> {
        Err(Error::ContainerNotFound(id.clone()))
    }

    /// Stop signal, then SIGKILL to the whole container after `grace`. Returns
    /// when it is dead. Idempotent.
    pub async fn stop_container(&self, id: &ContainerId, _grace: Duration) -> Result<(), Error> {
        Err(Error::ContainerNotFound(id.clone()))
    }

    pub async fn remove_container(&self, id: &ContainerId) -> Result<(), Error> {
        Err(Error::ContainerNotFound(id.clone()))
    }

    /// From memory, cheap.
    pub async fn list(&self) -> Vec<SandboxStatus> {
        Vec::new()
    }

    pub async fn sandbox(&self, _id: &SandboxId) -> Option<SandboxStatus> {
        None
    }

    pub fn subscribe(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.events.subscribe()
    }

    pub async fn exec(
        &self,
        id: &ContainerId,
        _argv: Vec<String>,
        _timeout: Duration,
    ) -> Result<ExecOutput, Error> {
        Err(Error::ContainerNotFound(id.clone()))
    }

    /// Words for a node condition: cgroup controllers that are missing here.
    pub fn missing_controllers(&self) -> Vec<String> {
        Vec::new()
    }
}
