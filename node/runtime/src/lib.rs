//! Sandboxes, containers and images from kernel parts, in CRI's shapes.
//!
//! A sandbox is a directory in the run directory, a cgroup, and a supervisor
//! (`vetch-shim`) around which the pod's namespaces are made; a container is
//! a child of that supervisor. The daemon that holds a [`Runtime`] may die at
//! any moment: the next [`Runtime::open`] finds it all again.

mod bundle;
mod capability;
mod cgroup;
pub mod error;
pub mod images;
mod record;
mod runtime;
mod shim;
mod signal;
mod status;
pub mod types;

pub use error::Error;
pub use images::{ImageError, ImageStore};
pub use runtime::{ExecProcess, Runtime};
pub use types::*;
