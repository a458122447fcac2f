//! The kubelet's part of a node: its Node object, its pods, its API.
//!
//! [`node`] keeps the Node and the pod network's outside true, [`pods`] makes
//! pods what their specs say, [`server`] answers on the kubelet's port. They
//! share the runtime and the network and see of each other only whether the
//! pod network is ready.

mod logind;
pub mod node;
pub mod pods;
mod run;
pub mod server;
#[cfg(test)]
mod testing;
pub mod version;

pub use run::{AgentConfig, Error, run};
