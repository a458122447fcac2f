//! Requests, replies and the files of a sandbox directory.
//!
//! ```text
//! <run-dir>/sandboxes/<id>/
//!   shim.json          ShimConfig, written before the supervisor starts
//!   lock               flock held by the supervisor as long as it lives
//!   dead               made under the lock by a daemon that gave the sandbox up
//!   shim.sock          requests
//!   state.json         State, replaced atomically at each change
//!   shim.log           the supervisor's own stderr
//!   ns/{net,ipc,uts}   bind mounts of the namespaces
//!   shm/               tmpfs, every container's /dev/shm
//!   containers/<id>/   bundle.json (Bundle), rootfs (empty mount point)
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub const CONFIG_FILE: &str = "shim.json";
pub const LOCK_FILE: &str = "lock";
pub const DEAD_FILE: &str = "dead";
pub const SOCKET_FILE: &str = "shim.sock";
pub const STATE_FILE: &str = "state.json";
pub const LOG_FILE: &str = "shim.log";
pub const NAMESPACE_DIR: &str = "ns";
pub const SHM_DIR: &str = "shm";
pub const CONTAINER_DIR: &str = "containers";
pub const BUNDLE_FILE: &str = "bundle.json";
pub const ROOTFS_DIR: &str = "rootfs";

/// A log that has grown to so many bytes goes on in a new file, and a container has at most so many:
/// the kubelet's defaults of containerLogMaxSize and containerLogMaxFiles.
pub const MAX_LOG_SIZE: u64 = 10 << 20;
pub const MAX_LOG_FILES: usize = 5;

/// What a supervisor makes before it says that it is ready.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ShimConfig {
    /// cgroup v2 leaf it lives in.
    pub cgroup: Option<PathBuf>,
    pub hostname: String,
    pub host_network: bool,
    pub host_ipc: bool,
    pub host_pid: bool,
    pub share_process_namespace: bool,
    pub sysctls: BTreeMap<String, String>,
    /// One of its own, not with a namespace of the host's.
    #[serde(default)]
    pub user_namespace: Option<IdMap>,
}

/// Users and groups of a user namespace, alike: 0 is `host_id` on the node, and
/// so on for `length` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    pub host_id: u32,
    pub length: u32,
}

/// A container, ready to run: everything is resolved but what only the root
/// file system knows (users, symlinks, PATH).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Bundle {
    /// The container's cgroup v2 directory; it exists.
    pub cgroup: PathBuf,
    /// Unpacked layers, topmost first.
    pub lower: Vec<PathBuf>,
    pub upper: PathBuf,
    pub work: PathBuf,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub cwd: String,
    pub user: User,
    /// In the order in which they are mounted.
    pub mounts: Vec<BindMount>,
    /// Bit n is capability n.
    pub capabilities: u64,
    /// Those among them that any user keeps when it runs a program.
    #[serde(default)]
    pub ambient: u64,
    pub privileged: bool,
    /// Beside those of every container, or all of the host's.
    #[serde(default)]
    pub devices: Vec<DeviceBind>,
    /// Its cgroup decides which devices it may use.
    #[serde(default)]
    pub device_cgroup: bool,
    pub no_new_privs: bool,
    pub readonly_rootfs: bool,
    pub tty: bool,
    /// Keep standard input open; without it, it is /dev/null.
    pub stdin: bool,
    /// It ends with the input of the first client that has one. A terminal's never ends.
    #[serde(default)]
    pub stdin_once: bool,
    pub oom_score_adj: Option<i32>,
    /// The running container of this sandbox whose PID namespace it joins.
    #[serde(default)]
    pub pid_target: Option<String>,
    pub log: PathBuf,
    pub masked_paths: Vec<String>,
    pub readonly_paths: Vec<String>,
    /// Which system calls it may make; without one, all.
    #[serde(default)]
    pub seccomp: Option<Filter>,
    /// The loaded AppArmor profile its programs are confined by.
    #[serde(default)]
    pub apparmor: Option<String>,
}

impl Bundle {
    /// Whether device nodes on its file systems may be opened at all. Where no
    /// cgroup decides which, mounts stand for it and refuse them all.
    pub fn opens_nodes(&self) -> bool {
        self.privileged || self.device_cgroup
    }
}

/// What seccomp(2) is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// SECCOMP_FILTER_FLAG_*
    pub flags: u32,
    pub program: Vec<Instruction>,
}

/// `struct sock_filter`: code, jt, jf, k.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruction(pub u16, pub u8, pub u8, pub u32);

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct User {
    /// The image's USER: uid, name, uid:gid, name:group, or empty.
    pub image: String,
    /// Replaces the image's.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// Added to the groups /etc/group lists for the user.
    pub groups: Vec<u32>,
    /// Those alone, whatever /etc/group lists.
    #[serde(default)]
    pub only_given_groups: bool,
}

/// A device node of the host's, and where the container has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceBind {
    pub source: PathBuf,
    pub target: PathBuf,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BindMount {
    #[serde(flatten)]
    pub source: MountSource,
    pub target: PathBuf,
    pub readonly: bool,
    #[serde(default)]
    pub recursive_readonly: bool,
    pub propagation: Propagation,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// What the host has there.
    #[serde(rename = "source")]
    Path(PathBuf),
    /// A supervisor of a version that knows none refuses the bundle.
    #[serde(rename = "image")]
    Image(ImageTree),
}

/// An image's files, which nobody can write: `readonly` and `propagation` say
/// nothing of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageTree {
    /// Unpacked layers, topmost first: several, of which the last may be an empty
    /// directory, or that directory alone.
    pub lower: Vec<PathBuf>,
    /// The directory in it that is mounted instead of all.
    pub sub_path: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    Private,
    HostToContainer,
    Bidirectional,
}

/// One request a connection at a time; replies come in order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    /// → `State`
    State,
    /// → `State`, then `Changed` for ever.
    Subscribe,
    /// Runs a container whose bundle.json is written. → `Started` or `Failed`
    Start { container: String },
    /// To the container's first process, or to all of it. → `Done` or `Failed`
    Kill {
        container: String,
        signal: i32,
        all: bool,
    },
    /// Writes on to a new file at the log's path, after somebody has moved the old one. → `Done`
    ReopenLog { container: String },
    /// Comes with three descriptors, stdin, stdout and stderr; with a terminal
    /// with one, a socket to which the terminal's master is sent.
    /// → `Started` or `Failed`, then `Exited`. Closing the connection kills it.
    Exec(Exec),
    /// Comes with three descriptors: what a client says, and where it reads the
    /// container's stdout and stderr from now on; what it does not want is
    /// /dev/null. → `Started` or `Failed`, then `Done` when no more is to come,
    /// `Failed` when the client was given up. Closing the connection leaves the
    /// container as it is.
    Attach(Attach),
    /// To so many characters. → `Done` or `Failed`
    ResizeTerminal {
        container: String,
        rows: u16,
        columns: u16,
    },
    /// Kills every container, releases the namespaces, exits. → `Done`
    Shutdown,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Exec {
    pub container: String,
    pub args: Vec<String>,
    /// Added to the container's own.
    pub env: Vec<(String, String)>,
    /// It gets a terminal of its own, in the container's /dev/pts.
    pub tty: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attach {
    pub container: String,
    /// Whether the client has an input, whose end counts.
    pub stdin: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Reply {
    State(State),
    Changed {
        container: String,
        record: ContainerRecord,
    },
    Started {
        pid: i32,
    },
    Exited {
        exit_code: i32,
    },
    Done,
    Failed {
        message: String,
    },
}

/// What the supervisor knows; also its state file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub pid: i32,
    /// Its namespaces are released and nothing of it runs.
    pub stopped: bool,
    /// It knows of `Bundle::seccomp`: one of an earlier version reads over it.
    #[serde(default)]
    pub sets_filters: bool,
    /// It knows of `ShimConfig::user_namespace`, likewise.
    #[serde(default)]
    pub maps_users: bool,
    /// It knows of `Bundle::apparmor`, likewise.
    #[serde(default)]
    pub sets_profiles: bool,
    /// It knows of `Bundle::devices` and `Bundle::ambient`, likewise.
    #[serde(default)]
    pub binds_devices: bool,
    /// Only containers that were asked to start.
    pub containers: BTreeMap<String, ContainerRecord>,
}

/// Times are nanoseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerRecord {
    pub pid: i32,
    pub started_at: i64,
    pub finished_at: Option<i64>,
    /// 128 + signal when killed by one.
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    /// The kernel killed in its cgroup for want of memory.
    pub oom_killed: bool,
    /// It never ran: why.
    pub error: Option<String>,
    /// Who its first process is; not told of one with hundreds of groups.
    #[serde(default)]
    pub user: Option<Identity>,
}

/// Whom a process runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// All of them, the first one too.
    pub groups: Vec<u32>,
}

impl ContainerRecord {
    pub fn running(&self) -> bool {
        self.finished_at.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_bundles_that_earlier_daemons_wrote() {
        let text =
            r#"{"source": "/h", "target": "/c", "readonly": true, "propagation": "Private"}"#;
        let mount: BindMount = serde_json::from_str(text).unwrap();
        assert_eq!(mount.source, MountSource::Path("/h".into()));
        assert!(mount.readonly && !mount.recursive_readonly);

        let image = MountSource::Image(ImageTree {
            lower: vec!["/l".into()],
            sub_path: None,
        });
        let mount = BindMount {
            source: image.clone(),
            ..mount
        };
        let text = serde_json::to_string(&mount).unwrap();
        let read: BindMount = serde_json::from_str(&text).unwrap();
        assert_eq!(read.source, image);
    }
}
