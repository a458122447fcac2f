//! Container logs: found, read, rendered, followed.

mod entry;
mod files;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod locate;
pub mod notify;
pub mod options;
mod render;
pub mod select;
pub mod stream;
mod tail;
