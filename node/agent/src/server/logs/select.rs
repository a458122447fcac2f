//! Which run of a container a request is about: the kubelet's rules over the
//! pod's status, and without one the runtime's own records.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use vetch_runtime::{ContainerState, SandboxStatus};

/// The kubelet's words for why there is no log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoLog {
    #[error("container {container:?} not found in pod {pod:?}\n")]
    NotInPod { container: String, pod: String },
    #[error("container {container:?} in pod {pod:?} is not available")]
    NotAvailable { container: String, pod: String },
    #[error("previous terminated container {container:?} in pod {pod:?} not found")]
    NoPrevious { container: String, pod: String },
    #[error("container {container:?} in pod {pod:?} is terminated")]
    Terminated { container: String, pod: String },
    #[error("container {container:?} in pod {pod:?} is waiting to start{why}")]
    Waiting {
        container: String,
        pod: String,
        why: String,
    },
}

/// One run of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// As the status has it, `vetch://…`.
    pub container_id: String,
    /// The number of its log file, as far as the status tells: the record of
    /// the container knows better.
    pub attempt: u32,
}

pub fn from_status(pod: &Pod, container: &str, previous: bool) -> Result<Run, NoLog> {
    let pod_name = pod.metadata.name.clone().unwrap_or_default();
    let names = || (container.to_owned(), pod_name.clone());
    if !in_spec(pod, container) {
        let (container, pod) = names();
        return Err(NoLog::NotInPod { container, pod });
    }
    let Some(status) = container_status(pod, container) else {
        let (container, pod) = names();
        return Err(NoLog::NotAvailable { container, pod });
    };
    let id = |id: &Option<String>| id.clone().filter(|id| !id.is_empty());
    let state = status.state.as_ref();
    let running = state.and_then(|state| state.running.as_ref());
    let ended = state.and_then(|state| state.terminated.as_ref());
    let waiting = state.and_then(|state| state.waiting.as_ref());
    let last = status
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    let last_id = last.and_then(|last| id(&last.container_id));
    let restarts = u32::try_from(status.restart_count).unwrap_or(0);
    // While it waits for its restart, the one that ended is the one counted last.
    let before = if running.is_some() || ended.is_some() {
        restarts.saturating_sub(1)
    } else {
        restarts
    };
    let run = |container_id, attempt| {
        Ok(Run {
            container_id,
            attempt,
        })
    };
    let (container, pod) = names();
    if previous {
        return match last_id {
            Some(last) => run(last, before),
            None => Err(NoLog::NoPrevious { container, pod }),
        };
    }
    if running.is_some() {
        return run(status.container_id.clone().unwrap_or_default(), restarts);
    }
    if ended.is_some() || last.is_some() {
        let own = ended.and_then(|ended| id(&ended.container_id));
        return match (own, last_id) {
            (Some(own), _) => run(own, restarts),
            (None, Some(last)) => run(last, before),
            (None, None) => Err(NoLog::Terminated { container, pod }),
        };
    }
    let why = match waiting.map(|waiting| waiting.reason.as_deref().unwrap_or_default()) {
        Some("ErrImagePull") => ": image can't be pulled".to_owned(),
        Some("ImagePullBackOff") => ": trying and failing to pull image".to_owned(),
        Some(reason) => format!(": {reason}"),
        None => " - no logs yet".to_owned(),
    };
    Err(NoLog::Waiting {
        container,
        pod,
        why,
    })
}

fn in_spec(pod: &Pod, container: &str) -> bool {
    let Some(spec) = &pod.spec else {
        return false;
    };
    let init = spec.init_containers.iter().flatten();
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    spec.containers
        .iter()
        .chain(init)
        .map(|container| &container.name)
        .chain(ephemeral.map(|container| &container.name))
        .any(|name| name == container)
}

fn container_status<'a>(pod: &'a Pod, container: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ]
    .into_iter()
    .flatten()
    .flatten()
    .find(|status| status.name == container)
}

/// When the API server cannot be asked: the newest sandbox of the pod knows its
/// containers, of which the last that was started is the current one.
pub fn from_runtime(
    sandboxes: &[SandboxStatus],
    namespace: &str,
    pod: &str,
    container: &str,
    previous: bool,
) -> Option<Run> {
    let newest = sandboxes
        .iter()
        .filter(|sandbox| sandbox.spec.namespace == namespace && sandbox.spec.name == pod)
        .max_by_key(|sandbox| sandbox.created_at)?;
    let mut runs: Vec<_> = sandboxes
        .iter()
        .filter(|sandbox| sandbox.spec.pod_uid == newest.spec.pod_uid)
        .flat_map(|sandbox| &sandbox.containers)
        .filter(|known| known.name == container && known.state != ContainerState::Created)
        .collect();
    runs.sort_by_key(|run| std::cmp::Reverse(run.attempt));
    let run = runs.get(usize::from(previous))?;
    Some(Run {
        container_id: format!("vetch://{}", run.id),
        attempt: run.attempt,
    })
}

#[cfg(test)]
mod tests;
