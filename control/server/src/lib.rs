//! The Kubernetes REST API over the registry's rows: it knows no kind by name.
//!
//! A request is taken apart ([`request`]), its user is known and allowed ([`guard`]), then one of
//! the handlers reads ([`read`], [`watch`]) or writes ([`write`], [`delete`]). What a kind needs
//! beyond its row is an [`admission`] plugin or a [`connect`] handler.

pub mod admission;
mod body;
pub mod connect;
mod delete;
mod discovery;
mod dispatch;
pub mod guard;
mod health;
mod impersonate;
mod in_process;
mod openapi;
mod output;
mod patch;
mod read;
pub mod request;
mod scale;
mod selector;
mod serve;
mod state;
pub mod status;
#[cfg(feature = "testing")]
pub mod testing;
pub mod upgrade;
mod warnings;
mod watch;
mod write;

pub use dispatch::router;
pub use in_process::client;
pub use serve::{Listener, serve};
pub use state::{Server, ServerConfig};
