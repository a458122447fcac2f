//! What the node daemon and its supervisors say to each other, and what supervisors write.
//!
//! The supervisor itself, one small process a pod, is the binary of this
//! crate: see `main.rs`.

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod lines;
pub mod protocol;
pub mod resolve;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod time;
pub mod wire;
