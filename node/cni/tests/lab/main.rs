//! The plugin as a runtime runs it: environment, stdin, exit code, stdout. Some need root and make
//! namespaces; nothing is left.

mod daemon;
#[path = "../../../network/tests/lab/namespace.rs"]
#[allow(dead_code, reason = "the network's own tests use the rest")]
mod namespace;
mod plugin;
mod pods;
mod stress;
mod tables;
