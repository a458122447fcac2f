//! Events: what a controller tells people about an object.
//!
//! Recording never waits: events go through a channel to one task, which counts repetitions of the
//! same event up instead of writing it again.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::error::{chain, found};

/// More than this many in flight are dropped, as Kubernetes' recorders do.
const BACKLOG: usize = 1000;
/// Remembered repetitions.
const REMEMBERED: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    Normal,
    Warning,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Severity::Normal => "Normal",
            Severity::Warning => "Warning",
        }
    }
}

/// What happened, without the object it happened to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Note {
    pub severity: Severity,
    pub reason: &'static str,
    pub message: String,
}

impl Note {
    pub fn normal(reason: &'static str, message: String) -> Note {
        Note {
            severity: Severity::Normal,
            reason,
            message,
        }
    }

    pub fn warning(reason: &'static str, message: String) -> Note {
        Note {
            severity: Severity::Warning,
            reason,
            message,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Occurrence {
    component: &'static str,
    kind: String,
    namespace: String,
    name: String,
    uid: String,
    note: Note,
}

struct Message {
    occurrence: Occurrence,
    reference: ObjectReference,
    at: Timestamp,
}

/// Records in the name of one component.
#[derive(Clone)]
pub struct Recorder {
    component: &'static str,
    sender: mpsc::Sender<Message>,
}

impl Recorder {
    pub fn new(
        client: Client,
        shutdown: CancellationToken,
    ) -> (Recorder, impl Future<Output = ()> + Send) {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        (
            Recorder {
                component: "",
                sender,
            },
            record(client, receiver, shutdown),
        )
    }

    pub fn of(&self, component: &'static str) -> Recorder {
        Recorder {
            component,
            sender: self.sender.clone(),
        }
    }

    pub fn record<K: Resource<DynamicType = ()>>(&self, about: &K, note: Note) {
        self.record_about(about.object_ref(&()), note);
    }

    pub fn record_about(&self, reference: ObjectReference, note: Note) {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let occurrence = Occurrence {
            component: self.component,
            kind: text(&reference.kind),
            namespace: text(&reference.namespace),
            name: text(&reference.name),
            uid: text(&reference.uid),
            note,
        };
        let message = Message {
            occurrence,
            reference,
            at: Timestamp::now(),
        };
        if self.sender.try_send(message).is_err() {
            debug!("event dropped: too many at once");
        }
    }
}

/// What was written for an occurrence.
struct Written {
    name: String,
    count: i32,
}

async fn record(
    client: Client,
    mut messages: mpsc::Receiver<Message>,
    shutdown: CancellationToken,
) {
    let mut written: HashMap<Occurrence, Written> = HashMap::new();
    loop {
        let message = tokio::select! {
            () = shutdown.cancelled() => return,
            message = messages.recv() => message,
        };
        let Some(message) = message else { return };
        if written.len() >= REMEMBERED {
            written.clear();
        }
        if let Err(error) = write(&client, &mut written, &message).await {
            debug!(
                "event {}: {}",
                message.occurrence.note.reason,
                chain(&error)
            );
        }
    }
}

async fn write(
    client: &Client,
    written: &mut HashMap<Occurrence, Written>,
    message: &Message,
) -> Result<(), kube::Error> {
    let namespace = match message.occurrence.namespace.as_str() {
        "" => "default",
        namespace => namespace,
    };
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    if let Some(before) = written.get_mut(&message.occurrence) {
        let patch =
            json!({"count": before.count + 1, "lastTimestamp": Time(whole_seconds(message.at))});
        let patched = events
            .patch(&before.name, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        if found(patched)?.is_some() {
            before.count += 1;
            return Ok(());
        }
    }
    let event = event(message, namespace);
    let created = events.create(&PostParams::default(), &event).await?;
    let name = created.metadata.name.unwrap_or_default();
    written.insert(message.occurrence.clone(), Written { name, count: 1 });
    Ok(())
}

fn event(message: &Message, namespace: &str) -> Event {
    let occurrence = &message.occurrence;
    let at = Time(whole_seconds(message.at));
    Event {
        metadata: ObjectMeta {
            // Kubernetes names events after the object and the time.
            name: Some(format!(
                "{}.{:x}",
                occurrence.name,
                message.at.as_nanosecond()
            )),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        involved_object: message.reference.clone(),
        type_: Some(occurrence.note.severity.as_str().to_owned()),
        reason: Some(occurrence.note.reason.to_owned()),
        message: Some(occurrence.note.message.clone()),
        source: Some(EventSource {
            component: Some(occurrence.component.to_owned()),
            host: None,
        }),
        reporting_component: Some(occurrence.component.to_owned()),
        count: Some(1),
        first_timestamp: Some(at.clone()),
        last_timestamp: Some(at),
        ..Event::default()
    }
}

/// metav1.Time has no fractions; what is compared with what came back must not have them either.
pub fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
