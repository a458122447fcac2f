//! What an earlier daemon had reported of containers that still run.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};
use vetch_runtime::ContainerId;

use crate::pods::probe::Results;
use crate::pods::restart;

/// The scheme of containerIDs.
pub const SCHEME: &str = "vetch://";

pub fn container_id(id: &ContainerId) -> String {
    format!("{SCHEME}{id}")
}

/// Started and ready as the API server has it: a restart of the daemon takes
/// no pod out of its Services. The next probes say whether it still holds.
pub fn results(pod: &Pod, id: &ContainerId) -> Results {
    let id = container_id(id);
    let known = statuses(pod).find(|status| status.container_id.as_deref() == Some(id.as_str()));
    let mut results = Results::default();
    if let Some(status) = known {
        results.startup = (status.started == Some(true)).then_some(true);
        results.readiness = status.ready.then_some(true);
    }
    results
}

/// Exit codes of the containers that ran, by the API server's status: for a
/// runtime that has forgotten them.
pub fn exit_codes(pod: &Pod) -> BTreeMap<String, i32> {
    let code = |status: &ContainerStatus| {
        let state = status.state.as_ref()?;
        let ended = |state: &ContainerState| state.terminated.as_ref().map(|ended| ended.exit_code);
        if state.running.is_some() {
            return Some(restart::LOST);
        }
        ended(state).or_else(|| ended(status.last_state.as_ref()?))
    };
    statuses(pod)
        .filter_map(|status| Some((status.name.clone(), code(status)?)))
        .collect()
}

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_ref());
    let regular = status.and_then(|status| status.container_statuses.as_ref());
    let ephemeral = status.and_then(|status| status.ephemeral_container_statuses.as_ref());
    let all = init.into_iter().chain(regular).chain(ephemeral);
    all.flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_of_the_same_container() {
        let pod: Pod = serde_json::from_value(json!({"status": {"containerStatuses": [
            {"name": "a", "containerID": "vetch://1", "started": true, "ready": true, "image": "", "imageID": "", "restartCount": 0},
            {"name": "b", "containerID": "vetch://2", "started": true, "ready": false, "image": "", "imageID": "", "restartCount": 0},
        ]}}))
        .unwrap();
        for (id, startup, readiness) in [
            ("1", Some(true), Some(true)),
            ("2", Some(true), None),
            ("3", None, None),
        ] {
            let got = results(&pod, &ContainerId(id.into()));
            assert_eq!((got.startup, got.readiness), (startup, readiness), "{id}");
            assert_eq!(got.liveness, None);
        }
    }

    #[test]
    fn how_containers_ended_that_the_runtime_forgot() {
        let status = |name: &str, state: serde_json::Value, last: serde_json::Value| json!({"name": name, "state": state, "lastState": last, "ready": false, "image": "", "imageID": "", "restartCount": 0});
        let ended = json!({"terminated": {"exitCode": 3}});
        let pod: Pod = serde_json::from_value(json!({"status": {"containerStatuses": [
            status("running", json!({"running": {}}), json!({})),
            status("ended", ended.clone(), json!({})),
            status("looping", json!({"waiting": {}}), ended),
            status("new", json!({"waiting": {}}), json!({})),
        ]}}))
        .unwrap();
        let want = [("ended", 3), ("looping", 3), ("running", 137)];
        let want = want.map(|(name, code)| (name.to_owned(), code));
        assert_eq!(exit_codes(&pod), want.into());
    }
}
