//! The daemon: what must be there before any thread, then the parts.

mod client;
mod dns;
mod oom;
mod parts;
mod sockets;

use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustix::fs::{FlockOperation, flock};
use tracing::info;
use vetch_join::Managed;

use self::sockets::Sockets;
use crate::cli::{CniArgs, CriArgs, DaemonArgs, Places};
use crate::{cgroup, check, filesystems, logging, mount_namespace};

pub fn main(mut args: DaemonArgs) -> Result<()> {
    check::root()?;
    check::kernel()?;
    let shim = check::shim(args.runtime.shim.as_deref())?;
    let kubeconfig = read_kubeconfig(&args)?;
    let certificate = own_certificate(&kubeconfig)?;
    let ready = prepare(&args.places, &[&args.pod_log_dir])?;
    let seccomp_root = seccomp_root(&args, &ready.places)?;
    if let Some(given) = &mut args.pod_manifest_path {
        let absolute = std::path::absolute(&given);
        *given = absolute.with_context(|| format!("the path {}", given.display()))?;
    }
    check::node_ips(&args.node_ip)?;
    let sockets = Sockets::of_systemd();
    sockets.forget_others(&served(&args));
    let kubelet = listen(&sockets, args.kubelet_port)?;
    block_on(async {
        let config =
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .context("the kubeconfig is not usable")?;
        parts::run(parts::Setup {
            args,
            places: ready.places.clone(),
            seccomp_root,
            shim,
            config,
            certificate,
            kubelet,
            sockets: Arc::new(sockets),
            can_lower_oom_score: ready.can_lower_oom_score,
        })
        .await
    })
}

/// The runtime alone, behind its socket.
pub fn cri(args: CriArgs) -> Result<()> {
    check::root()?;
    check::kernel()?;
    let shim = check::shim(args.runtime.shim.as_deref())?;
    check::node_ips(&args.node_ip)?;
    let ready = prepare(&args.places, &[])?;
    block_on(parts::run_cri(args, ready.places.clone(), shim))
}

/// The pod network alone, behind the CNI plugin's socket. It stays in the mount namespace of whoever
/// starts it: it mounts nothing, and has no cgroup.
pub fn cni(args: CniArgs) -> Result<()> {
    check::root()?;
    check::node_ips(&args.node_ip)?;
    logging::start();
    let run_dir = std::path::absolute(&args.run_dir)
        .with_context(|| format!("the path {}", args.run_dir.display()))?;
    let _lock = lock(&run_dir)?;
    info!(
        version = env!("CARGO_PKG_VERSION"),
        pid = std::process::id(),
        "vetch-node starts with its network alone"
    );
    block_on(parts::run_cni(args, run_dir))
}

/// What must be so before there is a thread, and as long as the daemon lives.
struct Ready {
    places: Places,
    can_lower_oom_score: bool,
    _lock: File,
}

fn prepare(places: &Places, more_dirs: &[&Path]) -> Result<Ready> {
    logging::start();
    let places = absolute(places)?;
    // No thread before this.
    let own_namespace = enter_namespace(&places)?;
    let dirs = [places.run_dir.as_path(), &places.root_dir];
    for dir in dirs.iter().chain(more_dirs) {
        fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    }
    let lock = lock(&places.run_dir)?;
    cgroup::leave_root(&places.cgroup_root)?;
    let can_lower_oom_score = oom::protect_this_process();
    info!(
        version = env!("CARGO_PKG_VERSION"),
        pid = std::process::id(),
        own_mount_namespace = own_namespace,
        "vetch-node starts"
    );
    Ok(Ready {
        places,
        can_lower_oom_score,
        _lock: lock,
    })
}

fn block_on(work: impl Future<Output = Result<()>>) -> Result<()> {
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the async runtime")?;
    let result = tokio.block_on(work);
    // Blocking work that hangs (a dead disk) must not keep the process.
    tokio.shutdown_background();
    result
}

fn read_kubeconfig(args: &DaemonArgs) -> Result<Kubeconfig> {
    let path = args
        .kubeconfig
        .as_deref()
        .context("--kubeconfig is missing")?;
    Kubeconfig::read_from(path).with_context(|| {
        format!(
            "cannot read the kubeconfig {}: `vetch-node join` or `vetch-control kubeconfig` writes one",
            path.display()
        )
    })
}

/// One that has ended lets nobody renew it.
fn own_certificate(kubeconfig: &Kubeconfig) -> Result<Option<Managed>> {
    let Some(managed) = Managed::of(kubeconfig) else {
        return Ok(None);
    };
    let path = managed.path();
    let certificate = managed.certificate().with_context(|| {
        format!(
            "the certificate {} cannot be read: `vetch-node join` makes another",
            path.display()
        )
    })?;
    let now = SystemTime::now();
    if SystemTime::from(certificate.ends) <= now {
        bail!(
            "the certificate {} ended at {}: `vetch-node join` makes another (`vetch-control token create` prints the whole command)",
            path.display(),
            certificate.ends
        );
    }
    Ok(Some(managed))
}

/// Paths mean the same wherever the process goes.
fn absolute(places: &Places) -> Result<Places> {
    let absolute = |path: &Path| {
        std::path::absolute(path).with_context(|| format!("the path {}", path.display()))
    };
    Ok(Places {
        root_dir: absolute(&places.root_dir)?,
        run_dir: absolute(&places.run_dir)?,
        cgroup_root: absolute(&places.cgroup_root)?,
        pin_dir: absolute(&places.pin_dir)?,
        mount_namespace: places
            .mount_namespace
            .as_deref()
            .map(absolute)
            .transpose()?,
    })
}

fn seccomp_root(args: &DaemonArgs, places: &Places) -> Result<PathBuf> {
    match &args.seccomp_profile_root {
        Some(given) => {
            std::path::absolute(given).with_context(|| format!("the path {}", given.display()))
        }
        None => Ok(places.root_dir.join("seccomp")),
    }
}

/// Where the node's own mount namespace is, or would be.
pub fn namespace_path(places: &Places) -> PathBuf {
    let own = || places.run_dir.join("private/mnt");
    places.mount_namespace.clone().unwrap_or_else(own)
}

/// On the run directory: addresses belong to sandboxes, which a reboot ends.
pub fn network_dir(places: &Places) -> PathBuf {
    places.run_dir.join(vetch_cni_server::RECORDS)
}

fn enter_namespace(places: &Places) -> Result<bool> {
    let complete =
        filesystems::has_cgroup2(&places.cgroup_root) && filesystems::has_bpffs(&places.pin_dir);
    let path = namespace_path(places);
    // One that an earlier daemon made has the mounts of its pods.
    if places.mount_namespace.is_none() && complete && !filesystems::is_namespace(&path) {
        return Ok(false);
    }
    mount_namespace::enter(&path)?;
    filesystems::complete(&places.cgroup_root, &places.pin_dir)?;
    Ok(true)
}

/// Held as long as the file is open: one daemon a run directory.
pub fn lock(run_dir: &Path) -> Result<File> {
    let path = run_dir.join("lock");
    fs::create_dir_all(run_dir).with_context(|| format!("make {}", run_dir.display()))?;
    let file = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => bail!(
            "a vetch-node already runs with {}: stop it, or choose another --run-dir",
            run_dir.display()
        ),
        Err(errno) => Err(errno).with_context(|| format!("lock {}", path.display())),
    }
}

/// Where the daemon has sockets that outlive it.
fn served(args: &DaemonArgs) -> Vec<SocketAddr> {
    let kubelet = [
        (Ipv6Addr::UNSPECIFIED, args.kubelet_port).into(),
        (Ipv4Addr::UNSPECIFIED, args.kubelet_port).into(),
    ];
    let dns = dns::addresses(&args.dns, &args.node_ip);
    dns.into_iter().chain(kubelet).collect()
}

/// On all addresses of both families: pods' probes come from here, the API server from there.
fn listen(sockets: &Sockets, port: u16) -> Result<TcpListener> {
    let bound = match sockets.tcp((Ipv6Addr::UNSPECIFIED, port).into()) {
        // No IPv6 in this kernel.
        Err(error)
            if error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error()) =>
        {
            sockets.tcp((Ipv4Addr::UNSPECIFIED, port).into())
        }
        bound => bound,
    };
    let listener = match bound {
        Ok(listener) => listener,
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => bail!(
            "port {port} is taken on this node: stop what listens there, or choose another with --kubelet-port"
        ),
        Err(error) => return Err(error).with_context(|| format!("listen on port {port}")),
    };
    listener
        .set_nonblocking(true)
        .context("the listening socket")?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_said() {
        let sockets = Sockets::of_systemd();
        let first = listen(&sockets, 0).unwrap();
        let port = first.local_addr().unwrap().port();
        let error = listen(&sockets, port).unwrap_err().to_string();
        assert!(error.contains("--kubelet-port"), "{error}");
    }

    #[test]
    fn one_daemon_a_run_directory() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock(dir.path()).unwrap();
        let error = lock(dir.path()).unwrap_err().to_string();
        assert!(error.contains("already runs"), "{error}");
        drop(held);
        lock(dir.path()).unwrap();
    }
}
