//! From what went wrong to gRPC's codes, which clients act by.

use tonic::Status;
use vetch_runtime::{Chain, Error, ImageError};

/// With all causes.
pub fn status(error: Error) -> Status {
    let words = Chain(&error).to_string();
    match error {
        Error::SandboxNotFound(_) | Error::ContainerNotFound(_) | Error::ImageNotFound(_) => {
            Status::not_found(words)
        }
        Error::NoCommand | Error::UnknownCapability(_) | Error::UnknownSignal(_) => {
            Status::invalid_argument(words)
        }
        Error::WrongState { .. } | Error::SandboxNotReady(_) => Status::failed_precondition(words),
        Error::ShimGone(_) => Status::unavailable(words),
        Error::Image(error) => image(error),
        _ => Status::unknown(words),
    }
}

pub fn image(error: ImageError) -> Status {
    let words = Chain(&error).to_string();
    match error {
        ImageError::InvalidReference { .. } => Status::invalid_argument(words),
        ImageError::NotFound(_) => Status::not_found(words),
        _ => Status::unknown(words),
    }
}

pub fn image_not_found(name: &str) -> Status {
    Status::not_found(format!("image {name:?} not found"))
}

pub fn network(error: vetch_network::Error) -> Status {
    Status::unknown(format!("pod network: {}", Chain(&error)))
}

/// For a field that has a meaning we do not fulfil.
pub fn unsupported(what: &str) -> Status {
    Status::unimplemented(format!("{what} not supported by this runtime"))
}
