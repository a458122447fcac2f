//! `/exec/{namespace}/{pod}/{container}`: a process in a running container.

use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use tracing::debug;
use vetch_runtime::{Chain, ContainerId, ExecProcess, Runtime};

use super::Shared;
use super::find::Named;
use super::remote_command::{self, Options, Process, stdio};
use super::upgrade::Refused;

pub async fn run(
    State(shared): State<Shared>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    Query(query): Query<Vec<(String, String)>>,
    request: Request,
) -> Response {
    let begun = async {
        let options = Options::parse(query).map_err(|words| (StatusCode::BAD_REQUEST, words))?;
        // Before the handshake: a client that falls back to SPDY hears these words again, and shows them.
        let named = Named::find(&shared, &namespace, &pod, None).await?;
        let id = named.container(&shared.runtime.list().await, &container);
        let id = id.ok_or_else(|| {
            let words = format!("container not found ({container:?})");
            (StatusCode::INTERNAL_SERVER_ERROR, words)
        })?;
        begin(&shared, id, options, request)
    };
    match begun.await {
        Ok(response) => response,
        Err(refused) => refused.into_response(),
    }
}

fn begin(
    shared: &Shared,
    id: ContainerId,
    options: Options,
    request: Request,
) -> Result<Response, Refused> {
    let runtime = shared.runtime.clone();
    remote_command::begin(shared, request, move |session| async move {
        let start = start(&runtime, &id, &options);
        if let Err(error) = session.serve(&options, start).await {
            debug!(%error, container = %id, "exec: the client is gone");
        }
    })
}

async fn start(
    runtime: &Runtime,
    id: &ContainerId,
    options: &Options,
) -> Result<(stdio::Ends, ExecProcess), String> {
    let command = options.command.clone();
    if options.tty {
        let started = runtime.exec_terminal(id, command).await;
        let (process, master) = started.map_err(|error| failed(Chain(&error)))?;
        let ends = stdio::terminal(options, master).map_err(failed)?;
        return Ok((ends, process));
    }
    let (ends, theirs) = stdio::pipes(options).map_err(failed)?;
    let process = runtime.exec_process(id, command, theirs).await;
    Ok((ends, process.map_err(|error| failed(Chain(&error)))?))
}

fn failed(why: impl std::fmt::Display) -> String {
    format!("error executing command in container: {why}")
}

/// Killed when dropped.
impl Process for ExecProcess {
    async fn wait(&mut self) -> Result<i32, String> {
        let ended = ExecProcess::wait(self).await;
        ended.map_err(|error| failed(Chain(&error)))
    }
}
