//! The status of each container.

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, ContainerUser, LinuxContainerUser, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use vetch_runtime::{ContainerState as Seen, ContainerStatus as SeenStatus};

use super::previous::container_id;
use super::{Inputs, Waiting};
use crate::pods::container::{IMAGE_REF, is_recursive_readonly};
use crate::pods::{resize, restart, spec};

const LOST: &str = "ContainerStatusUnknown";

/// What a container is to its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Init,
    Regular,
    Ephemeral,
}

pub fn statuses(inputs: &Inputs<'_>, containers: &[Container], role: Role) -> Vec<ContainerStatus> {
    let list = match role {
        Role::Init => &inputs.previous.init_container_statuses,
        Role::Regular => &inputs.previous.container_statuses,
        Role::Ephemeral => &inputs.previous.ephemeral_container_statuses,
    };
    containers
        .iter()
        .map(|container| {
            let known = list.iter().flatten();
            let old = known
                .into_iter()
                .find(|status| status.name == container.name);
            status(inputs, container, old, role)
        })
        .collect()
}

fn status(
    inputs: &Inputs<'_>,
    container: &Container,
    old: Option<&ContainerStatus>,
    role: Role,
) -> ContainerStatus {
    let history = inputs.seen.history(&container.name);
    let mut status = match history.first() {
        Some(latest) => seen_status(inputs, container, latest, history.get(1).copied(), old),
        None => unseen_status(inputs, container, old, role),
    };
    wait(
        inputs,
        container,
        history.first().copied(),
        &mut status,
        role,
    );
    set_started_and_ready(inputs, container, &mut status, role);
    status.volume_mounts = volume_mounts(container);
    status.user = history.first().and_then(|latest| user(latest));
    status
}

fn seen_status(
    inputs: &Inputs<'_>,
    container: &Container,
    latest: &SeenStatus,
    before: Option<&SeenStatus>,
    old: Option<&ContainerStatus>,
) -> ContainerStatus {
    let id = container_id(&latest.id);
    // Ended to be started again with other resources.
    let anew = inputs.resizing.restarted.contains(&latest.id) && !inputs.terminal;
    let held = inputs.held == Some(container.name.as_str());
    let state = match latest.state {
        Seen::Running if held => initial(inputs),
        Seen::Running => ContainerState {
            running: Some(ContainerStateRunning {
                started_at: latest.started_at.map(Time),
            }),
            ..ContainerState::default()
        },
        Seen::Created => initial(inputs),
        // The API server takes no way back from an end that the pod's policy leaves as it is.
        Seen::Exited | Seen::Unknown if anew => initial(inputs),
        Seen::Exited | Seen::Unknown => ended(inputs, latest),
    };
    // The runtime keeps one container before the present one; what was before
    // that, or in a sandbox that is gone, only the status remembers.
    let has_ended = |of: &&SeenStatus| matches!(of.state, Seen::Exited | Seen::Unknown);
    let last_state = Some(latest)
        .filter(|_| anew)
        .or(before)
        .filter(has_ended)
        .map(|before| ended(inputs, before))
        .or_else(|| {
            let old = old?;
            let other = old.container_id.as_deref() != Some(id.as_str());
            let terminated = old.state.as_ref().is_some_and(|s| s.terminated.is_some());
            if other && terminated {
                old.state.clone()
            } else {
                old.last_state.clone()
            }
        });
    let allocated = container.resources.clone().unwrap_or_default();
    // What has ended will be started with what it is allocated now.
    let given = resize::given(latest).filter(|_| latest.state == Seen::Running);
    let given = given.filter(|given| !resize::same(given, &allocated));
    ContainerStatus {
        allocated_resources: allocated.requests.clone(),
        container_id: Some(id),
        image: latest.image.clone(),
        image_id: latest
            .annotations
            .get(IMAGE_REF)
            .unwrap_or(&latest.image_id)
            .clone(),
        last_state: Some(last_state.unwrap_or_default()),
        name: container.name.clone(),
        resources: Some(given.unwrap_or(allocated)),
        restart_count: i32::try_from(latest.attempt).unwrap_or(i32::MAX),
        state: Some(state),
        ..ContainerStatus::default()
    }
}

/// Of a container that the runtime does not know.
fn unseen_status(
    inputs: &Inputs<'_>,
    container: &Container,
    old: Option<&ContainerStatus>,
    role: Role,
) -> ContainerStatus {
    let mut status = ContainerStatus {
        image: container.image.clone().unwrap_or_default(),
        last_state: Some(ContainerState::default()),
        name: container.name.clone(),
        state: Some(initial(inputs)),
        ..ContainerStatus::default()
    };
    let initialized = || {
        spec::containers(inputs.pod)
            .iter()
            .any(|regular| inputs.seen.current(&regular.name).is_some())
    };
    if let Some(old) = old {
        let old_state = old.state.clone().unwrap_or_default();
        if old_state.terminated.is_some() {
            if !restart::may_restart_all(inputs.pod) || role == Role::Ephemeral || inputs.terminal {
                return old.clone();
            }
            // Taken away to begin anew.
            status.last_state = Some(old_state);
            status.restart_count = old.restart_count;
            return status;
        }
        status.restart_count = old.restart_count;
        status.last_state = Some(old.last_state.clone().unwrap_or_default());
        let ended_before = old
            .last_state
            .as_ref()
            .is_some_and(|s| s.terminated.is_some());
        if old_state.running.is_some() && !ended_before {
            let lost = terminated(ContainerStateTerminated {
                exit_code: restart::LOST,
                message: Some(
                    "The container could not be located when the pod was deleted.  The container used to be Running"
                        .to_owned(),
                ),
                reason: Some(LOST.to_owned()),
                ..ContainerStateTerminated::default()
            });
            if role == Role::Ephemeral {
                // There is no other after it.
                status.state = Some(lost);
                return status;
            }
            status.last_state = Some(lost);
            if !spec::is_deleted(inputs.pod) {
                status.restart_count += 1;
            }
        }
    }
    if role == Role::Init && !spec::is_sidecar(container) && initialized() {
        status.state = Some(terminated(ContainerStateTerminated {
            exit_code: 0,
            message: Some(
                "Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally"
                    .to_owned(),
            ),
            reason: Some("Completed".to_owned()),
            ..ContainerStateTerminated::default()
        }));
    }
    status
}

fn ended(inputs: &Inputs<'_>, seen: &SeenStatus) -> ContainerState {
    if seen.state == Seen::Unknown {
        return terminated(ContainerStateTerminated {
            container_id: Some(container_id(&seen.id)),
            exit_code: restart::LOST,
            message: Some(
                "The container could not be located when the pod was terminated".to_owned(),
            ),
            reason: Some(LOST.to_owned()),
            started_at: seen.started_at.map(Time),
            ..ContainerStateTerminated::default()
        });
    }
    let said = inputs
        .messages
        .get(&seen.id)
        .filter(|said| !said.is_empty());
    let message = match (seen.message.as_deref(), said) {
        (Some(runtime), Some(said)) => Some(format!("{runtime}: {said}")),
        (Some(runtime), None) => Some(runtime.to_owned()),
        (None, said) => said.cloned(),
    };
    terminated(ContainerStateTerminated {
        container_id: Some(container_id(&seen.id)),
        exit_code: restart::exit_code(seen),
        finished_at: seen.finished_at.map(Time),
        message,
        reason: seen.reason.clone(),
        signal: None,
        started_at: seen.started_at.or(seen.finished_at).map(Time),
    })
}

fn terminated(ended: ContainerStateTerminated) -> ContainerState {
    ContainerState {
        terminated: Some(ended),
        ..ContainerState::default()
    }
}

/// Before a container's first start.
fn initial(inputs: &Inputs<'_>) -> ContainerState {
    let reason = if spec::init_containers(inputs.pod).is_empty() {
        "ContainerCreating"
    } else {
        "PodInitializing"
    };
    waiting(reason, None)
}

fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            message,
            reason: Some(reason.to_owned()),
        }),
        ..ContainerState::default()
    }
}

/// A container that will be started says what holds it back.
fn wait(
    inputs: &Inputs<'_>,
    container: &Container,
    latest: Option<&SeenStatus>,
    status: &mut ContainerStatus,
    role: Role,
) {
    let succeeded = latest
        .is_some_and(|latest| latest.state == Seen::Exited && restart::exit_code(latest) == 0);
    if role == Role::Init && succeeded && !spec::is_sidecar(container) {
        return;
    }
    let wanted = match role {
        Role::Ephemeral => restart::wanted_once(inputs.pod, latest, None),
        _ => restart::wanted(container, inputs.pod, latest, None),
    };
    if inputs.terminal || !wanted {
        return;
    }
    let Some(Waiting { reason, message }) = inputs.waiting.get(&container.name) else {
        return;
    };
    let state = status.state.take().unwrap_or_default();
    if state.terminated.is_some() {
        status.last_state = Some(state);
    }
    let message = (!message.is_empty()).then(|| message.clone());
    status.state = Some(waiting(reason, message));
}

fn set_started_and_ready(
    inputs: &Inputs<'_>,
    container: &Container,
    status: &mut ContainerStatus,
    role: Role,
) {
    // Nobody waits for an ephemeral one.
    if role == Role::Ephemeral {
        return;
    }
    let state = status.state.as_ref();
    let running = state.is_some_and(|state| state.running.is_some());
    let latest = inputs.seen.latest(&container.name);
    let results = latest
        .and_then(|latest| inputs.results.get(&latest.id))
        .copied()
        .unwrap_or_default();
    if role == Role::Init && !spec::is_sidecar(container) {
        let succeeded = state
            .and_then(|state| state.terminated.as_ref())
            .is_some_and(|ended| ended.exit_code == 0);
        status.started = Some(false);
        status.ready = succeeded;
        return;
    }
    status.started = Some(running && results.started(container));
    status.ready = running && results.ready(container);
}

/// Whom the first process began as (KEP-3619).
fn user(latest: &SeenStatus) -> Option<ContainerUser> {
    let user = latest.user.as_ref()?;
    let groups = user.groups.iter().map(|group| i64::from(*group));
    Some(ContainerUser {
        linux: Some(LinuxContainerUser {
            uid: user.uid.into(),
            gid: user.gid.into(),
            supplemental_groups: Some(groups.collect()),
        }),
    })
}

fn volume_mounts(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_ref()?;
    let statuses = mounts.iter().map(|mount| {
        let read_only = mount.read_only.unwrap_or(false);
        VolumeMountStatus {
            mount_path: mount.mount_path.clone(),
            name: mount.name.clone(),
            read_only: read_only.then_some(true),
            recursive_read_only: read_only.then(|| {
                let recursive = is_recursive_readonly(mount);
                if recursive { "Enabled" } else { "Disabled" }.to_owned()
            }),
            ..VolumeMountStatus::default()
        }
    });
    Some(statuses.collect())
}
