//! The controllers over a real API server and etcd in this process, with nodes that are made up.

mod accounts;
mod addresses;
mod balancers;
mod endpoints;
mod garbage;
mod harness;
mod latency;
mod namespaces;
mod nodes;
mod ranges;
mod rollouts;
mod volumes;
