//! The first process of a running container, its output from now on and its input.
//!
//! Like kubelets with containerd: a session is a success however the process ends. It ends with the client's input too,
//! but where the container is meant to see that end (stdinOnce).

use axum::extract::Request;
use axum::response::Response;
use futures::FutureExt as _;
use http::StatusCode;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use vetch_runtime::{Attachment, Chain, ContainerId, Runtime};

use crate::remote_command::{self, Options, Process, stdio};
use crate::upgrade::Refused;

/// `terminal`: whether the container has one. It goes on when its client goes.
pub fn attach(
    runtime: &Runtime,
    id: ContainerId,
    terminal: bool,
    asked: Options,
    request: Request,
    shutdown: &CancellationToken,
) -> Result<Response, Refused> {
    let options =
        at(terminal, asked).map_err(|words| (StatusCode::INTERNAL_SERVER_ERROR, words))?;
    let runtime = runtime.clone();
    remote_command::begin(shutdown, request, move |session| async move {
        let start = start(&runtime, &id, &options);
        if let Err(error) = session.serve(&options, start).await {
            debug!(%error, container = %id, "attach: the client is gone");
        }
    })
}

/// Whether there is a terminal was decided when the container was made, not by the client. The error is the kubelet's
/// words.
fn at(terminal: bool, asked: Options) -> Result<Options, String> {
    match terminal && asked.stderr {
        true => Err("tty and stderr cannot both be true".to_owned()),
        false => Ok(Options {
            tty: terminal,
            ..asked
        }),
    }
}

/// The container's terminal is not ours: there are pipes to it all the same.
async fn start(
    runtime: &Runtime,
    id: &ContainerId,
    options: &Options,
) -> Result<(stdio::Ends, Attachment), String> {
    let (mut ends, theirs) = stdio::pipes(options).map_err(failed)?;
    if options.tty {
        let (runtime, id) = (runtime.clone(), id.clone());
        ends.input.resized_by(move |size| {
            let (runtime, id) = (runtime.clone(), id.clone());
            async move {
                if let Err(error) = runtime.resize_terminal(&id, size.height, size.width).await {
                    debug!(error = %Chain(&error), container = %id, "attach: no size");
                }
            }
            .boxed()
        });
    }
    let attached = runtime.attach(id, options.stdin, theirs).await;
    let attached = attached.map_err(|error| failed(Chain(&error)))?;
    Ok((ends, attached))
}

fn failed(why: impl std::fmt::Display) -> String {
    format!("error attaching to container: {why}")
}

/// The container goes on when it is dropped.
impl Process for Attachment {
    async fn wait(&mut self) -> Result<i32, String> {
        match Attachment::wait(self).await {
            Ok(()) => Ok(0),
            Err(error) => Err(failed(Chain(&error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_container_knows_whether_it_has_a_terminal() {
        let options = |flags: &[&str]| {
            let pair = |flag: &&str| ((*flag).to_owned(), "1".to_owned());
            Options::parse(flags.iter().map(pair).collect()).unwrap()
        };
        let refused = "tty and stderr cannot both be true";
        for (terminal, flags, wanted) in [
            (false, &["output", "error"][..], Ok((false, true))),
            (false, &["output", "tty"], Ok((false, false))),
            (true, &["output", "error"], Err(refused.to_owned())),
            (true, &["output", "input"], Ok((true, false))),
            // A client with a terminal wants no standard error, whatever it says.
            (true, &["output", "error", "tty"], Ok((true, false))),
        ] {
            let got = at(terminal, options(flags));
            let got = got.map(|options| (options.tty, options.stderr));
            assert_eq!(got, wanted, "{terminal} {flags:?}");
        }
    }
}
