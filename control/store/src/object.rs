//! Objects as the cache holds them: parsed once, serialised once, shared by everyone.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::Value;

use crate::Error;

/// One stored object. `value` carries `metadata.resourceVersion`; the bytes in etcd do not.
#[derive(Debug)]
pub struct Object {
    pub key: String,
    /// etcd's mod_revision: the object's resourceVersion.
    pub revision: i64,
    pub value: Value,
    json: OnceLock<Bytes>,
}

impl Object {
    /// Reads what etcd holds.
    pub fn parse(key: &str, bytes: &[u8], revision: i64) -> Result<Arc<Object>, Error> {
        let value = serde_json::from_slice(bytes).map_err(|source| Error::Malformed {
            key: key.to_owned(),
            source,
        })?;
        Ok(Object::new(key.to_owned(), value, revision))
    }

    pub fn new(key: String, mut value: Value, revision: i64) -> Arc<Object> {
        if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("resourceVersion".into(), revision.to_string().into());
        }
        Arc::new(Object {
            key,
            revision,
            value,
            json: OnceLock::new(),
        })
    }

    /// The object as a client reads it.
    pub fn json(&self) -> Bytes {
        self.json
            .get_or_init(|| Bytes::from(self.value.to_string()))
            .clone()
    }
}

/// The value as etcd keeps it: its resourceVersion is the key's own revision.
pub fn stored_bytes(value: &Value) -> Vec<u8> {
    let Some(metadata) = value
        .get("metadata")
        .filter(|m| m.get("resourceVersion").is_some())
    else {
        return value.to_string().into_bytes();
    };
    let mut metadata = metadata.clone();
    if let Some(map) = metadata.as_object_mut() {
        map.remove("resourceVersion");
    }
    let mut copy = value.clone();
    copy["metadata"] = metadata;
    copy.to_string().into_bytes()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Added,
    Modified,
    Deleted,
}

impl EventKind {
    /// As watch events spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            EventKind::Added => "ADDED",
            EventKind::Modified => "MODIFIED",
            EventKind::Deleted => "DELETED",
        }
    }
}

/// One change. `previous` lets a selector tell an object that entered it from one that left.
#[derive(Debug)]
pub struct Event {
    pub kind: EventKind,
    /// After the change; for a deletion the last state, with the deletion's revision.
    pub object: Arc<Object>,
    pub previous: Option<Arc<Object>>,
    pub revision: i64,
    line: OnceLock<Bytes>,
}

impl Event {
    pub fn new(kind: EventKind, object: Arc<Object>, previous: Option<Arc<Object>>) -> Arc<Event> {
        let revision = object.revision;
        Arc::new(Event {
            kind,
            object,
            previous,
            revision,
            line: OnceLock::new(),
        })
    }

    /// The event as an unfiltered watch sends it, serialised once for all watchers.
    pub fn line(&self) -> Bytes {
        self.line
            .get_or_init(|| watch_line(self.kind, &self.object.json()))
            .clone()
    }
}

/// `{"type":…,"object":…}` and a newline.
pub fn watch_line(kind: EventKind, object: &[u8]) -> Bytes {
    let mut line = Vec::with_capacity(object.len() + 40);
    line.extend_from_slice(b"{\"type\":\"");
    line.extend_from_slice(kind.as_str().as_bytes());
    line.extend_from_slice(b"\",\"object\":");
    line.extend_from_slice(object);
    line.extend_from_slice(b"}\n");
    line.into()
}
