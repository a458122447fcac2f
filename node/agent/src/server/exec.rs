//! `/exec/{namespace}/{pod}/{container}`: a process in a running container, its streams over a WebSocket or SPDY.
//!
//! [`options`] says what is asked for, [`channels`] what the messages mean, [`stdio`] has the process's descriptors and
//! [`session`] carries bytes between the two. [`over_web_socket`] and [`over_spdy`] are the ways to the client.

mod channels;
mod options;
mod over_spdy;
mod over_web_socket;
mod session;
mod stdio;
#[cfg(test)]
mod testing;

use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use tracing::debug;
use vetch_runtime::{Chain, ContainerId, ExecProcess};

use super::Shared;
use super::find::Named;
use super::upgrade::{Agreed, Offer, Refused, go_on, shake_hands};
use channels::Protocol;
use options::Options;

const OFFER: Offer = Offer {
    web_sockets: &[channels::V5, channels::V4],
    spdy: &[channels::V4],
};

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
        let id = named.container(&shared.runtime.list().await, &container)?;
        begin(&shared, id, options, request)
    };
    match begun.await {
        Ok(response) => response,
        Err(refused) => refused.into_response(),
    }
}

/// Answers with the change of protocol; the session runs on beside.
fn begin(
    shared: &Shared,
    id: ContainerId,
    options: Options,
    mut request: Request,
) -> Result<Response, Refused> {
    let (response, agreed) = shake_hands(&request, &OFFER)?;
    let runtime = shared.runtime.clone();
    go_on(shared, &mut request, move |stream| async move {
        let start = |stdio| {
            let process = runtime.exec_process(&id, options.command.clone(), options.tty, stdio);
            async move { process.await.map_err(|error| Chain(&error).to_string()) }
        };
        let served = match agreed {
            Agreed::WebSocket(name) => {
                let protocol = Protocol::named(name);
                over_web_socket::serve(stream, protocol, &options, start).await
            }
            Agreed::Spdy(_) => over_spdy::serve(stream, &options, start).await,
        };
        if let Err(error) = served {
            debug!(%error, container = %id, "exec: the client is gone");
        }
    });
    Ok(response)
}

impl session::Process for ExecProcess {
    async fn wait(&mut self) -> Result<i32, String> {
        let ended = ExecProcess::wait(self).await;
        ended.map_err(|error| Chain(&error).to_string())
    }
}
