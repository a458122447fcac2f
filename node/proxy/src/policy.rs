//! NetworkPolicies: watched, compiled by [`vetch_policy`], written to their maps.

mod index;
mod rulebook;

pub use index::Index;
pub use rulebook::Rulebook;
