//! Sandboxes, containers and images from kernel parts, in CRI's shapes.
//!
//! # Shape
//!
//! ```text
//! vetch-node ── Runtime ──(shim.sock)── vetch-shim, one a sandbox
//!     │            │                        │ clone3, in the container's cgroup
//!     │            ├ <run-dir>/sandboxes    ├── first process of a container
//!     │            ├ <root-dir>/containers  ├── first process of another
//!     │            └ cgroups                └── a process of an exec
//!     └── ImageStore ── <root-dir>/images
//! ```
//!
//! A sandbox is a directory, a cgroup and a supervisor, around which the pod's
//! network, IPC and UTS namespaces are made; bind mounts hold them, so there is
//! no pause process. A container is a child of the supervisor with mount, PID
//! and cgroup namespaces of its own: its root file system is an overlay mounted
//! in its own mount namespace, and goes with it. The supervisor lives in the
//! daemon's mount namespace and knows neither images nor Kubernetes; it gets
//! whole bundles (`bundle.rs`), writes logs in the CRI format and rotates them,
//! keeps exit codes, and answers requests (`vetch_shim::protocol`).
//!
//! # Files
//!
//! ```text
//! <run-dir>/sandboxes/<id>/      a tmpfs: it goes with the machine's boot
//!   sandbox.json                 what was asked for; written first, and anew
//!                                with other resources
//!   shim.json, shim.sock, …      see vetch_shim::protocol
//!   ns/{net,ipc,uts}             the namespaces; SandboxStatus::netns is here
//!   containers/<id>/
//!     bundle.json, rootfs/       for the supervisor
//!     container.json             written last, removed first: without it the
//!                                rest is rubbish; anew as sandbox.json
//! <root-dir>/containers/<id>/    {upper,work}: what a container writes
//! <root-dir>/images/             see images.rs
//! <cgroup-root>/kubepods[/burstable|/besteffort]/pod<uid>/
//!   shim-<sandbox>, <container>
//! ```
//!
//! # What survives what
//!
//! | gone | stays |
//! |---|---|
//! | the daemon, at any moment | all but what it runs for clients (exec) and their being attached; [`Runtime::open`] follows living supervisors, ends what was half made, and learns of exits meanwhile |
//! | a supervisor | its containers die with it and are [`ContainerState::Unknown`], those that had ended keep their exit codes; the sandbox is [`SandboxState::NotReady`] until removed |
//! | the machine | images; a layer that may not have reached the disk is thrown away |
//!
//! With a user namespace (`users.rs`) all of a pod's namespaces belong to that, and
//! its users are a range of the node's that no other pod has.
//!
//! What a container may do with devices its cgroup decides (`devices.rs`); where
//! the kernel takes no program for that, no mount of a container has device nodes
//! that open, but for the six of its /dev.
//!
//! What it may do to files, processes and mounts an AppArmor profile decides as well, where
//! the kernel has AppArmor (`apparmor.rs`).
//!
//! Which system calls it may make a filter decides (`seccomp.rs`), which goes with
//! the bundle and is on every process of the container, those of an exec too.
//!
//! Every operation may be repeated. Removal leaves nothing but the pod's logs.

mod apparmor;
mod bundle;
mod capability;
mod cgroup;
mod devices;
pub mod error;
pub mod images;
pub mod metrics;
mod record;
mod runtime;
mod seccomp;
mod shim;
mod signal;
mod stats;
mod status;
pub mod types;
mod users;

pub use apparmor::AppArmorError;
pub use devices::DeviceError;
pub use error::{Chain, Error};
pub use images::{ImageError, ImageStore};
pub use runtime::{Attachment, ExecProcess, NO_LIMIT, Runtime, deadline};
pub use seccomp::{ProfileError, SeccompError};
pub use stats::{
    ContainerUsage, Counters, CpuUsage, DiskUsage, IoUsage, LinkUsage, MemoryUsage, Pressure,
    ProcessUsage, Rates, SandboxUsage, Stall, Throttling, Usage, disk_usage, link_usage,
};
pub use types::*;
pub use vetch_shim::resolve;
