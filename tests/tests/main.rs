//! The scenarios that share the suite's cluster side by side: one program of all these files, for each would link the
//! same clients once more. Those that .config/nextest.toml or `e2e` treats apart are programs of their own.

mod attach;
mod balancers;
mod debug;
mod exec;
mod kubectl;
mod pods;
mod port_forward;
mod resize;
mod service;
mod stats;
