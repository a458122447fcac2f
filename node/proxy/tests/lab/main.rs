//! The service proxy with real sockets, in network namespaces and cgroups of
//! the tests' own. Needs root, and the eBPF programs: `cargo xtask build-ebpf`.

mod announce;
mod cell;
<<<<<<< HEAD
mod links;
=======
mod inspect;
>>>>>>> 651448e (node: service ls|show, ct ls and maps, from the kernel's maps)
mod measure;
mod model;
mod policies;
mod restart;
mod servers;
mod services;
mod site;
mod wire;
