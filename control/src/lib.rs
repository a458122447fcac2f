//! What makes an API server of `vetch-server` Kubernetes': who may do what, what a write must pass, and the
//! subresources that are answered instead of stored. `main.rs` puts it together.

pub mod access;
pub mod admission;
pub mod bootstrap;
pub mod connect;
