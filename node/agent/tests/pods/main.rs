//! A whole node's pods against a real API server (in process, over a real
//! etcd), with the real runtime and network: needs root, etcd and Debian's
//! busybox-static. Each test has network, mounts and cgroups of its own, and
//! checks that nothing is left in them.

mod adopt;
mod agent;
mod cluster;
mod config;
mod ends;
mod ephemeral;
mod evictions;
mod failures;
mod fields;
mod image;
mod lab;
mod lives;
mod measure;
mod probes;
mod pulls;
mod resizes;
mod restarts;
mod security;
#[path = "../../../runtime/tests/lab/shim.rs"]
mod shim;
mod static_pods;
