//! How a machine becomes a node of a cluster it knows nothing of but a token and a hash, and stays one.
//!
//! [`join`]: cluster-info is fetched from a server that nobody vouches for ([`discovery`]), believed for the token's
//! signature and the pinned authority, and then a certificate is asked for ([`request`]) and kept ([`files`]).
//! [`rotate`]: the certificate's next one, before it ends. Names and steps are those of kubeadm and the kubelet, so
//! that any Kubernetes API server with bootstrap tokens can be joined.

mod access;
mod certificate;
mod discovery;
mod error;
mod files;
mod join;
mod jws;
mod request;
mod rotate;
mod token;

pub use certificate::{CaHash, Certificate};
pub use error::JoinError;
pub use files::{FileError, Places, merged_env};
pub use join::{JoinOptions, Joined, join};
pub use rotate::{Managed, due, renew, rotate};
pub use token::Token;
