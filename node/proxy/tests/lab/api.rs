//! An API server as far as the proxy asks: lists in pages, watches from a
//! version on. Objects are kept as they are sent.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes},
    http::{Request, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use futures::{Stream, stream};
use serde_json::{Value, json};
use tokio::sync::watch;

/// Cheap to clone.
#[derive(Clone)]
pub struct Api {
    kinds: Arc<Mutex<BTreeMap<String, Kind>>>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Kind {
    objects: BTreeMap<String, Bytes>,
    /// All that there ever were: how many there are is the version.
    events: Vec<Bytes>,
}

impl Api {
    pub fn new() -> Self {
        Self {
            kinds: Arc::default(),
            changed: watch::Sender::new(()),
        }
    }

    /// Makes or changes an object; `kind` is as in paths: `services`.
    pub fn set(&self, kind: &str, object: Value) {
        self.change(kind, object, true);
    }

    pub fn delete(&self, kind: &str, object: Value) {
        self.change(kind, object, false);
    }

    fn change(&self, kind: &str, mut object: Value, stays: bool) {
        let mut kinds = self.kinds.lock().unwrap();
        let kind = kinds.entry(kind.to_owned()).or_default();
        let version = kind.events.len() + 1;
        object["metadata"]["resourceVersion"] = version.to_string().into();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let bytes = Bytes::from(object.to_string());
        let before = if stays {
            kind.objects.insert(name, bytes)
        } else {
            kind.objects.remove(&name)
        };
        let type_ = match (before, stays) {
            (_, false) => "DELETED",
            (None, true) => "ADDED",
            (Some(_), true) => "MODIFIED",
        };
        let event = format!("{}\n", json!({"type": type_, "object": object}));
        kind.events.push(event.into());
        drop(kinds);
        self.changed.send_replace(());
    }

    /// A client in this process.
    pub fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let response = api.answer(request.uri());
            async move { Ok::<_, Infallible>(response) }
        });
        kube::Client::new(service, "default")
    }

    /// Answers other processes, on a port of loopback, until the runtime ends.
    pub async fn serve(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let api = self.clone();
        let answer = move |uri: Uri| async move { api.answer(&uri) };
        tokio::spawn(async { axum::serve(listener, Router::new().fallback(answer)).await });
        address
    }

    fn answer(&self, uri: &Uri) -> Response {
        let kind = uri.path().rsplit('/').next().unwrap_or_default();
        let query: BTreeMap<&str, &str> = uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .collect();
        // Others once there was an object of theirs.
        if !["services", "endpointslices", "nodes"].contains(&kind)
            && !self.kinds.lock().unwrap().contains_key(kind)
        {
            return StatusCode::NOT_FOUND.into_response();
        }
        if query.contains_key("watch") {
            let from = query["resourceVersion"].parse().unwrap();
            return Body::from_stream(self.events(kind.to_owned(), from)).into_response();
        }
        let limit = query.get("limit").and_then(|limit| limit.parse().ok());
        self.list(
            kind,
            limit.unwrap_or(usize::MAX),
            query.get("continue").copied(),
        )
    }

    /// The token says at which version the first page was; what changes while
    /// pages are fetched is told again by the watch from there.
    fn list(&self, kind: &str, limit: usize, token: Option<&str>) -> Response {
        let mut kinds = self.kinds.lock().unwrap();
        let kind = kinds.entry(kind.to_owned()).or_default();
        let (version, start) = match token.and_then(|token| token.split_once('.')) {
            Some((version, start)) => (version.to_owned(), start),
            None => (kind.events.len().to_string(), ""),
        };
        let mut rest = kind.objects.range(start.to_owned()..);
        let page: Vec<&[u8]> = rest
            .by_ref()
            .take(limit)
            .map(|(_, object)| &object[..])
            .collect();
        let mut metadata = json!({"resourceVersion": version});
        if let Some((next, _)) = rest.next() {
            metadata["continue"] = format!("{version}.{next}").into();
        }
        let head = format!(r#"{{"metadata":{metadata},"items":["#);
        [head.as_bytes(), &page.join(&b','), b"]}"]
            .concat()
            .into_response()
    }

    fn events(
        &self,
        kind: String,
        from: usize,
    ) -> impl Stream<Item = Result<Bytes, Infallible>> + use<> {
        let (kinds, changed) = (self.kinds.clone(), self.changed.subscribe());
        let start = (kinds, changed, kind, from);
        stream::unfold(start, |(kinds, mut changed, kind, from)| async move {
            loop {
                changed.borrow_and_update();
                let news = {
                    let kinds = kinds.lock().unwrap();
                    let events = kinds.get(&kind).map_or(&[][..], |kind| &kind.events);
                    events[from.min(events.len())..].to_vec()
                };
                if !news.is_empty() {
                    let state = (kinds, changed, kind, from + news.len());
                    return Some((Ok(news.concat().into()), state));
                }
                changed.changed().await.ok()?;
            }
        })
    }
}
