//! What can go wrong between the API server and etcd.

use std::sync::Arc;

use thiserror::Error;

#[derive(Debug, Error)]
pub enum Error {
    /// etcd did not answer; the request may or may not have been carried out.
    #[error("etcd is not reachable")]
    Unavailable(#[source] Arc<etcd_client::Error>),
    /// A create met an object of this key.
    #[error("key {key} already exists")]
    Exists { key: String },
    /// The object changed, or is gone, since it was read.
    #[error("key {key} was changed by another writer")]
    Conflict { key: String },
    #[error("key {key} does not exist")]
    NotFound { key: String },
    /// The event window does not reach back this far; the client lists anew (HTTP 410).
    #[error("too old resource version: {requested} ({oldest})")]
    Expired { requested: i64, oldest: i64 },
    /// Nobody has seen this revision yet.
    #[error("Too large resource version: {requested}, current: {current}")]
    Future { requested: i64, current: i64 },
    #[error("the value of {key} is no JSON object")]
    Malformed {
        key: String,
        #[source]
        source: serde_json::Error,
    },
}

impl Error {
    /// What is at the bottom of it, for people: `Connection refused`.
    pub(crate) fn bottom(&self) -> String {
        let Error::Unavailable(cause) = self else {
            return self.to_string();
        };
        let etcd_client::Error::GRpcStatus(status) = &**cause else {
            return cause.to_string();
        };
        let mut bottom: Option<&dyn std::error::Error> = std::error::Error::source(status);
        while let Some(below) = bottom.and_then(std::error::Error::source) {
            bottom = Some(below);
        }
        bottom.map_or_else(|| status.message().to_owned(), ToString::to_string)
    }
}

impl From<etcd_client::Error> for Error {
    fn from(error: etcd_client::Error) -> Error {
        Error::Unavailable(Arc::new(error))
    }
}
