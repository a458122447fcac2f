//! The Container Runtime Interface, version 1, over the node's runtime: for `crictl`, `critest` and
//! kubelets of others.
//!
//! # Shape
//!
//! ```text
//! client ──gRPC, unix socket──> runtime (every call of RuntimeService, a line each)
//!                               image   (every call of ImageService)
//!                                 │
//!      sandbox, container ── config: CRI's messages → the runtime's specs  (pure)
//!                         └─ status: the runtime's reports → CRI's messages (pure)
//! ```
//!
//! What a client asks for and this runtime has not is refused with `Unimplemented` and words that name
//! the field; nothing is left out in silence, but for what says nothing here: SELinux labels where the
//! kernel has no SELinux, annotations of images, whom a sandbox's own process would be, which there is
//! none of. A message that contradicts itself is `InvalidArgument`.
//!
//! Sandboxes made here are their client's ([`Owner::Cri`]): the node's own pod workers list them and
//! leave them alone, while clients see the node's pods too.
//!
//! The interface: <https://github.com/kubernetes/cri-api>.
//!
//! [`Owner::Cri`]: vetch_runtime::Owner

mod cdi;
mod container;
mod error;
mod events;
mod files;
mod filter;
mod id;
mod image;
mod metrics;
mod parts;
mod resources;
mod runtime;
mod sandbox;
mod stats;
mod stream;

use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tracing::info;
use vetch_cri_proto::v1::image_service_server::ImageServiceServer;
use vetch_cri_proto::v1::runtime_service_server::RuntimeServiceServer;
use vetch_network::Network;
use vetch_runtime::{Rates, Runtime};

use files::Files;
use stream::Streams;

/// kubelet's own limit: lists of some thousand containers are longer than gRPC's usual 4 MiB.
const MAX_MESSAGE: usize = 16 << 20;

pub struct CriConfig {
    /// Where clients connect; made anew.
    pub socket: PathBuf,
    /// For the /etc files of sandboxes, as long as these live: beside the runtime's run directory.
    pub run_dir: PathBuf,
    /// For logs of containers whose client names no place.
    pub log_dir: PathBuf,
    /// Whether `UpdateRuntimeConfig` says which addresses pods get. Where an API server does, it does
    /// not.
    pub takes_pod_cidr: bool,
    /// Whether a service proxy runs beside, which serves ports of the node for pods.
    pub serves_host_ports: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the CRI socket {path}", path = path.display())]
    Socket {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the server of streams")]
    Streams(#[source] io::Error),
    #[error("serving CRI")]
    Serve(#[from] tonic::transport::Error),
}

/// What every call has at hand.
#[derive(Clone)]
struct Cri {
    runtime: Runtime,
    network: Network,
    files: Files,
    log_dir: Arc<Path>,
    takes_pod_cidr: bool,
    serves_host_ports: bool,
    rates: Arc<Rates>,
    streams: Streams,
}

/// Until `shutdown`.
pub async fn run(
    config: CriConfig,
    runtime: Runtime,
    network: Network,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    // Nothing is connected before it is known what an earlier daemon has connected.
    let mut pods = network.pods();
    tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        // The sender lives in `network`.
        _ = pods.wait_for(Option::is_some) => {}
    }
    let listener = listen(&config.socket).map_err(|source| Error::Socket {
        path: config.socket.clone(),
        source,
    })?;
    let streams = Streams::serve(runtime.clone(), shutdown.clone()).await;
    let streams = streams.map_err(Error::Streams)?;
    info!(socket = %config.socket.display(), "CRI listens");
    let cri = Cri {
        runtime,
        network,
        files: Files::new(config.run_dir),
        log_dir: config.log_dir.into(),
        takes_pod_cidr: config.takes_pod_cidr,
        serves_host_ports: config.serves_host_ports,
        rates: Arc::default(),
        streams,
    };
    let runtime = RuntimeServiceServer::new(cri.clone()).max_decoding_message_size(MAX_MESSAGE);
    let images = ImageServiceServer::new(cri).max_decoding_message_size(MAX_MESSAGE);
    let served = tonic::transport::Server::builder()
        .add_service(runtime)
        .add_service(images)
        .serve_with_incoming(UnixListenerStream::new(listener));
    // Streams of events have no end of their own, so nobody is waited for.
    tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        served = served => Ok(served?),
    }
}

/// Nanoseconds since 1970, as all of CRI's times.
fn nanos(time: jiff::Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

fn now() -> i64 {
    nanos(jiff::Timestamp::now())
}

/// In the place of what an earlier daemon left. Through a descriptor of the directory: the path itself
/// may be longer than a socket address.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    fs::create_dir_all(dir)?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let dir = fs::File::open(dir)?;
    let short = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string());
    let listener = UnixListener::bind(short.join(name))?;
    // Whoever may write to it is root on this machine.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}
