//! Exec, attach and port-forward: a client is told a URL, and whoever asks there first, within a minute, is served
//! what was asked for. A kubelet leads its own client's connection there.
//!
//! The server is on loopback. A URL's last part is all that a client has to know, so it is long and cannot be guessed.

mod tokens;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use vetch_cri_proto::v1::{AttachRequest, ExecRequest, PortForwardRequest};
use vetch_runtime::{ContainerId, ContainerState, Runtime, SandboxState, SandboxStatus};
use vetch_streaming::{Options, Refused};

use crate::Cri;
use tokens::Tokens;

/// What a client may have at its URL.
enum Stream {
    Exec(ContainerId, Options),
    Attach {
        id: ContainerId,
        terminal: bool,
        options: Options,
    },
    PortForward(Box<SandboxStatus>),
}

/// Where streams are served.
#[derive(Clone)]
pub struct Streams {
    address: SocketAddr,
    tokens: Arc<Tokens<Stream>>,
}

#[derive(Clone)]
struct Shared {
    tokens: Arc<Tokens<Stream>>,
    runtime: Runtime,
    shutdown: CancellationToken,
}

impl Streams {
    /// Serves beside, until `shutdown`.
    pub async fn serve(runtime: Runtime, shutdown: CancellationToken) -> io::Result<Streams> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let streams = Streams {
            address: listener.local_addr()?,
            tokens: Arc::default(),
        };
        let shared = Shared {
            tokens: streams.tokens.clone(),
            runtime,
            shutdown: shutdown.clone(),
        };
        let router = Router::new()
            .route("/{token}", get(run).post(run))
            .with_state(shared);
        tokio::spawn(async move {
            let served = axum::serve(listener, router).into_future();
            shutdown.run_until_cancelled(served).await
        });
        Ok(streams)
    }

    fn url(&self, stream: Stream) -> Result<String, Status> {
        let token = self.tokens.put(stream);
        let token = token.ok_or_else(|| {
            Status::resource_exhausted("too many streams were asked for and not fetched")
        })?;
        Ok(format!("http://{}/{token}", self.address))
    }
}

async fn run(
    State(shared): State<Shared>,
    Path(token): Path<String>,
    request: Request,
) -> Response {
    let Some(stream) = shared.tokens.take(&token) else {
        return (
            StatusCode::NOT_FOUND,
            "this stream was fetched, or its time is over",
        )
            .into_response();
    };
    match begin(&shared, stream, request) {
        Ok(response) => response,
        Err(refused) => refused.into_response(),
    }
}

fn begin(shared: &Shared, stream: Stream, request: Request) -> Result<Response, Refused> {
    let (runtime, shutdown) = (&shared.runtime, &shared.shutdown);
    match stream {
        Stream::Exec(id, options) => vetch_streaming::exec(runtime, id, options, request, shutdown),
        Stream::Attach {
            id,
            terminal,
            options,
        } => vetch_streaming::attach(runtime, id, terminal, options, request, shutdown),
        Stream::PortForward(sandbox) => vetch_streaming::port_forward(*sandbox, request, shutdown),
    }
}

impl Cri {
    pub async fn exec_url(&self, request: ExecRequest) -> Result<String, Status> {
        let id = self.running(&request.container_id).await?;
        if request.cmd.is_empty() {
            return Err(Status::invalid_argument("cmd is empty"));
        }
        let options = Options {
            command: request.cmd,
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            tty: request.tty,
        };
        check(&options)?;
        self.streams.url(Stream::Exec(id, options))
    }

    pub async fn attach_url(&self, request: AttachRequest) -> Result<String, Status> {
        let id = self.running(&request.container_id).await?;
        let terminal = self
            .runtime
            .has_terminal(&id)
            .map_err(crate::error::status)?;
        let options = Options {
            command: Vec::new(),
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            tty: request.tty,
        };
        check(&options)?;
        self.streams.url(Stream::Attach {
            id,
            terminal,
            options,
        })
    }

    /// The ports are asked for in the stream.
    pub async fn port_forward_url(&self, request: PortForwardRequest) -> Result<String, Status> {
        let sandbox = self.find_sandbox(&request.pod_sandbox_id).await?;
        if sandbox.state != SandboxState::Ready {
            return Err(Status::failed_precondition("the sandbox is not ready"));
        }
        self.streams.url(Stream::PortForward(Box::new(sandbox)))
    }

    async fn running(&self, wanted: &str) -> Result<ContainerId, Status> {
        let known = self.find_container(wanted).await?;
        if known.status.state != ContainerState::Running {
            return Err(Status::failed_precondition("the container is not running"));
        }
        Ok(known.status.id)
    }
}

/// The interface's own rules.
fn check(options: &Options) -> Result<(), Status> {
    if !options.stdin && !options.stdout && !options.stderr {
        let words = "one of stdin, stdout and stderr must be set";
        return Err(Status::invalid_argument(words));
    }
    if options.tty && options.stderr {
        let words = "tty and stderr cannot both be true";
        return Err(Status::invalid_argument(words));
    }
    Ok(())
}
