//! Clusters of virtual machines: whole nodes on a distribution's own kernel, without a privilege on
//! the host beyond running QEMU.
//!
//! A machine boots Debian with systemd from a disk of its own; Vetch is installed in it by its
//! packages. Its first card leads to this host alone (QEMU's user network: SSH and the API server by
//! ports on loopback), its second to the other machines (datagrams on loopback).

pub mod accelerator;
pub mod cluster;
pub mod console;
pub mod description;
pub mod disk;
pub mod doors;
pub mod image;
pub mod initramfs;
pub mod kernel;
pub mod modules;
pub mod qemu;
pub mod seed;
pub mod ssh;

pub use cluster::{Machines, Plan};
pub use kernel::{Choice, Kernel};
