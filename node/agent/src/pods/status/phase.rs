//! The phase of a pod from the states of its containers.

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod};

use crate::pods::{restart, spec};

/// Ephemeral containers have no part in it. `terminal`: nothing will be started
/// again, whatever the restart policy.
pub fn of(
    pod: &Pod,
    init: &[ContainerStatus],
    regular: &[ContainerStatus],
    terminal: bool,
) -> &'static str {
    let initialization = initialization(pod, init);
    if initialization == Initialization::Failed {
        return "Failed";
    }
    let states: Vec<State> = spec::containers(pod)
        .iter()
        .map(|container| state(pod, container, find(regular, &container.name)))
        .collect();
    let begun = states.iter().any(|state| !matches!(state, State::Waiting));
    let sidecar = |wanted: fn(&ContainerStatus) -> bool| {
        spec::init_containers(pod)
            .iter()
            .filter(|container| spec::is_sidecar(container))
            .filter_map(|container| find(init, &container.name))
            .any(wanted)
    };
    let sidecar_runs = sidecar(is_running);
    let sidecar_pending = sidecar(|status| {
        let never_ran = is_waiting(status) && ended(status).is_none();
        never_ran || (is_running(status) && status.started != Some(true))
    });
    if initialization == Initialization::Pending
        || (sidecar_pending && !begun)
        || states.contains(&State::Waiting)
    {
        // Deleted before it began: nothing will come of it.
        return if terminal && !sidecar_runs && !states.contains(&State::Running) {
            "Failed"
        } else {
            "Pending"
        };
    }
    if sidecar_runs || states.contains(&State::Running) {
        return "Running";
    }
    if !terminal && states.contains(&State::Restarting) {
        return "Running";
    }
    let succeeded = spec::containers(pod).iter().all(|container| {
        find(regular, &container.name)
            .and_then(ended)
            .is_some_and(|code| code == 0)
    });
    if succeeded { "Succeeded" } else { "Failed" }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Initialization {
    Done,
    Pending,
    Failed,
}

fn initialization(pod: &Pod, statuses: &[ContainerStatus]) -> Initialization {
    let mut result = Initialization::Done;
    for container in spec::init_containers(pod) {
        if spec::is_sidecar(container) {
            continue;
        }
        let code = find(statuses, &container.name)
            .filter(|status| !is_running(status))
            .and_then(ended);
        match code {
            Some(0) => {}
            Some(code) if !restart::after_exit(container, pod, code) => {
                return Initialization::Failed;
            }
            _ => result = Initialization::Pending,
        }
    }
    result
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Never ran.
    Waiting,
    Running,
    /// Ended, and will be started again.
    Restarting,
    Ended,
}

fn state(pod: &Pod, container: &Container, status: Option<&ContainerStatus>) -> State {
    let Some(status) = status else {
        return State::Waiting;
    };
    if is_running(status) {
        return State::Running;
    }
    match ended(status) {
        Some(code) if restart::after_exit(container, pod, code) => State::Restarting,
        Some(_) => State::Ended,
        None => State::Waiting,
    }
}

fn find<'a>(statuses: &'a [ContainerStatus], name: &str) -> Option<&'a ContainerStatus> {
    statuses.iter().find(|status| status.name == name)
}

pub fn is_running(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|s| s.running.is_some())
}

fn is_waiting(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|s| s.waiting.is_some())
}

/// The exit code of its last run, if it had one and is not running.
fn ended(status: &ContainerStatus) -> Option<i32> {
    let of = |state: &Option<k8s_openapi::api::core::v1::ContainerState>| {
        let ended = state.as_ref()?.terminated.as_ref()?;
        Some(ended.exit_code)
    };
    of(&status.state).or_else(|| of(&status.last_state))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// `r` running, `s` running and not started, `w` waiting, `0`/`1` exited,
    /// `x`/`y` waiting after exit 0/1.
    fn statuses(prefix: &str, states: &str) -> Vec<ContainerStatus> {
        let terminated = |code: i32| json!({"terminated": {"exitCode": code}});
        states
            .chars()
            .enumerate()
            .filter(|(_, state)| *state != '-')
            .map(|(index, state)| {
                let (now, last): (Value, Value) = match state {
                    'r' | 's' => (json!({"running": {}}), json!({})),
                    'w' => (json!({"waiting": {}}), json!({})),
                    '0' => (terminated(0), json!({})),
                    '1' => (terminated(1), json!({})),
                    'x' => (json!({"waiting": {}}), terminated(0)),
                    'y' => (json!({"waiting": {}}), terminated(1)),
                    other => panic!("{other}"),
                };
                serde_json::from_value(json!({
                    "name": format!("{prefix}{index}"), "image": "", "imageID": "", "ready": false,
                    "restartCount": 0, "state": now, "lastState": last, "started": state == 'r',
                }))
                .unwrap()
            })
            .collect()
    }

    /// Sidecars are written in capital letters: `S` in `kinds`.
    fn phase(policy: &str, kinds: &str, init: &str, regular: &str, terminal: bool) -> &'static str {
        let init_specs: Vec<Value> = kinds
            .chars()
            .enumerate()
            .map(|(index, kind)| {
                let policy = (kind == 'S').then_some("Always");
                json!({"name": format!("i{index}"), "restartPolicy": policy})
            })
            .collect();
        let specs: Vec<Value> = (0..regular.len())
            .map(|index| json!({"name": format!("c{index}")}))
            .collect();
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "restartPolicy": policy, "initContainers": init_specs, "containers": specs,
        }}))
        .unwrap();
        of(
            &pod,
            &statuses("i", init),
            &statuses("c", regular),
            terminal,
        )
    }

    #[test]
    fn by_container_states_and_policy() {
        for (policy, kinds, init, regular, terminal, want) in [
            ("Always", "", "", "w", false, "Pending"),
            ("Always", "", "", "-", false, "Pending"),
            ("Always", "", "", "r", false, "Running"),
            ("Always", "", "", "rw", false, "Pending"),
            ("Always", "", "", "r1", false, "Running"),
            ("Always", "", "", "1", false, "Running"),
            ("Always", "", "", "0", false, "Running"),
            ("Always", "", "", "y", false, "Running"),
            ("Always", "", "", "0", true, "Succeeded"),
            ("Always", "", "", "1", true, "Failed"),
            ("Always", "", "", "w", true, "Failed"),
            ("Always", "", "", "r", true, "Running"),
            ("OnFailure", "", "", "0", false, "Succeeded"),
            ("OnFailure", "", "", "1", false, "Running"),
            ("OnFailure", "", "", "01", false, "Running"),
            ("Never", "", "", "0", false, "Succeeded"),
            ("Never", "", "", "1", false, "Failed"),
            ("Never", "", "", "01", false, "Failed"),
            ("Never", "", "", "0r", false, "Running"),
            // Init containers.
            ("Always", "i", "r", "w", false, "Pending"),
            ("Always", "i", "1", "w", false, "Pending"),
            ("Always", "i", "y", "w", false, "Pending"),
            ("Always", "ii", "0w", "w", false, "Pending"),
            ("Always", "i", "0", "r", false, "Running"),
            ("Never", "i", "1", "w", false, "Failed"),
            ("Never", "i", "0", "0", false, "Succeeded"),
            // Sidecars.
            ("Always", "S", "s", "w", false, "Pending"),
            ("Always", "S", "r", "r", false, "Running"),
            ("Always", "S", "s", "r", false, "Running"),
            ("Never", "S", "r", "0", false, "Running"),
            ("Never", "S", "1", "0", true, "Succeeded"),
        ] {
            assert_eq!(
                phase(policy, kinds, init, regular, terminal),
                want,
                "{policy} {kinds} {init} {regular} {terminal}"
            );
        }
    }
}
