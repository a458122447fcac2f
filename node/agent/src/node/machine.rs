//! What the node's machine is: read once, when the daemon starts.

mod hugepages;
mod limits;
mod os_release;

use std::fs;
use std::path::Path;

use super::NodeError;
use super::meminfo::Meminfo;

pub use limits::Limits;

/// Where the daemon's cgroup tree has its limits, and how much of what there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    pub machine_id: String,
    pub system_uuid: String,
    pub boot_id: String,
    pub kernel_version: String,
    pub os_image: String,
    /// Go's name of it: amd64, arm64.
    pub architecture: String,
    /// Those this process may run on.
    pub cpus: u64,
    pub memory_bytes: u64,
    pub swap_bytes: u64,
    /// Resource name (`hugepages-2Mi`) and bytes.
    pub hugepages: Vec<(String, u64)>,
    /// Of the file system of the root directory.
    pub disk_bytes: u64,
    pub limits: Limits,
}

impl Machine {
    /// `root_dir` is on the disk that pods write to, `cgroup_root` has all of
    /// them below it.
    pub fn read(root_dir: &Path, cgroup_root: &Path) -> Result<Machine, NodeError> {
        let meminfo = Meminfo::read()?;
        let machine_id = first_line(&["/etc/machine-id", "/var/lib/dbus/machine-id"]);
        let disk = rustix::fs::statvfs(root_dir).map_err(|errno| NodeError::FileSystem {
            path: root_dir.to_owned(),
            source: errno.into(),
        })?;
        let cpus = rustix::thread::sched_getaffinity(None)
            .map_err(|errno| NodeError::Cpus(errno.into()))?
            .count();
        let uname = rustix::system::uname();
        Ok(Machine {
            // What has no firmware to ask is known by its machine id.
            system_uuid: match first_line(&["/sys/class/dmi/id/product_uuid"]) {
                uuid if uuid.is_empty() => machine_id.clone(),
                uuid => uuid,
            },
            machine_id,
            boot_id: first_line(&["/proc/sys/kernel/random/boot_id"]),
            kernel_version: uname.release().to_string_lossy().into_owned(),
            os_image: os_release::pretty_name(
                &first_text(&["/etc/os-release", "/usr/lib/os-release"]),
                &uname.sysname().to_string_lossy(),
            ),
            architecture: go_architecture(std::env::consts::ARCH).to_owned(),
            cpus: cpus.into(),
            memory_bytes: meminfo.total,
            swap_bytes: meminfo.swap_total,
            hugepages: hugepages::read(Path::new("/sys/kernel/mm/hugepages")),
            disk_bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
            limits: Limits::read(cgroup_root),
        })
    }
}

fn first_text(paths: &[&str]) -> String {
    paths
        .iter()
        .find_map(|path| fs::read_to_string(path).ok())
        .unwrap_or_default()
}

fn first_line(paths: &[&str]) -> String {
    first_text(paths).trim().to_owned()
}

/// Kubernetes names architectures as Go does.
pub fn go_architecture(rust: &str) -> &str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_described_whole() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::read(dir.path(), dir.path()).unwrap();
        assert!(machine.cpus >= 1);
        assert!(machine.memory_bytes > 1 << 20);
        assert!(machine.disk_bytes > 1 << 20);
        assert_eq!(machine.boot_id.len(), 36);
        for text in [
            &machine.kernel_version,
            &machine.os_image,
            &machine.architecture,
        ] {
            assert!(!text.is_empty(), "{machine:?}");
        }
        // A directory that is no cgroup limits nothing.
        assert_eq!(machine.limits, Limits::default());
    }
}
