//! subPath: a part of a volume, that a container cannot lead out of it.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fchmod, fstat, mkdirat};
use rustix::io::Errno;
use rustix::mount::mount_bind;
use vetch_runtime::resolve::openat2;

use super::{VolumeError, mounts};

/// Binds `volume/sub_path` to `target`, so that what is mounted later is what
/// was looked at now. A missing part becomes a directory with the volume's mode.
pub fn bind(volume: &Path, sub_path: &Path, target: &Path) -> Result<PathBuf, VolumeError> {
    let plain = sub_path
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !plain {
        return Err(VolumeError::Path(sub_path.display().to_string()));
    }
    let root: OwnedFd = File::open(volume)
        .map_err(VolumeError::io("opening", volume))?
        .into();
    let whole = volume.join(sub_path);
    let found = match open_beneath(&root, sub_path) {
        Err(Errno::NOENT) => make(&root, sub_path).map_err(VolumeError::io("making", &whole))?,
        other => other.map_err(VolumeError::io("opening", &whole))?,
    };
    // Of an earlier start of the container.
    while mounts::is_mount_point(target) {
        mounts::detach(target)?;
    }
    make_target(
        target,
        is_dir(&found).map_err(VolumeError::io("opening", &whole))?,
    )?;
    let source = format!("/proc/self/fd/{}", found.as_raw_fd());
    mount_bind(&source, target).map_err(VolumeError::io("mounting at", target))?;
    Ok(target.to_owned())
}

fn open_beneath(root: impl AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    openat2(
        root,
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
    )
}

fn is_dir(file: &OwnedFd) -> Result<bool, Errno> {
    Ok(FileType::from_raw_mode(fstat(file)?.st_mode) == FileType::Directory)
}

fn make(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let mode = Mode::from_raw_mode(fstat(root)?.st_mode);
    let mut made = PathBuf::new();
    let mut current = open_beneath(root, Path::new("."))?;
    for part in path.components() {
        let Component::Normal(name) = part else {
            continue;
        };
        made.push(name);
        current = match open_beneath(root, &made) {
            Err(Errno::NOENT) => {
                match mkdirat(&current, name, mode) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error),
                }
                let fresh = open_beneath(root, &made)?;
                // The umask took from it.
                let dir = rustix::fs::openat(
                    &fresh,
                    ".",
                    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
                    Mode::empty(),
                )?;
                fchmod(&dir, mode)?;
                fresh
            }
            other => other?,
        };
    }
    Ok(current)
}

fn make_target(target: &Path, dir: bool) -> Result<(), VolumeError> {
    let fits = fs::symlink_metadata(target).is_ok_and(|meta| meta.is_dir() == dir);
    if fits {
        return Ok(());
    }
    if target.exists() {
        let removed = if target.is_dir() {
            fs::remove_dir(target)
        } else {
            fs::remove_file(target)
        };
        removed.map_err(VolumeError::io("removing", target))?;
    }
    if dir {
        return fs::create_dir_all(target).map_err(VolumeError::io("making", target));
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).map_err(VolumeError::io("making", parent))?;
    }
    File::create(target).map_err(VolumeError::io("making", target))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_leads_out_of_the_volume() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        fs::create_dir_all(volume.join("in")).unwrap();
        symlink("/etc", volume.join("absolute")).unwrap();
        symlink("..", volume.join("up")).unwrap();
        symlink("in", volume.join("inside")).unwrap();
        let root: OwnedFd = File::open(&volume).unwrap().into();
        for (path, good) in [
            ("in", true),
            ("inside", true),
            ("", true),
            ("absolute", false),
            ("absolute/passwd", false),
            ("up", false),
            ("up/volume", false),
        ] {
            let got = open_beneath(&root, Path::new(path));
            assert_eq!(got.is_ok(), good, "{path}: {got:?}");
        }
        for path in ["../x", "/etc", "a/../b"] {
            let refused = bind(&volume, Path::new(path), &dir.path().join("target"));
            assert!(matches!(refused, Err(VolumeError::Path(_))), "{path}");
        }
        make(&root, Path::new("new/deep")).unwrap();
        assert!(volume.join("new/deep").is_dir());
        assert!(make(&root, Path::new("absolute/new")).is_err());
    }

    /// Needs root. Another container of the volume swaps a directory for a link out of it, and back,
    /// while parts below it are bound.
    #[test]
    fn a_race_leads_nowhere_else() {
        use std::sync::atomic::{AtomicBool, Ordering};
        use std::time::{Duration, Instant};

        use nix::mount::{MsFlags, mount};
        use rustix::fs::{AtFlags, CWD, RenameFlags, renameat_with, unlinkat};

        struct Ends<'a>(&'a AtomicBool);
        impl Drop for Ends<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }

        // The mounts go with the thread, whose own namespace this is.
        let race = || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            let (none, flags) = (None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
            mount(none, "/", none, flags, none).unwrap();
            let dir = tempfile::tempdir().unwrap();
            let [volume, outside, target] =
                ["volume", "outside", "target"].map(|name| dir.path().join(name));
            fs::create_dir_all(volume.join("part/deep")).unwrap();
            fs::create_dir_all(outside.join("deep")).unwrap();
            for place in [volume.join("part"), volume.join("part/deep")] {
                fs::write(place.join("inside"), "").unwrap();
            }
            symlink("/", volume.join("root")).unwrap();
            symlink(&outside, volume.join("link")).unwrap();
            let root: OwnedFd = File::open(&volume).unwrap().into();
            let ended = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let _ends = Ends(&ended);
                scope.spawn(|| {
                    let part = volume.join("part");
                    for link in ["root", "link"].iter().cycle() {
                        if ended.load(Ordering::Relaxed) {
                            break;
                        }
                        // Away and back, so that each is what it was.
                        for _ in 0..2 {
                            let other = volume.join(link);
                            renameat_with(CWD, &part, CWD, other, RenameFlags::EXCHANGE).unwrap();
                        }
                    }
                });
                let (mut bound, mut refused) = (0, 0);
                let deadline = Instant::now() + Duration::from_secs(20);
                while bound < 200 || refused < 200 {
                    assert!(
                        Instant::now() < deadline,
                        "{bound} bound, {refused} refused"
                    );
                    for path in ["part", "part/deep", "part/new"] {
                        match bind(&volume, Path::new(path), &target) {
                            Ok(_) if path == "part/new" => {
                                // Made in the volume, so that it is empty and goes from there.
                                assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
                                mounts::detach(&target).unwrap();
                                bound += 1;
                            }
                            Ok(_) => {
                                assert!(target.join("inside").exists(), "{path} is elsewhere");
                                mounts::detach(&target).unwrap();
                                bound += 1;
                            }
                            Err(VolumeError::Io { .. }) => refused += 1,
                            Err(other) => panic!("{path}: {other}"),
                        }
                        for place in ["part", "root", "link"] {
                            // Not through the links, which would hide what was made there.
                            if let Ok(dir) = open_beneath(&root, Path::new(place)) {
                                let _ = unlinkat(dir, "new", AtFlags::REMOVEDIR);
                            }
                        }
                    }
                    let left: Vec<_> = fs::read_dir(&outside).unwrap().flatten().collect();
                    assert_eq!(left.len(), 1, "made outside: {left:?}");
                    assert!(!Path::new("/new").exists());
                }
            });
        };
        std::thread::spawn(race).join().unwrap();
    }
}
