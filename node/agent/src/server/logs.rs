//! Container logs: found, read, rendered, followed.

mod entry;
mod files;
pub mod locate;
pub mod notify;
pub mod options;
mod render;
pub mod select;
pub mod stream;
mod tail;
