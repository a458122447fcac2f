//! Giving containers that run, and their pod, what they are allocated.

use std::sync::Arc;

use vetch_runtime::{Error, SandboxId};

use super::job::Outcome;
use crate::pods::container::RESOURCES;
use crate::pods::context::Context;
use crate::pods::resize::{Actuation, Lowered, Step, all_words};
use crate::pods::text::chain;

pub struct UpdateJob {
    pub context: Arc<Context>,
    pub sandbox: SandboxId,
    pub actuation: Actuation,
    /// Of the spec it was granted from.
    pub generation: Option<i64>,
}

impl UpdateJob {
    pub async fn run(self) -> Outcome {
        Outcome::Updated {
            generation: self.generation,
            result: self.update().await,
        }
    }

    async fn update(&self) -> Result<(), String> {
        let lowered = self.actuation.lowered.iter();
        let refused: Vec<String> = lowered
            .filter_map(|lowered| self.refusal(lowered))
            .collect();
        if !refused.is_empty() {
            return Err(all_words(&refused));
        }
        for step in &self.actuation.steps {
            match self.take(step).await {
                // It has ended since: the next one is made as it shall be.
                Ok(()) | Err(Error::WrongState { .. } | Error::ContainerNotFound(_)) => {}
                Err(error) => return Err(chain(&error)),
            }
        }
        Ok(())
    }

    /// Where nobody counts memory nobody limits it either.
    fn refusal(&self, lowered: &Lowered) -> Option<String> {
        let runtime = &self.context.runtime;
        let usage = match &lowered.container {
            Some((_, id)) => runtime.memory_of_container(id),
            None => runtime.memory_of_sandbox(&self.sandbox),
        };
        lowered.refusal(usage?)
    }

    async fn take(&self, step: &Step) -> Result<(), Error> {
        let runtime = &self.context.runtime;
        match step {
            Step::Pod(resources) => {
                let resources = resources.clone();
                runtime
                    .update_sandbox_resources(&self.sandbox, resources)
                    .await
            }
            Step::Container {
                id,
                resources,
                given,
            } => {
                // Names and quantities always have a JSON form.
                let given = serde_json::to_string(given).unwrap_or_default();
                let annotations = [(RESOURCES.to_owned(), given)].into();
                runtime
                    .update_container(id, resources.clone(), annotations)
                    .await
            }
        }
    }
}
