//! Kubernetes' streams into pods, as a node serves them: a process in a container, a container's first process, its
//! pod's ports. The kubelet API and the CRI socket's streams end here, once somebody has said that they may.
//!
//! [`exec`], [`attach`] and [`port_forward`] each answer a request with a change of protocol and go on beside it until
//! the client is gone, or until `shutdown`. What they speak is behind [`upgrade`]: WebSockets, or SPDY as older clients
//! do. Nothing here knows a pod's name, nor who asks.

mod attach;
mod exec;
mod port_forward;
mod remote_command;
mod upgrade;
mod web_socket;

pub use attach::attach;
pub use exec::exec;
pub use port_forward::{dial_words, port_forward};
pub use remote_command::Options;
pub use upgrade::Refused;
