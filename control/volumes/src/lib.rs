//! What the volume controllers and the scheduler both decide about claims and volumes: which volume does for a claim,
//! which nodes reach it, and what a binding says. Pure.

mod affinity;
pub mod annotations;
mod binding;
pub mod claim;
pub mod class;
mod matching;
pub mod volume;

pub use affinity::{in_topologies, reaches};
pub use binding::bound_to;
pub use matching::{Mismatch, Wanted, find, mismatch};
