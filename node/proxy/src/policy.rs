//! NetworkPolicies and those of administrators: watched, compiled by [`vetch_policy`],
//! written to their maps.

mod admin;
mod index;
mod rulebook;
mod words;

pub use admin::{AdminKind, Told, watch};
pub use index::Index;
pub use rulebook::Rulebook;
pub use words::{Words, read as words};
