//! What the node daemon and its supervisors say to each other.
//!
//! The supervisor itself, one small process a pod, is the binary of this
//! crate: see `main.rs`.

pub mod protocol;
pub mod wire;
