//! The service proxy with real sockets, in network namespaces and cgroups of
//! the tests' own. Needs root, and the eBPF programs: `cargo xtask build-ebpf`.

mod announce;
mod api;
mod bandwidth;
mod cell;
mod connections;
mod daemon;
mod direct;
mod driver;
mod echo;
mod host_ports;
mod inspect;
mod least;
mod links;
mod loss;
mod masquerade;
mod measure;
mod model;
mod network_policies;
mod policies;
mod restart;
mod scale;
mod seeing;
mod servers;
mod services;
mod site;
mod stress;
mod wire;
