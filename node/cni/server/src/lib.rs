//! The node's pod network behind a socket, for the CNI plugin `vetch-cni`.
//!
//! ```text
//! runtime ──CNI──> vetch-cni ──gRPC, RUN_DIR/cni.sock──> this ──> vetch_network
//! ```
//!
//! A call goes on when its plugin is killed: it is a task of its own, one at a time for each
//! attachment, so that a DEL comes after all of the ADD before it.

mod calls;
mod config_file;
mod error;
mod locks;
mod request;

use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tracing::info;
use vetch_cni_proto::v1::cni_server::CniServer;
use vetch_network::Network;

use calls::Calls;

pub use vetch_cni_proto::RECORDS;

#[derive(Clone, Debug)]
pub struct CniConfig {
    /// The node's: the socket is in it, and its plugins are told so.
    pub run_dir: PathBuf,
    /// Whether a service proxy runs beside, which serves ports of the node for pods.
    pub serves_host_ports: bool,
    /// Where runtimes look for the configurations of networks, if one is to be written there.
    pub conf_dir: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the CNI socket {path}", path = path.display())]
    Socket {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write the network's configuration {path}", path = path.display())]
    Configuration {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("serving CNI")]
    Serve(#[from] tonic::transport::Error),
}

/// Until `shutdown`.
pub async fn run(
    config: CniConfig,
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
    let socket = config.run_dir.join(vetch_cni_proto::SOCKET);
    let listener = listen(&socket).map_err(|source| Error::Socket {
        path: socket.clone(),
        source,
    })?;
    info!(socket = %socket.display(), "CNI listens");
    if let Some(dir) = &config.conf_dir {
        let written = config_file::write(dir, &config.run_dir, config.serves_host_ports);
        let path = written.map_err(|(path, source)| Error::Configuration { path, source })?;
        info!(path = %path.display(), "the network is offered to runtimes");
    }
    let calls = Calls::new(network, config.serves_host_ports);
    // Until now nobody listened.
    calls.catch_up().await;
    let calls = CniServer::new(calls);
    let served = tonic::transport::Server::builder()
        .add_service(calls)
        .serve_with_incoming(UnixListenerStream::new(listener));
    tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        served = served => Ok(served?),
    }
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
