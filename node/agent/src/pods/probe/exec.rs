//! Asking by a command in the container.

use std::time::Duration;

use k8s_openapi::api::core::v1::Container;
use vetch_runtime::{ContainerId, Runtime};

use super::Outcome;
use crate::pods::env::expand_by;

/// What of the output is told.
const MAX_OUTPUT: usize = 10 * 1024;

pub async fn ask(
    runtime: &Runtime,
    id: &ContainerId,
    command: &[String],
    container: &Container,
    timeout: Duration,
) -> Outcome {
    let command = expanded(command, container);
    let words = command.join(" ");
    match runtime.exec(id, command, timeout).await {
        Ok(output) if output.timed_out => {
            Outcome::Failure(format!("command \"{words}\" timed out"))
        }
        Ok(output) if output.exit_code == 0 => Outcome::Success,
        Ok(output) => {
            let mut told = output.stdout;
            told.extend_from_slice(&output.stderr);
            told.truncate(MAX_OUTPUT);
            Outcome::Failure(String::from_utf8_lossy(&told).into_owned())
        }
        Err(error) => Outcome::Error(error.to_string()),
    }
}

/// Only variables whose values stand in the spec.
fn expanded(command: &[String], container: &Container) -> Vec<String> {
    let env: Vec<(String, String)> = container
        .env
        .iter()
        .flatten()
        .filter_map(|variable| Some((variable.name.clone(), variable.value.clone()?)))
        .collect();
    command.iter().map(|word| expand_by(word, &env)).collect()
}
