//! The pod's namespaces, made around the supervisor itself.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::sched::{CloneFlags, setns, unshare};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};
use rustix::process::{WaitOptions, wait};
use vetch_shim::protocol::{IdMap, NAMESPACE_DIR, SHM_DIR, ShimConfig};

use crate::failure::{Context, Failure};
use crate::sys;
use crate::users::Users;

/// Namespaces with a bind mount below ns/.
const NAMES: [&str; 3] = ["net", "ipc", "uts"];

pub struct Sandbox {
    /// To come back from another PID namespace after a fork into it.
    pub own_pid_namespace: OwnedFd,
    /// First process of the PID namespace that all containers share.
    pub pod_init: Option<(i32, OwnedFd)>,
    /// Which containers and what is run in them belong to.
    pub users: Option<Users>,
}

impl Sandbox {
    /// To be called in the sandbox directory.
    pub fn make(config: &ShimConfig) -> Result<Sandbox, Failure> {
        let own_pid_namespace: OwnedFd = File::open("/proc/self/ns/pid")
            .context(|| "opening the PID namespace".into())?
            .into();
        let (users, mut pod_init) = match config.user_namespace {
            Some(map) => {
                let (users, pod_init) = enter_mapped(config, map)?;
                (Some(users), pod_init)
            }
            None => {
                unshare(wanted(config)).context(|| "making namespaces".into())?;
                (None, None)
            }
        };
        if !config.host_network {
            rustix::system::sethostname(config.hostname.as_bytes())
                .context(|| format!("hostname {:?}", config.hostname))?;
        }
        for (key, value) in &config.sysctls {
            let path = sysctl_path(key)?;
            write_sysctl(&path, value, users.as_ref())
                .context(|| format!("sysctl {key}={value}"))?;
        }
        bind_namespaces(config)?;
        make_shm(config)?;
        if shares_processes(config) && pod_init.is_none() {
            pod_init = Some(start_pod_init()?);
        }
        Ok(Sandbox {
            own_pid_namespace,
            pod_init,
            users,
        })
    }
}

fn wanted(config: &ShimConfig) -> CloneFlags {
    let mut flags = CloneFlags::empty();
    if !config.host_network {
        flags |= CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS;
    }
    if !config.host_ipc {
        flags |= CloneFlags::CLONE_NEWIPC;
    }
    flags
}

fn shares_processes(config: &ShimConfig) -> bool {
    config.share_process_namespace && !config.host_pid
}

/// Namespaces of a user namespace's, and the first process of its PID namespace
/// where containers share one.
fn enter_mapped(
    config: &ShimConfig,
    map: IdMap,
) -> Result<(Users, Option<(i32, OwnedFd)>), Failure> {
    let mut others = wanted(config);
    if shares_processes(config) {
        others |= CloneFlags::CLONE_NEWPID;
    }
    let (users, first) = Users::make(map, others, reap_for_ever)?;
    let entered = setns(&first.pidfd, wanted(config)).context(|| "joining namespaces".into());
    if entered.is_ok() && shares_processes(config) {
        return Ok((users, Some((first.pid, first.pidfd))));
    }
    first.end();
    entered.map(|()| (users, None))
}

/// Those of an IPC namespace are the node's root's to set before 6.9, and since
/// then those of the root it belongs to.
fn write_sysctl(path: &str, value: &str, users: Option<&Users>) -> io::Result<()> {
    match (fs::write(path, value), users) {
        (Err(error), Some(users)) if error.kind() == io::ErrorKind::PermissionDenied => {
            users.as_root(|| fs::write(path, value))
        }
        (written, _) => written,
    }
}

/// /proc/sys shows the network, IPC and UTS namespaces of who looks.
fn sysctl_path(key: &str) -> Result<String, Failure> {
    let path = if key.contains('/') {
        key.to_owned()
    } else {
        key.replace('.', "/")
    };
    if path.split('/').any(|part| part.is_empty() || part == "..") {
        return Err(Failure(format!("invalid sysctl {key:?}")));
    }
    Ok(format!("/proc/sys/{path}"))
}

/// In the mount namespace the daemon started us in: its paths to them stay
/// good even if we die. A daemon in another one uses /proc/<pid>/ns.
fn bind_namespaces(config: &ShimConfig) -> Result<(), Failure> {
    fs::create_dir_all(NAMESPACE_DIR).context(|| "making ns/".into())?;
    for name in NAMES {
        let host = match name {
            "ipc" => config.host_ipc,
            _ => config.host_network,
        };
        if host {
            continue;
        }
        let target = Path::new(NAMESPACE_DIR).join(name);
        File::create(&target).context(|| format!("making ns/{name}"))?;
        mount_bind(format!("/proc/self/ns/{name}"), &target)
            .context(|| format!("binding the {name} namespace"))?;
    }
    Ok(())
}

/// The pod's /dev/shm, 64 MiB as containerd's.
fn make_shm(config: &ShimConfig) -> Result<(), Failure> {
    if config.host_ipc {
        return Ok(());
    }
    fs::create_dir_all(SHM_DIR).context(|| "making shm/".into())?;
    let root = config.user_namespace.map_or(0, |map| map.host_id);
    let options = CString::new(format!("mode=1777,size=67108864,uid={root},gid={root}"))
        .map_err(|_| Failure("shm options hold a zero byte".into()))?;
    mount(
        "shm",
        SHM_DIR,
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
        options.as_c_str(),
    )
    .context(|| "mounting shm".into())
}

/// Undoes the mounts. To be called in the sandbox directory.
pub fn release() {
    for name in NAMES {
        // Gone already is as good.
        let _ = unmount(Path::new(NAMESPACE_DIR).join(name), UnmountFlags::DETACH);
    }
    let _ = unmount(SHM_DIR, UnmountFlags::DETACH);
}

/// A PID namespace lives as long as its first process; with no pause
/// process, that is a copy of the supervisor that only reaps.
fn start_pod_init() -> Result<(i32, OwnedFd), Failure> {
    match sys::clone3(libc::CLONE_NEWPID, None).context(|| "PID namespace".into())? {
        sys::Cloned::Parent { pid, pidfd } => Ok((pid, pidfd)),
        sys::Cloned::Child => reap_for_ever(),
    }
}

fn reap_for_ever() -> ! {
    // Above all the lock: it must not look held when the supervisor is gone.
    let _ = sys::close_inherited();
    let _ = rustix::thread::set_name(c"vetch-init");
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let children = nix::sys::signal::SigSet::from(nix::sys::signal::Signal::SIGCHLD);
    loop {
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        // Blocked since before the fork, so none is lost in between.
        let _ = children.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctl_names() {
        for (key, want) in [
            ("net.ipv4.ip_forward", Some("/proc/sys/net/ipv4/ip_forward")),
            (
                "net/ipv4/conf/eth0.1/forwarding",
                Some("/proc/sys/net/ipv4/conf/eth0.1/forwarding"),
            ),
            ("net/../kernel/core_pattern", None),
            ("kernel..shm", None),
            ("", None),
        ] {
            assert_eq!(sysctl_path(key).ok().as_deref(), want, "{key}");
        }
    }
}
