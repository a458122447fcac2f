//! Objects as the cache holds them: parsed once, serialised once, shared by everyone.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::{Serialize, Serializer};
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

    /// An object that was not written: the answer to a dry run.
    pub fn unversioned(key: String, value: Value) -> Arc<Object> {
        Arc::new(Object {
            key,
            revision: 0,
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
    // A Value has string keys and finite numbers only, so writing it to memory cannot fail.
    serde_json::to_vec(&Stored(value)).unwrap_or_default()
}

/// Writes an object without `metadata.resourceVersion`, copying nothing.
struct Stored<'a>(&'a Value);

impl Serialize for Stored<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Value::Object(object) = self.0 else {
            return self.0.serialize(serializer);
        };
        serializer.collect_map(object.iter().map(|(key, value)| {
            (
                key,
                Part {
                    value,
                    metadata: key == "metadata",
                },
            )
        }))
    }
}

struct Part<'a> {
    value: &'a Value,
    metadata: bool,
}

impl Serialize for Part<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.value {
            Value::Object(metadata) if self.metadata => {
                serializer.collect_map(metadata.iter().filter(|(key, _)| *key != "resourceVersion"))
            }
            value => value.serialize(serializer),
        }
    }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_version_is_not_stored() {
        let value = json!({"kind": "Pod", "metadata": {"name": "a", "resourceVersion": "7"}, "spec": {"resourceVersion": "x"}});
        let stored: Value = serde_json::from_slice(&stored_bytes(&value)).unwrap();
        assert_eq!(
            stored,
            json!({"kind": "Pod", "metadata": {"name": "a"}, "spec": {"resourceVersion": "x"}})
        );
        let read = Object::parse("/registry/pods/ns/a", &stored_bytes(&value), 9).unwrap();
        assert_eq!(read.value["metadata"]["resourceVersion"], "9");
    }
}
