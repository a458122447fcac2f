//! What an earlier daemon had reported of containers that still run.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use vetch_runtime::ContainerId;

use crate::pods::probe::Results;

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

fn statuses(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_ref());
    let regular = status.and_then(|status| status.container_statuses.as_ref());
    init.into_iter().chain(regular).flatten()
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
}
