//! A test's own place: mounts, cgroups and processes go with it, also when it
//! fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use vetch_runtime::{Runtime, RuntimeConfig};

use crate::{image, shim};

/// A disk of its own below a path, small enough to be full.
pub struct Disk {
    point: PathBuf,
}

impl Disk {
    pub fn mount(point: &Path, mebibytes: u32) -> Disk {
        fs::create_dir_all(point).unwrap();
        let size = format!("size={mebibytes}m");
        let flags = MsFlags::empty();
        mount(Some("disk"), point, Some("tmpfs"), flags, Some(&size[..])).unwrap();
        Disk {
            point: point.to_owned(),
        }
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        let stat = nix::sys::statvfs::statvfs(&self.point).unwrap();
        (stat.blocks() - stat.blocks_free()) * stat.fragment_size()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(&self.point, MntFlags::MNT_DETACH);
    }
}

/// How the mounts of the test's namespace tell others of new ones.
#[derive(Clone, Copy)]
pub enum Mounts {
    /// As on the nodes of `up`.
    Private,
    /// As systemd leaves a machine.
    Shared,
}

pub struct Lab {
    pub config: RuntimeConfig,
    /// With the daemon's threads, which see the test's mounts.
    tokio: tokio::runtime::Runtime,
    root: tempfile::TempDir,
    run: tempfile::TempDir,
    pub logs: PathBuf,
}

impl Lab {
    /// Moves the calling thread, and the threads it will start, inside.
    pub fn enter() -> Lab {
        Lab::enter_with(Mounts::Private)
    }

    pub fn enter_with(mounts: Mounts) -> Lab {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        unshare(CloneFlags::CLONE_NEWNS).expect("unshare: these tests need root");
        set_propagation(MsFlags::MS_PRIVATE);
        if let Mounts::Shared = mounts {
            set_propagation(MsFlags::MS_SHARED);
        }
        let root = tempfile::Builder::new()
            .prefix("runtime-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        let run = tempfile::Builder::new()
            .prefix("runtime-")
            .tempdir()
            .unwrap();
        mount(
            Some("run"),
            run.path(),
            Some("tmpfs"),
            MsFlags::empty(),
            None::<&str>,
        )
        .unwrap();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let cgroup = cgroup_mount().join(format!("vetch-runtime-{}-{number}", std::process::id()));
        fs::create_dir(&cgroup).unwrap();
        let logs = root.path().join("logs");
        Lab {
            config: RuntimeConfig {
                root_dir: root.path().join("root"),
                run_dir: run.path().to_owned(),
                cgroup_root: cgroup,
                shim: shim::binary(),
                pull_netns: None,
                insecure_registries: Vec::new(),
                registry_hosts_dir: None,
            },
            tokio: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap(),
            root,
            run,
            logs,
        }
    }

    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.tokio.block_on(future)
    }

    /// A daemon's runtime with busybox in its store.
    pub async fn runtime(&self) -> Runtime {
        let runtime = self.open().await;
        let tar = self.root.path().join("busybox.tar");
        image::busybox().save(&tar);
        runtime.images().import(&tar).await.unwrap();
        runtime
    }

    pub async fn open(&self) -> Runtime {
        Runtime::open(self.config.clone()).await.unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// What a whole removal leaves: logs, images and the kubepods cgroups.
    pub fn assert_nothing_left(&self) {
        assert_eq!(self.mounts(), Vec::<String>::new(), "mounts");
        let sandboxes = self.config.run_dir.join("sandboxes");
        assert_eq!(entries(&sandboxes), Vec::<String>::new(), "sandboxes");
        let writable = self.config.root_dir.join("containers");
        assert_eq!(entries(&writable), Vec::<String>::new(), "writable layers");
        let pins = self.config.root_dir.join("images/pins");
        assert_eq!(entries(&pins), Vec::<String>::new(), "pins");
        let tmp = self.config.root_dir.join("images/tmp");
        assert_eq!(entries(&tmp), Vec::<String>::new(), "layers being unpacked");
        let pods: Vec<PathBuf> = cgroups(&self.config.cgroup_root)
            .into_iter()
            .filter(|path| path.to_string_lossy().contains("/pod"))
            .collect();
        assert_eq!(pods, Vec::<PathBuf>::new(), "cgroups");
        wait_for("supervisors to be gone", || self.shims().is_empty());
    }

    /// When all that was in them is dead.
    pub fn release_cgroups(&self) {
        let root = &self.config.cgroup_root;
        wait_for("the test's cgroups to be empty", || {
            for path in cgroups(root).iter().rev() {
                let _ = fs::remove_dir(path);
            }
            cgroups(root).is_empty()
        });
    }

    /// Mount points below the run directory, as the daemon's threads see them.
    fn mounts(&self) -> Vec<String> {
        let run = format!("{}/", self.config.run_dir.display());
        fs::read_to_string("/proc/thread-self/mountinfo")
            .unwrap()
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .filter(|point| point.starts_with(&run))
            .map(str::to_owned)
            .collect()
    }

    /// Pids of supervisors with a sandbox of this test.
    pub fn shims(&self) -> Vec<u32> {
        let run = self.config.run_dir.to_str().unwrap().as_bytes();
        let holds = |text: &[u8]| text.windows(run.len()).any(|window| window == run);
        fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|pid: &u32| *pid != std::process::id())
            .filter(|pid| {
                fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
                    holds(&line)
                        && line.starts_with(self.config.shim.as_os_str().as_encoded_bytes())
                })
            })
            .collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Also what a failed test left running.
        let _ = fs::write(self.config.cgroup_root.join("cgroup.kill"), "1");
        self.release_cgroups();
        fs::remove_dir(&self.config.cgroup_root).unwrap();
        for point in self.mounts().iter().rev() {
            let _ = umount2(Path::new(point), MntFlags::MNT_DETACH);
        }
        umount2(self.run.path(), MntFlags::MNT_DETACH).unwrap();
    }
}

fn set_propagation(flag: MsFlags) {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | flag, none).unwrap();
}

/// Wherever this machine has it.
fn cgroup_mount() -> PathBuf {
    fs::read_to_string("/proc/thread-self/mountinfo")
        .unwrap()
        .lines()
        .filter(|line| line.contains(" - cgroup2 "))
        .find_map(|line| line.split(' ').nth(4).map(PathBuf::from))
        .expect("a cgroup v2 hierarchy")
}

/// Parents before children.
fn cgroups(root: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            all.push(entry.path());
            all.extend(cgroups(&entry.path()));
        }
    }
    all
}

pub fn entries(dir: &Path) -> Vec<String> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// A field of a process's /proc/PID/status that is in KiB.
pub fn memory(pid: &str, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| {
        let value = line.strip_prefix(field)?.strip_prefix(':')?;
        value.trim().strip_suffix(" kB")?.parse().ok()
    });
    line.unwrap_or_else(|| panic!("no {field} in {text}"))
}

pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited 20 s for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
