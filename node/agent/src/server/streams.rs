//! `/exec`, `/attach` and `/portForward`: which pod a path means, before the handshake: a client that falls back to SPDY
//! hears a refusal again, and shows it. What follows is `vetch_streaming`'s.

use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde::Deserialize;
use vetch_runtime::ContainerId;
use vetch_streaming::{Options, Refused};

use super::Shared;
use super::find::Named;

type Asked = Query<Vec<(String, String)>>;

/// A container as a path names it.
#[derive(Deserialize)]
pub struct Container {
    namespace: String,
    pod: String,
    uid: Option<String>,
    pub container: String,
}

impl Container {
    /// `None` when it does not run.
    pub async fn find(&self, shared: &Shared) -> Result<Option<ContainerId>, Refused> {
        let uid = self.uid.as_deref();
        let named = Named::find(shared, &self.namespace, &self.pod, uid).await?;
        Ok(named.container(&shared.runtime.list().await, &self.container))
    }

    pub fn not_found(&self) -> Refused {
        failed(format!("container not found ({:?})", self.container))
    }
}

pub async fn exec(
    State(shared): State<Shared>,
    Path(container): Path<Container>,
    Query(query): Asked,
    request: Request,
) -> Response {
    answer(async {
        let options = options(query)?;
        let id = container.find(&shared).await?;
        let id = id.ok_or_else(|| container.not_found())?;
        vetch_streaming::exec(&shared.runtime, id, options, request, &shared.shutdown)
    })
    .await
}

pub async fn attach(
    State(shared): State<Shared>,
    Path(container): Path<Container>,
    Query(query): Asked,
    request: Request,
) -> Response {
    answer(async {
        let options = options(query)?;
        let runtime = &shared.runtime;
        let missing = || {
            let Container {
                namespace,
                pod,
                container,
                ..
            } = &container;
            failed(format!(
                "container {container} not found in pod {pod}_{namespace}"
            ))
        };
        let id = container.find(&shared).await?.ok_or_else(missing)?;
        let terminal = runtime.has_terminal(&id).map_err(|_| missing())?;
        vetch_streaming::attach(runtime, id, terminal, options, request, &shared.shutdown)
    })
    .await
}

#[derive(Deserialize)]
pub struct Pod {
    namespace: String,
    pod: String,
    uid: Option<String>,
}

pub async fn port_forward(
    State(shared): State<Shared>,
    Path(pod): Path<Pod>,
    request: Request,
) -> Response {
    answer(async {
        let uid = pod.uid.as_deref();
        let named = Named::find(&shared, &pod.namespace, &pod.pod, uid).await?;
        let sandbox = named.sandbox(&shared.runtime.list().await)?;
        vetch_streaming::port_forward(sandbox, request, &shared.shutdown)
    })
    .await
}

pub async fn answer(begun: impl Future<Output = Result<Response, Refused>>) -> Response {
    match begun.await {
        Ok(response) => response,
        Err(refused) => refused.into_response(),
    }
}

fn options(query: Vec<(String, String)>) -> Result<Options, Refused> {
    Options::parse(query).map_err(|words| (StatusCode::BAD_REQUEST, words))
}

pub fn failed(words: String) -> Refused {
    (StatusCode::INTERNAL_SERVER_ERROR, words)
}
