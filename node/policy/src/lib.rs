//! NetworkPolicies (`networking.k8s.io/v1`), AdminNetworkPolicies and the
//! BaselineAdminNetworkPolicy (`policy.networking.k8s.io/v1alpha1`) of a cluster →
//! what one node's maps are to hold. No IO.
//!
//! ```text
//! objects  ─ read ─►  World  ─ compile ─►  Wanted  ─ number ─►  Contents  =  the maps
//! ```
//! [`Wanted`] knows neither numbers nor what was before. Pods with the same rules
//! have one set; pods of the cluster that the same selectors of this node's policies
//! match are one class, and those that none matches are in no map. [`number`]
//! gives sets, classes and blocks the numbers that the kernel knows them by
//! already, so that a daemon that starts over finds nothing to write.

mod admin;
mod classes;
mod compile;
mod contents;
mod exact;
mod known;
mod model;
mod number;
mod ports;
mod read;
mod selector;
mod tiers;
mod traffic;
mod why;
mod world;

#[cfg(test)]
mod tests;

pub use compile::{Class, Grant, Held, Ports, Set, Wanted, Who, compile};
pub use contents::{Contents, Steps, steps};
pub use model::{
    Action, AdminPolicy, AdminRule, Namespaces, Node, PeerSpec, Pod, PodPort, PodRef, Policy, Port,
    PortSpec, RuleSpec,
};
pub use number::number;
pub use read::container_ports;
pub use selector::{Labels, Selector};
pub use tiers::Tier;
pub use why::{Explained, ExplainedPart, ExplainedPeer, ExplainedSet, Why, explain};
pub use world::World;
