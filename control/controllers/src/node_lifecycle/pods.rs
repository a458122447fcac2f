//! Pods of a node that is not ready are not ready either: services must not send them anything.

use std::sync::Arc;

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::error::{Attempt as _, Result, found};
use crate::events::{Note, Recorder, whole_seconds};
use crate::informer::Informer;
use crate::key::{ObjectKey, name_of, namespace_of};
use crate::pod;

const AT_ONCE: usize = 16;
const REASON: &str = "NodeNotReady";
const MESSAGE: &str = "Node is not ready";

/// Pods that still claim to be ready there.
fn ready_on(pods: &Informer<Pod>, node: &str) -> Vec<Arc<Pod>> {
    let mut all = pods.all();
    all.retain(|pod| pod::node_name(pod) == Some(node) && pod::is_ready(pod));
    all
}

fn patch(pod: &Pod, now: Timestamp) -> Value {
    json!({
        "metadata": {"uid": pod.metadata.uid},
        "status": {"conditions": [{
            "type": "Ready", "status": "False", "reason": REASON, "message": MESSAGE,
            "lastTransitionTime": Time(whole_seconds(now)),
        }]},
    })
}

pub async fn mark_not_ready(
    client: &Client,
    events: &Recorder,
    pods: &Informer<Pod>,
    node: &str,
) -> Result<()> {
    let attempts = ready_on(pods, node).into_iter().map(|pod| async move {
        let api: Api<Pod> = Api::namespaced(client.clone(), namespace_of(pod.as_ref()));
        let patch = Patch::Strategic(patch(&pod, Timestamp::now()));
        let patched = api
            .patch_status(name_of(pod.as_ref()), &PatchParams::default(), &patch)
            .await;
        let patched = found(patched)
            .during(|| format!("mark pod {} not ready", ObjectKey::of(pod.as_ref())))?;
        if patched.is_some() {
            events.record(pod.as_ref(), Note::warning(REASON, MESSAGE.to_owned()));
        }
        Ok(())
    });
    let outcomes: Vec<Result<()>> = stream::iter(attempts)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    outcomes.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ready_pods_of_the_node_are_told() {
        let pods = Informer::default();
        for (name, node, ready) in [
            ("a", "n1", "True"),
            ("b", "n1", "False"),
            ("c", "n2", "True"),
        ] {
            let pod = json!({
                "metadata": {"namespace": "d", "name": name, "resourceVersion": "1", "uid": name},
                "spec": {"nodeName": node, "containers": []},
                "status": {"conditions": [{"type": "Ready", "status": ready}]},
            });
            pods.apply(serde_json::from_value(pod).expect("a pod"));
        }
        let told = ready_on(&pods, "n1");
        let names: Vec<&str> = told.iter().map(|pod| name_of(pod.as_ref())).collect();
        assert_eq!(names, ["a"]);
        assert_eq!(
            patch(&told[0], Timestamp::UNIX_EPOCH),
            json!({"metadata": {"uid": "a"}, "status": {"conditions": [{
                "type": "Ready", "status": "False", "reason": "NodeNotReady", "message": "Node is not ready",
                "lastTransitionTime": "1970-01-01T00:00:00Z"}]}})
        );
    }
}
