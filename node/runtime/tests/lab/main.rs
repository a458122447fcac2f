//! Real sandboxes and containers: needs root and Debian's busybox-static (and
//! docker-registry for the pulls). Each test has a mount namespace, a tmpfs and
//! a cgroup subtree of its own, and checks that nothing is left in them.

mod access;
mod adopt;
mod attach;
mod capabilities;
mod containers;
mod daemon;
mod devices;
mod exec;
mod full;
mod guard;
mod hurry;
mod image;
mod images;
mod import;
mod liar;
mod lies;
mod measure;
mod mirrors;
mod node;
mod programs;
mod pull;
mod registry;
mod sandboxes;
mod seccomp;
mod shim;
mod specs;
mod targets;
mod updates;
mod users;
