//! The node's daemon, at its socket.

use std::path::Path;
use std::time::Duration;

use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use vetch_cni_proto::v1::cni_client::CniClient;
use vetch_cni_proto::{Failure, SOCKET, code};

use crate::failure::chain;

/// For a call: longer than the daemon waits for the programs at a pod's link, so that it is the daemon
/// that says what is missing, and shorter than a kubelet waits for its runtime (2 min).
const LIMIT: Duration = Duration::from_secs(90);

pub enum Error {
    /// Nobody answered, or not to the end.
    Absent(String),
    Said(Failure),
}

pub async fn connect(run_dir: &Path) -> Result<CniClient<Channel>, Error> {
    let socket = run_dir.join(SOCKET);
    let failed = |error: tonic::transport::Error| Error::Absent(chain(&error));
    let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display())).map_err(failed)?;
    let channel = endpoint.timeout(LIMIT).connect().await.map_err(failed)?;
    Ok(CniClient::new(channel))
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        match Failure::of(&status) {
            Some(said) => Self::Said(said),
            None => Self::Absent(format!("{}: {}", status.code(), status.message())),
        }
    }
}

impl Error {
    /// Of whoever cannot do without it.
    pub fn failure(self, code_of_absence: u32) -> Failure {
        match self {
            Self::Said(failure) => failure,
            Self::Absent(details) => {
                let again = match code_of_absence {
                    code::TRY_AGAIN => ": try again when vetch-node runs",
                    _ => "",
                };
                let words = format!("the node's daemon does not answer{again}");
                Failure::new(code_of_absence, words).with_details(details)
            }
        }
    }
}
