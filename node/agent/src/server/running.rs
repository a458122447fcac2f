//! What runs here by the runtime's word, whatever the API server knows of it; and `GET /runningpods/`.

use std::cmp::Reverse;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use vetch_runtime::{ContainerState, ContainerStatus, Owner, SandboxState, SandboxStatus};

use super::Shared;

pub async fn get(State(shared): State<Shared>) -> Response {
    let pods = pods(shared.runtime.list().await);
    let items: Vec<Value> = pods.iter().map(pod).collect();
    Json(json!({
        "kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items,
    }))
    .into_response()
}

/// The newest ready sandbox of each of the node's own pods.
pub fn pods(mut sandboxes: Vec<SandboxStatus>) -> Vec<SandboxStatus> {
    sandboxes.retain(|of| of.state == SandboxState::Ready && of.spec.owner == Owner::Node);
    sandboxes.sort_by(|one, other| {
        let key = |of: &SandboxStatus| Reverse((of.spec.attempt, of.created_at));
        let by_uid = one.spec.pod_uid.cmp(&other.spec.pod_uid);
        by_uid.then_with(|| key(one).cmp(&key(other)))
    });
    sandboxes.dedup_by(|next, kept| next.spec.pod_uid == kept.spec.pod_uid);
    sandboxes
}

pub fn containers(pod: &SandboxStatus) -> impl Iterator<Item = &ContainerStatus> {
    let all = pod.containers.iter();
    all.filter(|container| container.state == ContainerState::Running)
}

/// As much of a Pod as a runtime knows.
fn pod(sandbox: &SandboxStatus) -> Value {
    let containers: Vec<Value> = containers(sandbox)
        .map(|of| json!({"name": of.name, "image": of.image, "resources": {}}))
        .collect();
    json!({
        "metadata": {
            "name": sandbox.spec.name,
            "namespace": sandbox.spec.namespace,
            "uid": sandbox.spec.pod_uid,
        },
        "spec": {"containers": containers},
        "status": {},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::testing::{container, exited, sandbox};

    #[test]
    fn a_pod_is_its_newest_sandbox() {
        let running = |attempt| vec![container("app", attempt, ContainerState::Running)];
        let mut other = sandbox(0, SandboxState::Ready, running(0));
        other.spec.pod_uid = "v".into();
        let mut clients = sandbox(7, SandboxState::Ready, running(0));
        clients.spec.owner = Owner::Cri;
        let all = vec![
            sandbox(1, SandboxState::Ready, running(0)),
            sandbox(3, SandboxState::NotReady, running(2)),
            clients,
            other,
            sandbox(2, SandboxState::Ready, running(1)),
        ];
        let ids: Vec<String> = pods(all).into_iter().map(|of| of.id.0).collect();
        assert_eq!(ids, ["s2", "s0"]);
    }

    #[test]
    fn a_pod_with_what_runs_of_it() {
        let all = vec![
            exited("init", 0, 0),
            container("app", 1, ContainerState::Running),
            container("late", 0, ContainerState::Created),
        ];
        assert_eq!(
            pod(&sandbox(0, SandboxState::Ready, all)),
            json!({
                "metadata": {"name": "web", "namespace": "shop", "uid": "u"},
                "spec": {"containers": [{"name": "app", "image": "echo:v1", "resources": {}}]},
                "status": {},
            })
        );
    }
}
