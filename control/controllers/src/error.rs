//! Why a reconciliation did not reach its end. Every error is retried with back-off.

use kube::core::Status;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{action}")]
    Api {
        action: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("selector of {object}")]
    Selector {
        object: String,
        #[source]
        source: kube::core::ParseExpressionError,
    },
    #[error("{0}")]
    Incomplete(String),
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The API server's own words, if it was the one to refuse.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Error::Api { source, .. } => api_status(source),
            _ => None,
        }
    }

    pub fn is_conflict(&self) -> bool {
        self.status()
            .is_some_and(|status| status.reason == "Conflict")
    }

    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(|status| status.code == 404)
    }

    /// Creating in a namespace that is being deleted is refused for good.
    pub fn is_namespace_terminating(&self) -> bool {
        self.status().is_some_and(|status| {
            status.details.as_ref().is_some_and(|details| {
                details
                    .causes
                    .iter()
                    .any(|cause| cause.reason == "NamespaceTerminating")
            })
        })
    }

    /// What to show people: the server's message, or the whole chain.
    pub fn words(&self) -> String {
        match self.status() {
            Some(status) => status.message.clone(),
            None => chain(self),
        }
    }
}

/// Says what was tried when a request fails.
pub trait Attempt<T> {
    fn during(self, action: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Attempt<T> for Result<T, kube::Error> {
    fn during(self, action: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Api {
            action: action(),
            source: Box::new(source),
        })
    }
}

/// Turns "it is not there" into None.
pub fn found<T>(result: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if api_status(&error).is_some_and(|status| status.code == 404) => Ok(None),
        Err(error) => Err(error),
    }
}

pub fn is_already_exists(error: &kube::Error) -> bool {
    api_status(error).is_some_and(|status| status.reason == "AlreadyExists")
}

fn api_status(error: &kube::Error) -> Option<&Status> {
    match error {
        kube::Error::Api(status) => Some(status),
        _ => None,
    }
}

/// An error with its causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
