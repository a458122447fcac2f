//! The pod network on nodes made of namespaces: needs root, leaves nothing.

mod families;
mod namespace;
mod pods;
mod router;
mod sockets;
mod tunnel;
