//! The service proxy with real sockets, in network namespaces and cgroups of
//! the tests' own. Needs root, and the eBPF programs: `cargo xtask build-ebpf`.

mod announce;
mod cell;
mod inspect;
mod links;
mod measure;
mod model;
mod policies;
mod restart;
mod scale;
mod servers;
mod services;
mod site;
mod wire;
