//! Watches: one position in the cache's event window, one line a change.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use http::StatusCode;
use rand::Rng as _;
use serde_json::{Value, json};
use tokio::time::Instant;
use vetch_api::resource::Resource;
use vetch_store::{Error, Event, EventKind, Object, Watch, watch_line};

use crate::output::{Form, Include, api_version, partial, table};
use crate::read::{json_response, object_bytes};
use crate::request::{Query, Target};
use crate::selector::{FieldSelector, LabelSelector};
use crate::state::{Server, presented};
use crate::status::{Result, Status};

/// kube-apiserver's --min-request-timeout: watches without a limit end after one to two of these.
const MIN_LIFETIME: Duration = Duration::from_secs(1800);
/// kube-apiserver sends a bookmark about once a minute.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// One client's watch.
struct Watcher {
    events: Watch,
    view: View,
    pending: VecDeque<Bytes>,
    bookmarks: bool,
    next_bookmark: Instant,
    deadline: Instant,
    ended: bool,
}

/// Which events a client sees, and in what form.
struct View {
    resource: &'static Resource,
    version: String,
    prefix: String,
    labels: LabelSelector,
    fields: FieldSelector,
    form: Form,
    include: Include,
    columns_sent: bool,
}

pub(crate) async fn watch(
    server: &Server,
    target: &Target,
    query: &Query,
    form: Form,
) -> Result<Response> {
    let cache = server.cache(target.resource)?;
    let fields = query.fields()?;
    fields.check(&(target.resource.selectable_fields)(&Value::Null))?;
    let bookmarks = query.flag("allowWatchBookmarks");
    let initial = query.told("sendInitialEvents");
    if initial == Some(true)
        && (!bookmarks || query.text("resourceVersionMatch") != Some("NotOlderThan"))
    {
        return Err(Status::bad_request(
            "sendInitialEvents requires allowWatchBookmarks and resourceVersionMatch=NotOlderThan",
        ));
    }
    let mut view = View {
        resource: target.resource,
        version: api_version(target.resource),
        // A watch on one name is a watch on its collection with a field selector.
        prefix: target.collection_prefix(),
        labels: query.labels()?,
        fields,
        form,
        include: Include::parse(query.text("includeObject")),
        columns_sent: false,
    };
    let wanted = query.resource_version()?;
    let mut pending = VecDeque::new();
    let from_state = initial.unwrap_or(matches!(wanted, None | Some(0)));
    let events = if from_state {
        match wanted {
            None => {
                cache
                    .wait_for(server.store.current_revision().await?)
                    .await?
            }
            Some(revision) => cache.wait_for(revision).await?,
        }
        let listing = cache.list(&view.prefix);
        for object in &listing.objects {
            if view.selects(&object.value) {
                pending.push_back(view.line(EventKind::Added, object, None));
            }
        }
        if initial == Some(true) {
            pending.push_back(view.bookmark(listing.revision, true));
        }
        cache.watch(listing.revision)
    } else {
        let revision = wanted.unwrap_or_default();
        if revision > cache.revision() {
            cache.wait_for(revision).await?;
        }
        cache.watch(revision)
    };
    let events = match events {
        Ok(events) => events,
        // A watch that is allowed and well formed has begun: what is wrong from here on is told as an event, also the
        // first one. Clients list anew at it, and only at it.
        Err(error @ Error::Expired { .. }) => {
            return Ok(json_response(StatusCode::OK, error_line(error)));
        }
        Err(error) => return Err(error.into()),
    };
    let lifetime = match query.timeout()? {
        Some(limit) if !limit.is_zero() => limit,
        _ => MIN_LIFETIME.mul_f64(1.0 + rand::rng().random::<f64>()),
    };
    let now = Instant::now();
    let watcher = Watcher {
        events,
        view,
        pending,
        bookmarks,
        next_bookmark: now + BOOKMARK_EVERY,
        deadline: now + lifetime,
        ended: false,
    };
    let lines = stream::unfold(watcher, |mut watcher| async move {
        let chunk = watcher.chunk().await?;
        Some((Ok::<Bytes, std::convert::Infallible>(chunk), watcher))
    });
    Ok(json_response(StatusCode::OK, Body::from_stream(lines)))
}

impl Watcher {
    /// The next lines, in one chunk: one write for all that is ready.
    async fn chunk(&mut self) -> Option<Bytes> {
        loop {
            if let Some(first) = self.pending.pop_front() {
                if self.pending.is_empty() {
                    return Some(first);
                }
                let mut chunk = first.to_vec();
                for line in self.pending.drain(..) {
                    chunk.extend_from_slice(&line);
                }
                return Some(chunk.into());
            }
            if self.ended {
                return None;
            }
            tokio::select! {
                biased;
                answer = self.events.next() => match answer {
                    Ok(events) => self.take(&events),
                    Err(error) => self.fail(error),
                },
                () = tokio::time::sleep_until(self.next_bookmark), if self.bookmarks => {
                    self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
                    self.bookmark();
                }
                () = tokio::time::sleep_until(self.deadline) => {
                    self.ended = true;
                    // The client goes on from here instead of from its last object.
                    if self.bookmarks {
                        self.bookmark();
                    }
                }
            }
        }
    }

    fn take(&mut self, events: &[Arc<Event>]) {
        for event in events {
            if let Some(line) = self.view.event(event) {
                self.pending.push_back(line);
            }
        }
    }

    /// Everything up to the bookmark is sent before it.
    fn bookmark(&mut self) {
        match self.events.progress() {
            Ok((events, revision)) => {
                self.take(&events);
                let line = self.view.bookmark(revision, false);
                self.pending.push_back(line);
            }
            Err(error) => self.fail(error),
        }
    }

    fn fail(&mut self, error: Error) {
        self.ended = true;
        self.pending.push_back(error_line(error));
    }
}

fn error_line(error: Error) -> Bytes {
    let status = Status::from(error).to_value();
    Bytes::from(format!("{{\"type\":\"ERROR\",\"object\":{status}}}\n"))
}

impl View {
    fn selects(&self, object: &Value) -> bool {
        self.labels.matches(object) && self.fields.matches(object, self.resource.selectable_fields)
    }

    /// The event as this client sees it: an object that enters its selection is added, one that
    /// leaves it is deleted.
    fn event(&mut self, event: &Event) -> Option<Bytes> {
        if !event.object.key.starts_with(&self.prefix) {
            return None;
        }
        let before = event
            .previous
            .as_ref()
            .is_some_and(|previous| self.selects(&previous.value));
        let now = event.kind != EventKind::Deleted && self.selects(&event.object.value);
        let kind = match (before, now) {
            (false, false) => return None,
            (false, true) => EventKind::Added,
            (true, true) => EventKind::Modified,
            (true, false) => EventKind::Deleted,
        };
        if kind == EventKind::Deleted && event.kind != EventKind::Deleted {
            // What the client knew, at the version of the change.
            let previous = event.previous.as_ref()?;
            let last = Object::new(previous.key.clone(), previous.value.clone(), event.revision);
            return Some(self.line(kind, &last, None));
        }
        Some(self.line(kind, &event.object, Some(event)))
    }

    fn line(&mut self, kind: EventKind, object: &Object, event: Option<&Event>) -> Bytes {
        match self.form {
            Form::Object => match event {
                Some(event)
                    if event.kind == kind
                        && object.value["apiVersion"] == self.version.as_str() =>
                {
                    event.line()
                }
                _ => watch_line(kind, &object_bytes(self.resource, object)),
            },
            Form::Partial => watch_line(kind, partial(&object.value).to_string().as_bytes()),
            Form::Table => {
                let value = presented(self.resource, object);
                let metadata = json!({"resourceVersion": object.revision.to_string()});
                let columns = !std::mem::replace(&mut self.columns_sent, true);
                let table = table(
                    self.resource,
                    std::iter::once(&value),
                    self.include,
                    columns,
                    metadata,
                );
                watch_line(kind, table.to_string().as_bytes())
            }
        }
    }

    fn bookmark(&self, revision: i64, initial_end: bool) -> Bytes {
        let mut metadata =
            json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let (kind, version) = match self.form {
            Form::Object => (self.resource.kind, api_version(self.resource)),
            Form::Partial => ("PartialObjectMetadata", "meta.k8s.io/v1".into()),
            Form::Table => ("Table", "meta.k8s.io/v1".into()),
        };
        let mut object = json!({"kind": kind, "apiVersion": version, "metadata": metadata});
        if self.form == Form::Table {
            // A bookmark of a table is a row without cells, as kube-apiserver sends it.
            object["columnDefinitions"] = json!([]);
            object["rows"] = json!([{"cells": [], "object": {
                "kind": self.resource.kind, "apiVersion": api_version(self.resource), "metadata": object["metadata"],
            }}]);
        }
        Bytes::from(format!("{{\"type\":\"BOOKMARK\",\"object\":{object}}}\n"))
    }
}
