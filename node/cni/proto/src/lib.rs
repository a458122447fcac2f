//! What the CNI plugin and the node's daemon say to each other: `cni.proto`, as Rust, and the
//! numbers of CNI's errors.

use std::fmt;

use prost::Message as _;
use tonic::{Code, Status};

pub mod v1 {
    #![allow(
        clippy::all,
        clippy::allow_attributes_without_reason,
        reason = "generated"
    )]
    tonic::include_proto!("vetch.cni.v1");
}

pub use v1::Failure;

/// The socket below a node's run directory.
pub const SOCKET: &str = "cni.sock";
/// The address records below it.
pub const RECORDS: &str = "network";

/// The well-known codes of CNI's specification 1.1.0, and ours, from 100 on.
pub mod code {
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    /// The message names the field and its value.
    pub const UNSUPPORTED_FIELD: u32 = 2;
    /// The runtime need not clean up.
    pub const UNKNOWN_CONTAINER: u32 = 3;
    /// The message names the variables.
    pub const INVALID_ENVIRONMENT: u32 = 4;
    pub const IO: u32 = 5;
    pub const DECODE: u32 = 6;
    pub const INVALID_CONFIG: u32 = 7;
    /// Of libcni, beside the specification.
    pub const INVALID_NETNS: u32 = 8;
    pub const TRY_AGAIN: u32 = 11;
    /// Of STATUS: no ADD can succeed.
    pub const NOT_AVAILABLE: u32 = 50;
    /// Of STATUS: and containers that are there may be cut off.
    pub const LIMITED: u32 = 51;
    /// The node's addresses.
    pub const ADDRESSES: u32 = 100;
    /// Links and routes.
    pub const LINKS: u32 = 101;
    /// What CHECK finds.
    pub const FAULT: u32 = 102;
}

impl Failure {
    pub fn new(code: u32, msg: impl Into<String>) -> Self {
        Self {
            code,
            msg: msg.into(),
            details: String::new(),
        }
    }

    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// What a daemon answered, if it was one that knew what it said.
    pub fn of(status: &Status) -> Option<Self> {
        let told = Self::decode(status.details()).ok()?;
        (told.code != 0).then_some(told)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (CNI error {})", self.msg, self.code)?;
        match self.details.as_str() {
            "" => Ok(()),
            details => write!(f, ": {details}"),
        }
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let details = failure.encode_to_vec();
        Self::with_details(
            Code::FailedPrecondition,
            failure.to_string(),
            details.into(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_arrives_as_it_was_sent() {
        let sent = Failure::new(code::INVALID_NETNS, "no namespace").with_details("ENOENT");
        let status = Status::from(sent.clone());
        assert_eq!(
            status.message(),
            "no namespace (CNI error 8): ENOENT",
            "for whoever reads gRPC"
        );
        assert_eq!(Failure::of(&status), Some(sent));
        assert_eq!(Failure::of(&Status::unavailable("nobody")), None);
    }
}
