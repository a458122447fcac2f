//! What the node is and was told, for what its API tells of it.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::node::image_gc::Thresholds;
use crate::node::machine::Machine;
use crate::node::pressure::Eviction;
use crate::pods::{MemoryQos, Periods};

#[derive(Clone, Debug)]
pub struct Settings {
    pub node_name: String,
    /// On the disk that pods write to; `pods` below it has a directory for each.
    pub root_dir: PathBuf,
    pub pod_log_dir: PathBuf,
    /// Above all pods; its limits are the node's.
    pub cgroup_root: PathBuf,
    pub machine: Machine,
    pub max_pods: u32,
    pub pod_max_pids: Option<i64>,
    pub memory_qos: Option<MemoryQos>,
    pub image_gc: Thresholds,
    pub eviction: Eviction,
    pub shutdown: Periods,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
}
