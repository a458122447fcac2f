//! Whether an image has the part of it that a container mounts. The supervisor finds that out too, but
//! only when the container starts; who creates it is to hear of it (KEP-4639).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use vetch_shim::resolve::directory_in;

use crate::Error;

/// `lower` is the image's layers, topmost first. `scratch` is a directory they are mounted at for a
/// moment, in a mount namespace that nobody else is in.
pub fn find(lower: &[PathBuf], part: &Path, scratch: &Path) -> Result<(), Error> {
    if let [only] = lower {
        return look(only, part);
    }
    // A thread's namespace ends with the thread, and what is mounted in it.
    let looked = thread::scope(|scope| {
        let looking = scope.spawn(|| {
            merge(lower, scratch).map_err(Error::io("mounting layers at", scratch))?;
            look(scratch, part)
        });
        looking.join()
    });
    looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn look(root: &Path, part: &Path) -> Result<(), Error> {
    let root = open_path(root).map_err(Error::io("opening", root))?;
    match directory_in(root, part) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::ImagePart {
            path: part.to_owned(),
            source: error.into(),
        }),
    }
}

/// Layers are opened after the namespace is made, since overlayfs takes those of its own alone, and named
/// by descriptor, since mount(2) takes one page of options.
fn merge(lower: &[PathBuf], scratch: &Path) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount_change(
        "/",
        MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC,
    )?;
    let layers = lower.iter().map(|path| open_path(path));
    let layers = layers.collect::<io::Result<Vec<_>>>()?;
    let names: Vec<String> = layers
        .iter()
        .map(|layer| format!("/proc/thread-self/fd/{}", layer.as_raw_fd()))
        .collect();
    let options = std::ffi::CString::new(format!("lowerdir={}", names.join(":")))?;
    mount(
        "overlay",
        scratch,
        "overlay",
        MountFlags::RDONLY,
        options.as_c_str(),
    )?;
    Ok(())
}

/// Of a directory.
fn open_path(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?)
}
