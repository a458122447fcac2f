//! Events about the node itself.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::PostParams;
use kube::{Api, Client};
use tracing::debug;

use super::retry::{chain, limited};

/// Nodes have no namespace; Kubernetes keeps their events here.
const NAMESPACE: &str = "default";
const COMPONENT: &str = "kubelet";

fn event(node: &str, kind: &str, reason: &str, message: String, now: Timestamp) -> Event {
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{node}.{:x}", now.as_nanosecond())),
            namespace: Some(NAMESPACE.into()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            kind: Some("Node".into()),
            name: Some(node.into()),
            // The kubelet's: `kubectl describe node` looks for the name too.
            uid: Some(node.into()),
            ..ObjectReference::default()
        },
        type_: Some(kind.into()),
        reason: Some(reason.into()),
        message: Some(message),
        source: Some(EventSource {
            component: Some(COMPONENT.into()),
            host: Some(node.into()),
        }),
        reporting_component: Some(COMPONENT.into()),
        reporting_instance: Some(node.into()),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        ..Event::default()
    }
}

/// One that cannot be told is lost, as everywhere in Kubernetes.
pub async fn tell(client: &Client, node: &str, reason: &str, message: String) {
    write(client, node, "Normal", reason, message).await;
}

/// Of what somebody should look at.
pub async fn warn(client: &Client, node: &str, reason: &str, message: String) {
    write(client, node, "Warning", reason, message).await;
}

/// Of what several nodes see: whoever is first tells of it, as long as that is kept.
pub async fn warn_once(client: &Client, node: &str, reason: &str, message: String) {
    let mut hasher = DefaultHasher::new();
    message.hash(&mut hasher);
    let name = format!("{node}.{}-{:x}", reason.to_lowercase(), hasher.finish());
    let mut event = event(node, "Warning", reason, message, Timestamp::now());
    event.metadata.name = Some(name);
    create(client, event, reason).await;
}

async fn write(client: &Client, node: &str, kind: &str, reason: &str, message: String) {
    let event = event(node, kind, reason, message, Timestamp::now());
    create(client, event, reason).await;
}

async fn create(client: &Client, event: Event, reason: &str) {
    let events: Api<Event> = Api::namespaced(client.clone(), NAMESPACE);
    if let Err(error) = limited(events.create(&PostParams::default(), &event)).await {
        debug!(reason, error = chain(&error), "event lost");
    }
}

pub fn status_message(node: &str, reason: &str) -> String {
    format!("Node {node} status is now: {reason}")
}
