//! Requests and limits as the kernel's numbers.

mod cgroup;
mod memory;
mod oom;
mod qos;

pub use cgroup::{PERIOD, classes, container, inherits, pod, pod_limits, pod_requests};
pub use memory::MemoryQos;
pub use oom::{HostMemory, score_adj};
pub use qos::{class, class_name};
