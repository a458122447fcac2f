//! What the runtime shows of one pod: its sandboxes and their containers in time.

use vetch_runtime::{ContainerState, ContainerStatus, SandboxState, SandboxStatus};

/// Sandboxes newest first.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub sandboxes: Vec<SandboxStatus>,
}

impl Seen {
    pub fn new(mut sandboxes: Vec<SandboxStatus>) -> Seen {
        sandboxes
            .sort_by_key(|sandbox| std::cmp::Reverse((sandbox.spec.attempt, sandbox.created_at)));
        Seen { sandboxes }
    }

    /// The newest sandbox, whatever its state.
    pub fn newest(&self) -> Option<&SandboxStatus> {
        self.sandboxes.first()
    }

    /// The sandbox containers run in.
    pub fn sandbox(&self) -> Option<&SandboxStatus> {
        self.newest()
            .filter(|sandbox| sandbox.state == SandboxState::Ready)
    }

    /// Of one name, newest first, over all sandboxes.
    pub fn history(&self, name: &str) -> Vec<&ContainerStatus> {
        let mut all: Vec<&ContainerStatus> = self.containers().filter(|c| c.name == name).collect();
        all.sort_by_key(|container| std::cmp::Reverse((container.created_at, container.attempt)));
        all
    }

    pub fn latest(&self, name: &str) -> Option<&ContainerStatus> {
        self.history(name).first().copied()
    }

    /// The latest of that name in the present sandbox.
    pub fn current(&self, name: &str) -> Option<&ContainerStatus> {
        let containers = &self.sandbox()?.containers;
        containers
            .iter()
            .filter(|container| container.name == name)
            .max_by_key(|container| (container.created_at, container.attempt))
    }

    pub fn containers(&self) -> impl Iterator<Item = &ContainerStatus> {
        self.sandboxes
            .iter()
            .flat_map(|sandbox| &sandbox.containers)
    }

    /// What may still have a process.
    pub fn alive(&self) -> impl Iterator<Item = &ContainerStatus> {
        self.containers().filter(|container| {
            matches!(
                container.state,
                ContainerState::Running | ContainerState::Unknown
            )
        })
    }
}
