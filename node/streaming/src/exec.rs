//! A process in a running container.

use axum::extract::Request;
use axum::response::Response;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use vetch_runtime::{Chain, ContainerId, ExecProcess, Runtime};

use crate::remote_command::{self, Options, Process, stdio};
use crate::upgrade::Refused;

/// Killed when its client goes.
pub fn exec(
    runtime: &Runtime,
    id: ContainerId,
    options: Options,
    request: Request,
    shutdown: &CancellationToken,
) -> Result<Response, Refused> {
    let runtime = runtime.clone();
    remote_command::begin(shutdown, request, move |session| async move {
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
