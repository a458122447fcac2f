//! Events: what people are told about a pod.
//!
//! Recording never waits: one task writes them, counts repetitions of the same
//! event up instead of writing it again, and stops at what client-go's spam
//! filter would stop at.

mod spam;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::mpsc;

use super::text::chain;
use super::{ephemeral, spec};
use spam::SpamFilter;

const COMPONENT: &str = "kubelet";
/// More than this many in flight are dropped, as Kubernetes' recorders do.
const BACKLOG: usize = 1000;
/// Remembered repetitions.
const REMEMBERED: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Occurrence {
    about: About,
    severity: &'static str,
    reason: Reason,
    message: String,
}

/// Almost always one of a few words.
type Reason = Cow<'static, str>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct About {
    kind: &'static str,
    namespace: String,
    name: String,
    uid: String,
    field_path: Option<String>,
}

struct Message {
    occurrence: Occurrence,
    resource_version: Option<String>,
    at: Timestamp,
}

#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<Message>,
}

/// Records about one object.
pub struct Teller<'a> {
    recorder: &'a Recorder,
    about: About,
    resource_version: Option<String>,
}

impl Recorder {
    /// The task ends when all recorders are gone.
    pub fn new(client: Client, node: Arc<str>) -> (Recorder, impl Future<Output = ()> + Send) {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        (Recorder { sender }, record(client, receiver, node))
    }

    pub fn pod<'a>(&'a self, pod: &Pod) -> Teller<'a> {
        Teller {
            recorder: self,
            about: About {
                kind: "Pod",
                namespace: spec::namespace(pod).to_owned(),
                name: spec::name(pod).to_owned(),
                uid: spec::uid(pod).to_owned(),
                field_path: None,
            },
            resource_version: pod.metadata.resource_version.clone(),
        }
    }

    pub fn container<'a>(&'a self, pod: &Pod, container: &str) -> Teller<'a> {
        let mut teller = self.pod(pod);
        let init = spec::init_containers(pod)
            .iter()
            .any(|init| init.name == container);
        let list = if init {
            "initContainers"
        } else if ephemeral::is_one(pod, container) {
            "ephemeralContainers"
        } else {
            "containers"
        };
        teller.about.field_path = Some(format!("spec.{list}{{{container}}}"));
        teller
    }
}

impl Teller<'_> {
    pub fn normal(&self, reason: impl Into<Reason>, message: impl Into<String>) {
        self.send("Normal", reason.into(), message.into());
    }

    pub fn warning(&self, reason: impl Into<Reason>, message: impl Into<String>) {
        self.send("Warning", reason.into(), message.into());
    }

    fn send(&self, severity: &'static str, reason: Reason, message: String) {
        let message = Message {
            occurrence: Occurrence {
                about: self.about.clone(),
                severity,
                reason,
                message,
            },
            resource_version: self.resource_version.clone(),
            at: Timestamp::now(),
        };
        if self.recorder.sender.try_send(message).is_err() {
            tracing::debug!("event dropped: too many at once");
        }
    }
}

/// What was written for an occurrence.
struct Written {
    name: String,
    count: i32,
}

async fn record(client: Client, mut messages: mpsc::Receiver<Message>, node: Arc<str>) {
    let mut written: HashMap<Occurrence, Written> = HashMap::new();
    let mut spam = SpamFilter::default();
    while let Some(message) = messages.recv().await {
        let about = &message.occurrence.about;
        if !spam.lets_pass(&about.uid, message.at) {
            continue;
        }
        if written.len() >= REMEMBERED {
            written.clear();
        }
        if let Err(error) = write(&client, &mut written, &message, &node).await {
            tracing::debug!(
                reason = %message.occurrence.reason,
                "event: {}",
                chain(&error)
            );
        }
    }
}

async fn write(
    client: &Client,
    written: &mut HashMap<Occurrence, Written>,
    message: &Message,
    node: &str,
) -> Result<(), kube::Error> {
    let events: Api<Event> = Api::namespaced(client.clone(), &message.occurrence.about.namespace);
    if let Some(before) = written.get_mut(&message.occurrence) {
        let patch = json!({"count": before.count + 1, "lastTimestamp": Time(message.at)});
        let patched = events
            .patch(
                &before.name,
                &PatchParams::default(),
                &Patch::Strategic(&patch),
            )
            .await;
        match patched {
            Ok(_) => {
                before.count += 1;
                return Ok(());
            }
            // Events expire: it begins again.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    let event = event(message, node);
    let name = event.metadata.name.clone().unwrap_or_default();
    events.create(&PostParams::default(), &event).await?;
    let first = Written { name, count: 1 };
    written.insert(message.occurrence.clone(), first);
    Ok(())
}

fn event(message: &Message, node: &str) -> Event {
    let occurrence = &message.occurrence;
    let about = &occurrence.about;
    let at = Time(message.at);
    Event {
        metadata: ObjectMeta {
            // Kubernetes names events after the object and the time.
            name: Some(format!("{}.{:x}", about.name, message.at.as_nanosecond())),
            namespace: Some(about.namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            kind: Some(about.kind.to_owned()),
            api_version: Some("v1".to_owned()),
            namespace: Some(about.namespace.clone()),
            name: Some(about.name.clone()),
            uid: Some(about.uid.clone()),
            resource_version: message.resource_version.clone(),
            field_path: about.field_path.clone(),
        },
        type_: Some(occurrence.severity.to_owned()),
        reason: Some(occurrence.reason.clone().into_owned()),
        message: Some(occurrence.message.clone()),
        source: Some(EventSource {
            component: Some(COMPONENT.to_owned()),
            host: Some(node.to_owned()),
        }),
        reporting_component: Some(COMPONENT.to_owned()),
        reporting_instance: Some(node.to_owned()),
        count: Some(1),
        first_timestamp: Some(at.clone()),
        last_timestamp: Some(at),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_as_the_kubelet_writes_it() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "7"},
            "spec": {
                "containers": [{"name": "app"}], "initContainers": [{"name": "init"}],
                "ephemeralContainers": [{"name": "debugger"}],
            },
        }))
        .unwrap();
        let (sender, mut receiver) = mpsc::channel(8);
        let recorder = Recorder { sender };
        recorder
            .container(&pod, "app")
            .normal("Started", "Container started");
        for name in ["init", "debugger"] {
            recorder.container(&pod, name).warning("Failed", "words");
        }
        let mut message = receiver.try_recv().unwrap();
        message.at = Timestamp::from_second(1).unwrap();
        let written = serde_json::to_value(event(&message, "node-1")).unwrap();
        assert_eq!(
            written,
            json!({
                "apiVersion": "v1", "kind": "Event",
                "metadata": {"name": "web.3b9aca00", "namespace": "shop"},
                "involvedObject": {
                    "apiVersion": "v1", "kind": "Pod", "name": "web", "namespace": "shop", "uid": "u",
                    "resourceVersion": "7", "fieldPath": "spec.containers{app}",
                },
                "type": "Normal", "reason": "Started", "message": "Container started",
                "source": {"component": "kubelet", "host": "node-1"},
                "reportingComponent": "kubelet", "reportingInstance": "node-1",
                "count": 1, "firstTimestamp": "1970-01-01T00:00:01Z", "lastTimestamp": "1970-01-01T00:00:01Z",
            })
        );
        for path in [
            "spec.initContainers{init}",
            "spec.ephemeralContainers{debugger}",
        ] {
            let about = receiver.try_recv().unwrap().occurrence.about;
            assert_eq!(about.field_path.as_deref(), Some(path));
        }
    }
}
