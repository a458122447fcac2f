//! Needs root. Each test works in a mount namespace of its own thread.

use std::os::unix::fs::MetadataExt as _;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::*;

/// Runs on a thread whose mounts are nobody else's, shared or not as on a machine with systemd.
fn apart(propagation: MountPropagationFlags, job: impl FnOnce(&Path) + Send + 'static) {
    thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS).expect("unshare: these tests need root");
        mount_change(
            "/",
            MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        )
        .unwrap();
        mount_change("/", propagation | MountPropagationFlags::REC).unwrap();
        let dir = tempfile::tempdir().unwrap();
        job(dir.path());
        for point in mount_table::all().unwrap().iter().rev() {
            if point.point.starts_with(dir.path()) {
                let _ = unmount(&point.point, UnmountFlags::DETACH);
            }
        }
    })
    .join()
    .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// What a daemon does: the device of its namespace file, and whether it sees `marker`.
fn daemon(path: &Path, marker: &Path, leave: bool) -> (u64, bool) {
    thread::scope(|scope| {
        let daemon = scope.spawn(|| {
            if !filesystems::is_namespace(path) {
                make(path).unwrap();
            }
            enter_thread(path).unwrap();
            let seen = marker.join("mark").exists();
            if leave {
                mount("tmpfs", marker, "tmpfs", MountFlags::empty(), None).unwrap();
                File::create(marker.join("mark")).unwrap();
            }
            (
                fs::metadata("/proc/thread-self/ns/mnt").unwrap().ino(),
                seen,
            )
        });
        daemon.join().unwrap()
    })
}

#[test]
fn what_one_daemon_mounted_the_next_one_finds() {
    for propagation in [
        MountPropagationFlags::PRIVATE,
        MountPropagationFlags::SHARED,
    ] {
        apart(propagation, |dir| {
            let (path, marker) = (dir.join("run/private/mnt"), dir.join("marker"));
            fs::create_dir(&marker).unwrap();
            let own = fs::metadata("/proc/thread-self/ns/mnt").unwrap().ino();
            let (first, seen) = daemon(&path, &marker, true);
            assert!(!seen);
            assert_ne!(first, own);
            assert_eq!(daemon(&path, &marker, false), (first, true));
            // The machine sees nothing of it.
            assert!(!marker.join("mark").exists());
            // Unbound, it is gone; the next daemon begins anew.
            unmount(&path, UnmountFlags::DETACH).unwrap();
            let (_, seen) = daemon(&path, &marker, false);
            assert!(!seen);
        });
    }
}

#[test]
fn a_leftover_file_is_no_namespace() {
    apart(MountPropagationFlags::PRIVATE, |dir| {
        let path = dir.join("mnt");
        File::create(&path).unwrap();
        daemon(&path, dir, false);
        assert!(filesystems::is_namespace(&path));
    });
}

#[test]
fn missing_file_systems_are_mounted_inside() {
    apart(MountPropagationFlags::PRIVATE, |dir| {
        let (cgroup, pins) = (dir.join("cgroup"), dir.join("bpf/vetch"));
        assert!(!filesystems::has_cgroup2(&cgroup) && !filesystems::has_bpffs(&pins));
        for _ in 0..2 {
            filesystems::complete(&cgroup, &pins).unwrap();
        }
        assert!(filesystems::has_cgroup2(&cgroup) && filesystems::has_bpffs(&pins));
        let own = |mount: &mount_table::Mount| mount.point.starts_with(dir);
        assert_eq!(
            mount_table::all().unwrap().into_iter().filter(own).count(),
            2
        );
    });
}
