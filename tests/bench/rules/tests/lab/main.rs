//! The rules in real network namespaces: a client, a node that forwards and a
//! host of backends. Needs root, iptables and nftables; leaves nothing.

mod kube_proxy;
mod removal;
mod rig;
mod scale;
mod traffic;
