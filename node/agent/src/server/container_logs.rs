//! `GET /containerLogs/{namespace}/{pod}/{container}`.

use std::io;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use tokio::sync::broadcast::error::RecvError;
use tracing::debug;
use vetch_runtime::{ContainerId, Runtime, SandboxId};

use super::Shared;
use super::logs::locate::{Located, PodRef, locate, may_write};
use super::logs::options::LogOptions;
use super::logs::select::{NoLog, Run, from_runtime, from_status};
use super::logs::stream::{self, Follow};
use crate::pods::static_pods::uid_on_node;

pub async fn get(
    State(shared): State<Shared>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    let options = match LogOptions::parse(&query, Timestamp::now()) {
        Ok(options) => options,
        Err(error) => return text(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()),
    };
    let (run, uid) = match find(&shared, &namespace, &pod, &container, options.previous).await {
        Ok(found) => found,
        Err(refusal) => return refusal,
    };
    let sandboxes = shared.runtime.list().await;
    let named = PodRef {
        namespace: &namespace,
        name: &pod,
        uid: &uid,
    };
    let located = locate(
        &run,
        &sandboxes,
        &shared.settings.pod_log_dir,
        named,
        &container,
    );
    match open(&shared, located, options).await {
        Ok(body) => {
            let plain = HeaderValue::from_static("text/plain; charset=utf-8");
            ([(header::CONTENT_TYPE, plain)], body).into_response()
        }
        // The kubelet's words, in a good answer: `kubectl logs` shows them.
        Err(error) => {
            debug!(%error, container = run.container_id, "no log");
            let words = format!("unable to retrieve container logs for {}", run.container_id);
            text(StatusCode::OK, words)
        }
    }
}

/// The run that is asked for, and the pod's uid.
async fn find(
    shared: &Shared,
    namespace: &str,
    pod: &str,
    container: &str,
    previous: bool,
) -> Result<(Run, String), Response> {
    match shared.pods.find(namespace, pod).await {
        Ok(Some(found)) => {
            let run = from_status(&found, container, previous).map_err(|error| {
                let status = match error {
                    NoLog::NotInPod { .. } => StatusCode::NOT_FOUND,
                    _ => StatusCode::BAD_REQUEST,
                };
                text(status, error.to_string())
            })?;
            let uid = uid_on_node(&found).unwrap_or_default().to_owned();
            Ok((run, uid))
        }
        Ok(None) => Err(text(StatusCode::NOT_FOUND, "pod does not exist\n".into())),
        Err(error) => {
            let sandboxes = shared.runtime.list().await;
            from_runtime(&sandboxes, namespace, pod, container, previous)
                .map(|run| (run, String::new()))
                .ok_or_else(|| text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
        }
    }
}

async fn open(shared: &Shared, located: Located, options: LogOptions) -> io::Result<Body> {
    let follow = match located.live.filter(|_| options.follow) {
        None => None,
        Some((sandbox, container)) => {
            let dir = located.path.parent().unwrap_or(&located.path);
            Some(Follow {
                // Before the first read, so that nothing is missed after it.
                changes: shared.notifier.watch(dir)?,
                ended: ended(shared.runtime.clone(), sandbox, container),
            })
        }
    };
    let chunks = stream::open(located.path, options, follow).await?;
    Ok(Body::from_stream(chunks))
}

/// When the container's process is gone: its log is whole then.
fn ended(runtime: Runtime, sandbox: SandboxId, container: ContainerId) -> BoxFuture<'static, ()> {
    let mut events = runtime.subscribe();
    async move {
        loop {
            let status = runtime.sandbox(&sandbox).await;
            let live = status
                .iter()
                .flat_map(|status| &status.containers)
                .any(|known| known.id == container && may_write(known));
            if !live {
                return;
            }
            loop {
                match events.recv().await {
                    Ok(event) if event.sandbox != sandbox => {}
                    Ok(_) | Err(RecvError::Lagged(_)) => break,
                    // The runtime holds the sender, and we hold the runtime.
                    Err(RecvError::Closed) => return,
                }
            }
        }
    }
    .boxed()
}

pub fn text(status: StatusCode, words: String) -> Response {
    (status, words).into_response()
}
