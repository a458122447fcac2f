//! A test's own place: network, mounts, cgroups and processes go with it, also
//! when it fails.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::shim;

pub const NODE_IP: Ipv4Addr = Ipv4Addr::new(172, 30, 99, 2);

pub struct Lab {
    /// With the node's threads, which see the test's network and mounts.
    tokio: tokio::runtime::Runtime,
    dir: tempfile::TempDir,
    run: tempfile::TempDir,
    pub cgroup: PathBuf,
    pub shim: PathBuf,
}

impl Lab {
    /// Moves the calling thread, and the threads it will start, inside.
    pub fn enter() -> Lab {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Shown when a test fails.
        let _ = tracing_subscriber::fmt()
            .with_env_filter("warn,vetch_agent=debug")
            .with_test_writer()
            .try_init();
        let shim = shim::binary();
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
            .expect("unshare: these tests need root");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        make_links();
        let dir = tempfile::Builder::new()
            .prefix("pods-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        let run = tempfile::Builder::new().prefix("pods-").tempdir().unwrap();
        mount(
            Some("run"),
            run.path(),
            Some("tmpfs"),
            MsFlags::empty(),
            none,
        )
        .unwrap();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let cgroup = cgroup_mount().join(format!("vetch-pods-{}-{number}", std::process::id()));
        fs::create_dir(&cgroup).unwrap();
        Lab {
            tokio: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap(),
            dir,
            run,
            cgroup,
            shim,
        }
    }

    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.tokio.block_on(future)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn run_dir(&self) -> &Path {
        self.run.path()
    }

    pub fn node_ip(&self) -> IpAddr {
        NODE_IP.into()
    }

    /// What the end of all pods leaves: images and the kubepods cgroups. A pod
    /// that had ended is gone from the API server a moment before.
    pub async fn assert_nothing_left(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let left = self.left();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "left behind: {left:#?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn left(&self) -> Vec<String> {
        let mut left = self.mounts();
        for dir in ["pods", "logs", "network/sandboxes", "root/containers"] {
            let names = entries(&self.path(dir)).into_iter();
            left.extend(names.map(|name| format!("{dir}/{name}")));
        }
        left.extend(entries(&self.run_dir().join("sandboxes")));
        let cgroups = cgroups(&self.cgroup).into_iter();
        left.extend(
            cgroups
                .map(|path| path.display().to_string())
                .filter(|path| path.contains("/pod")),
        );
        left.extend(
            entries_of_links()
                .into_iter()
                .filter(|name| name.starts_with("vt")),
        );
        left
    }

    /// What a restart of the machine leaves: disks. No daemon may run.
    pub fn reboot(&self) {
        fs::write(self.cgroup.join("cgroup.kill"), "1").unwrap();
        self.release_cgroups();
        for point in self.mounts().iter().rev() {
            umount2(Path::new(point), MntFlags::MNT_DETACH).unwrap();
        }
        for name in entries(self.run_dir()) {
            fs::remove_dir_all(self.run_dir().join(name)).unwrap();
        }
    }

    /// When all that was in them is dead.
    fn release_cgroups(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !cgroups(&self.cgroup).is_empty() && Instant::now() < deadline {
            for path in cgroups(&self.cgroup).iter().rev() {
                let _ = fs::remove_dir(path);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Mount points below the test's directories, as its threads see them.
    fn mounts(&self) -> Vec<String> {
        let below = [self.dir.path(), self.run.path()].map(|path| format!("{}/", path.display()));
        fs::read_to_string("/proc/thread-self/mountinfo")
            .unwrap()
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .filter(|point| below.iter().any(|dir| point.starts_with(dir)))
            .map(str::to_owned)
            .collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Also what a failed test left running.
        let _ = fs::write(self.cgroup.join("cgroup.kill"), "1");
        self.release_cgroups();
        let _ = fs::remove_dir(&self.cgroup);
        for point in self.mounts().iter().rev() {
            let _ = umount2(Path::new(point), MntFlags::MNT_DETACH);
        }
        let _ = umount2(self.run.path(), MntFlags::MNT_DETACH);
    }
}

/// Loopback, and a link with the node's address.
fn make_links() {
    for words in [
        "link set lo up",
        "link add eth0 type bridge",
        "link set eth0 up",
        &format!("address add {NODE_IP}/24 dev eth0"),
    ] {
        let done = Command::new("ip")
            .args(words.split(' '))
            .status()
            .expect("Debian's iproute2");
        assert!(done.success(), "ip {words}");
    }
}

fn entries_of_links() -> Vec<String> {
    let text = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    text.lines()
        .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
        .collect()
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
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}
