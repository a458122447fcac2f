//! What the runtime is asked for and what it reports: CRI's shapes, as Rust types.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use vetch_shim::protocol::{IdMap, Identity, MAX_LOG_FILES, MAX_LOG_SIZE};

/// Identity of a pod sandbox: 64 hex digits, as CRI has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SandboxId(pub String);

/// Identity of a container: 64 hex digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContainerId(pub String);

impl std::fmt::Display for SandboxId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::fmt::Display for ContainerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Guaranteed, Burstable or BestEffort: where in the cgroup tree a pod lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QosClass {
    Guaranteed,
    Burstable,
    BestEffort,
}

/// cgroup v2 values; `None` leaves the kernel's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// cpu.weight, 1–10000.
    pub cpu_weight: Option<u64>,
    /// cpu.max quota and period in microseconds.
    pub cpu_max: Option<(i64, u64)>,
    /// memory.max in bytes.
    pub memory_max: Option<i64>,
    /// memory.min, memory.low and memory.high in bytes.
    #[serde(default)]
    pub memory_min: Option<i64>,
    #[serde(default)]
    pub memory_low: Option<i64>,
    #[serde(default)]
    pub memory_high: Option<i64>,
    /// memory.swap.max in bytes, where the kernel has swap.
    pub swap_max: Option<i64>,
    /// hugetlb.<size>.max by the size of a page, all in bytes; sizes it does not
    /// name get none.
    pub hugetlb_max: Option<BTreeMap<u64, i64>>,
    /// pids.max.
    pub pids_max: Option<i64>,
    pub oom_score_adj: Option<i32>,
    /// cpuset.cpus and cpuset.mems, as the kernel lists them: `0-3,7`.
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
    /// Other files of its cgroup, with what is written into them after all of the above.
    #[serde(default)]
    pub unified: BTreeMap<String, String>,
}

/// Who made a sandbox, and ends it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owner {
    /// The node's own pod workers.
    #[default]
    Node,
    /// A client of the CRI socket.
    Cri,
}

/// Which of the node's users and groups a pod's are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserNamespace {
    /// A range that no other sandbox has: the runtime chooses.
    Own,
    /// These: its client keeps them apart. What was chosen reads so too.
    Mapped(IdMap),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SandboxSpec {
    #[serde(default)]
    pub owner: Owner,
    pub pod_uid: String,
    pub name: String,
    pub namespace: String,
    /// Counts sandboxes made for the same pod.
    pub attempt: u32,
    pub hostname: String,
    pub host_network: bool,
    pub host_ipc: bool,
    pub host_pid: bool,
    /// One PID namespace for all containers of the pod.
    pub share_process_namespace: bool,
    /// Without one, root in the pod is root on the node.
    #[serde(default)]
    pub user_namespace: Option<UserNamespace>,
    pub qos: QosClass,
    /// Below the runtime's cgroup root, instead of the place by class and uid. Its client's: made if
    /// it is missing, and left.
    #[serde(default)]
    pub cgroup_parent: Option<PathBuf>,
    pub resources: Resources,
    pub sysctls: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// `/var/log/pods/<ns>_<name>_<uid>`
    pub log_directory: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    Private,
    HostToContainer,
    Bidirectional,
}

/// A mount into the container; everything Kubernetes mounts is one of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    #[serde(flatten)]
    pub source: MountSource,
    pub container_path: PathBuf,
    pub readonly: bool,
    /// With all that is mounted below.
    #[serde(default)]
    pub recursive_readonly: bool,
    pub propagation: Propagation,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A bind mount of what the node has there.
    #[serde(rename = "host_path")]
    Host(PathBuf),
    /// Read-only and private, whatever else the mount says.
    #[serde(rename = "image")]
    Image(ImageMount),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageMount {
    /// As `ContainerSpec::image_id`.
    pub id: String,
    /// A directory in the image that is mounted instead of all of it. One that is
    /// not there is found when the container starts.
    pub sub_path: Option<PathBuf>,
}

/// A device of the node's that a container may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Or a directory, for all in it. Symlinks are followed when the container is made.
    pub host_path: PathBuf,
    pub container_path: PathBuf,
    pub access: DeviceAccess,
}

/// What a container may do with a device: cgroups' `rwm`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceAccess {
    pub read: bool,
    pub write: bool,
    /// Every container may make nodes of every device; it opens only what it may read or write.
    pub make: bool,
}

impl SandboxSpec {
    /// Once it is chosen.
    pub fn id_map(&self) -> Option<IdMap> {
        match self.user_namespace {
            Some(UserNamespace::Mapped(map)) => Some(map),
            Some(UserNamespace::Own) | None => None,
        }
    }
}

impl Mount {
    pub fn host_path(&self) -> Option<&Path> {
        match &self.source {
            MountSource::Host(path) => Some(path),
            MountSource::Image(_) => None,
        }
    }

    pub fn image(&self) -> Option<&ImageMount> {
        match &self.source {
            MountSource::Host(_) => None,
            MountSource::Image(image) => Some(image),
        }
    }
}

/// Which system calls a container may make; CRI's SecurityProfile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// All. Privileged containers are never confined.
    #[default]
    Unconfined,
    /// Those of `seccomp/default.rs`.
    RuntimeDefault,
    /// A file with a profile in OCI's or Docker's JSON.
    Localhost(PathBuf),
}

/// What the kernel's AppArmor confines a container by; CRI's SecurityProfile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppArmor {
    /// Nobody said: the runtime's own profile where it can be had.
    #[default]
    Unsaid,
    Unconfined,
    /// That of `apparmor/default.rs`. Privileged containers never have it.
    RuntimeDefault,
    /// A loaded profile's name.
    Localhost(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    pub name: String,
    /// Restart count; part of the log file's name.
    pub attempt: u32,
    /// Image id as `ImageStore::pull`/`status` returned it.
    pub image_id: String,
    /// The reference the pod named, for reports.
    pub image: String,
    /// Replaces the image's ENTRYPOINT when not empty.
    pub command: Vec<String>,
    /// Replaces the image's CMD when not empty.
    pub args: Vec<String>,
    pub working_dir: Option<String>,
    /// In order; added after the image's own environment, same name replaces.
    pub env: Vec<(String, String)>,
    pub mounts: Vec<Mount>,
    /// Beside those of every container.
    #[serde(default)]
    pub devices: Vec<Device>,
    pub run_as_user: Option<u32>,
    /// By the container's /etc/passwd, instead of the image's; a number is the first choice.
    #[serde(default)]
    pub run_as_user_name: Option<String>,
    pub run_as_group: Option<u32>,
    pub supplemental_groups: Vec<u32>,
    /// Leave out what the container's /etc/group says (supplementalGroupsPolicy: Strict).
    #[serde(default)]
    pub only_given_groups: bool,
    /// Names without CAP_ prefix, as Kubernetes writes them; `ALL` is known.
    pub capabilities_add: Vec<String>,
    pub capabilities_drop: Vec<String>,
    /// Beside those that are added: also a user that is not root keeps them when it runs a program.
    #[serde(default)]
    pub capabilities_ambient: Vec<String>,
    pub privileged: bool,
    pub no_new_privs: bool,
    pub readonly_rootfs: bool,
    /// Instead of the usual ones below /proc and /sys.
    #[serde(default)]
    pub masked_paths: Option<Vec<String>>,
    #[serde(default)]
    pub readonly_paths: Option<Vec<String>>,
    #[serde(default)]
    pub seccomp: Seccomp,
    #[serde(default)]
    pub apparmor: AppArmor,
    pub tty: bool,
    pub stdin: bool,
    /// The input ends with that of the first client attached to it.
    #[serde(default)]
    pub stdin_once: bool,
    /// A running container of the same sandbox whose PID namespace it joins.
    #[serde(default)]
    pub pid_target: Option<ContainerId>,
    pub resources: Resources,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Relative to the sandbox's log_directory, e.g. `app/0.log`.
    pub log_path: PathBuf,
    /// Signal that stops it: the image's StopSignal or SIGTERM when None.
    pub stop_signal: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SandboxState {
    Ready,
    /// Its supervisor or namespaces are gone.
    NotReady,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    Created,
    Running,
    Exited,
    /// The supervisor died before it could tell an exit code.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerStatus {
    pub id: ContainerId,
    pub name: String,
    pub attempt: u32,
    pub state: ContainerState,
    pub image: String,
    pub image_id: String,
    pub pid: Option<u32>,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// 128 + signal when killed by one.
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    /// "Completed", "Error", "OOMKilled", "ContainerCannotRun"...
    pub reason: Option<String>,
    pub message: Option<String>,
    pub log_path: PathBuf,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Once it has been started: what the container's own files made of its user.
    pub user: Option<Identity>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SandboxStatus {
    pub id: SandboxId,
    pub spec: SandboxSpec,
    pub state: SandboxState,
    pub created_at: Timestamp,
    /// None for host-network sandboxes.
    pub netns: Option<PathBuf>,
    /// Pid of the pod's vetch-shim.
    pub shim_pid: Option<u32>,
    pub containers: Vec<ContainerStatus>,
}

/// Something changed in a sandbox; read `Runtime::list` for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeEvent {
    pub pod_uid: String,
    pub sandbox: SandboxId,
}

#[derive(Clone, Debug, Default)]
pub struct ExecOutput {
    pub exit_code: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub timed_out: bool,
}

#[derive(Clone, Debug, Default)]
pub struct RegistryAuth {
    pub username: String,
    pub password: String,
}

/// What an image's configuration says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageStatus {
    /// `sha256:<config digest>`
    pub id: String,
    pub repo_tags: Vec<String>,
    pub repo_digests: Vec<String>,
    pub size_bytes: u64,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub env: Vec<(String, String)>,
    pub working_dir: String,
    /// As the image says it: uid, name, uid:gid, or empty.
    pub user: String,
    pub stop_signal: Option<String>,
}

#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// Images, layers, writable layers. Must not itself be an overlayfs.
    pub root_dir: PathBuf,
    /// Namespace mounts, shim sockets and state; a tmpfs directory.
    pub run_dir: PathBuf,
    /// The unified mount, e.g. /sys/fs/cgroup.
    pub cgroup_root: PathBuf,
    pub shim: PathBuf,
    /// Registry traffic goes through this network namespace.
    pub pull_netns: Option<PathBuf>,
    pub insecure_registries: Vec<String>,
    /// Of `REGISTRY/hosts.toml`: mirrors and certificates.
    pub registry_hosts_dir: Option<PathBuf>,
}

#[cfg(test)]
pub(crate) mod tests_support {
    use super::*;

    pub fn sandbox_spec() -> SandboxSpec {
        SandboxSpec {
            owner: Owner::Node,
            pod_uid: "u".into(),
            name: "web".into(),
            namespace: "shop".into(),
            attempt: 0,
            hostname: "web".into(),
            host_network: false,
            host_ipc: false,
            host_pid: false,
            share_process_namespace: false,
            user_namespace: None,
            qos: QosClass::BestEffort,
            cgroup_parent: None,
            resources: Resources::default(),
            sysctls: BTreeMap::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            log_directory: "/logs".into(),
        }
    }

    pub fn container_spec() -> ContainerSpec {
        ContainerSpec {
            name: "app".into(),
            attempt: 0,
            image_id: "sha256:0".into(),
            image: "app".into(),
            command: vec![],
            args: vec![],
            working_dir: None,
            env: vec![],
            mounts: vec![],
            devices: vec![],
            run_as_user: None,
            run_as_user_name: None,
            run_as_group: None,
            supplemental_groups: vec![],
            only_given_groups: false,
            capabilities_add: vec![],
            capabilities_drop: vec![],
            capabilities_ambient: vec![],
            privileged: false,
            no_new_privs: false,
            readonly_rootfs: false,
            masked_paths: None,
            readonly_paths: None,
            seccomp: Seccomp::Unconfined,
            apparmor: AppArmor::Unsaid,
            tty: false,
            stdin: false,
            stdin_once: false,
            pid_target: None,
            resources: Resources::default(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            log_path: "app/0.log".into(),
            stop_signal: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_that_earlier_daemons_wrote() {
        let text = r#"{"host_path": "/h", "container_path": "/c", "readonly": false, "propagation": "Private"}"#;
        let mount: Mount = serde_json::from_str(text).unwrap();
        assert_eq!(mount.host_path(), Some("/h".as_ref()));
        let image = ImageMount {
            id: "sha256:1".into(),
            sub_path: Some("etc".into()),
        };
        let mount = Mount {
            source: MountSource::Image(image.clone()),
            ..mount
        };
        let text = serde_json::to_string(&mount).unwrap();
        let read: Mount = serde_json::from_str(&text).unwrap();
        assert_eq!(read.image(), Some(&image));
    }
}
