//! The API server's state: etcd, and a cache of it that serves every list and watch.
//!
//! etcd is listed once and watched once, however many clients there are ([`feed`]). Each resource
//! has a [`Cache`] with its objects and a window of the last events. Objects are serialised once.
//! All caches share one revision, so a bookmark is true for every kind.

mod cache;
mod compact;
mod error;
mod feed;
mod lease;
mod object;
mod revision;
mod store;
#[cfg(feature = "testing")]
pub mod testing;

pub use cache::{Cache, Listing, Watch};
pub use error::Error;
pub use object::{Event, EventKind, Object, watch_line};
pub use store::{Precondition, Store, Write};
