//! Sandboxes, containers and images from kernel parts, in CRI's shapes.

pub mod error;
pub mod images;
mod runtime;
pub mod types;

pub use error::Error;
pub use images::{ImageError, ImageStore};
pub use runtime::Runtime;
pub use types::*;
