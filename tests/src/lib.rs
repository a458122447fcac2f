//! What every scenario starts from: the running cluster, the real `kubectl`, a namespace of its own.
//!
//! `cargo xtask test` brings the cluster up and names its `cluster.json` in `VETCH_CLUSTER`.
//! Scenarios run side by side under a shared lock on the cluster; one that stops daemons takes the
//! lock alone ([`Cluster::exclusive`]), so that it never disturbs another's measurements.

pub mod cluster;
pub mod kubectl;
pub mod load;
pub mod network;
pub mod node;
pub mod registry;
pub mod streams;
pub mod wait;

pub use cluster::{Cluster, Node, Own};
pub use kubectl::{Namespace, Output};
pub use streams::{Way, pod_of_two};
pub use wait::eventually;
