//! Why a machine did not become a node, and what to do.

use std::time::Duration;

use jiff::Timestamp;

use crate::certificate::CaHash;
use crate::files::FileError;

#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("{server:?} is no server: give HOST:PORT, such as 192.0.2.1:6443")]
    Server { server: String },
    #[error(
        "the API server at {server} cannot be reached: is vetch-control running there, and the port open?"
    )]
    Unreachable {
        server: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error(
        "{server} answers, and shows nobody cluster-info in kube-public: is it the API server of a cluster with bootstrap tokens?"
    )]
    NoClusterInfo {
        server: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error(
        "the cluster at {server} does not know the token {id}.…: it expired or was deleted; `vetch-control token create` makes another"
    )]
    UnknownToken { server: String, id: String },
    #[error(
        "cluster-info at {server} is not signed by the token {id}.…: the part behind the dot is another, or somebody else answers there"
    )]
    Signature { server: String, id: String },
    #[error("cluster-info at {server} cannot be read: {why}")]
    ClusterInfo { server: String, why: String },
    #[error(
        "the cluster at {server} has another certificate authority than --ca-hash says: it is {found:?}; take the whole command that `vetch-control token create` prints"
    )]
    WrongHash { server: String, found: Vec<CaHash> },
    #[error("the API server refuses the token {id}.…: it expired, or is not for authentication")]
    TokenRefused { id: String },
    #[error(
        "there is a node {name} already, and it is alive: give this machine another name with --node-name, or remove the other one (kubectl delete node {name})"
    )]
    NameTaken { name: String },
    #[error("cannot {step}")]
    Api {
        step: &'static str,
        #[source]
        source: Box<kube::Error>,
    },
    #[error(
        "the request {name} was not approved within {seconds} s: `kubectl certificate approve {name}` does it, then join again"
    )]
    NotApproved { name: String, seconds: u64 },
    #[error(
        "the request {name} was approved, and not signed within {seconds} s: does the cluster have a signer for kubernetes.io/kube-apiserver-client-kubelet?"
    )]
    NotSigned { name: String, seconds: u64 },
    #[error("the request {name} was {state}: {message}")]
    Refused {
        name: String,
        state: &'static str,
        message: String,
    },
    #[error("the certificate that came is not the one asked for: {why}")]
    Foreign { why: &'static str },
    #[error("the clock of this machine is off: the certificate is good from {begins} to {ends}")]
    Clock { begins: Timestamp, ends: Timestamp },
    #[error("cannot make a key")]
    Key(#[from] rcgen::Error),
    #[error("the client of the API server cannot be made")]
    Client(#[source] Box<kube::Error>),
    #[error("the kubeconfig made of cluster-info is not usable")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    #[error(transparent)]
    File(#[from] FileError),
}

impl JoinError {
    pub(crate) fn during(step: &'static str) -> impl FnOnce(kube::Error) -> JoinError {
        move |source| JoinError::Api {
            step,
            source: Box::new(source),
        }
    }

    /// How long another try may find it otherwise, of the time there is.
    pub(crate) fn may_pass_within(&self, patience: Duration) -> Duration {
        match self {
            JoinError::Unreachable { .. } | JoinError::NoClusterInfo { .. } => patience,
            // One made just now is signed in a moment; most others have expired.
            JoinError::UnknownToken { .. } => patience.min(Duration::from_secs(5)),
            _ => Duration::ZERO,
        }
    }
}

/// The API server's own answer of this code.
pub(crate) fn is_code(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}
