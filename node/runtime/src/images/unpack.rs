//! A layer's tar onto a directory, with overlayfs's own whiteouts.
//!
//! Nothing in a tar leads out of the directory: parents are opened with
//! openat2(RESOLVE_IN_ROOT) (5.6+), entries are made by name in them and
//! never through a symlink. How much it writes only the disk says: a manifest
//! tells the size of what is packed, and containerd and the kubelet leave it to
//! the disk's pressure, too. What it keeps in memory has a limit (`bounded.rs`).

mod bounded;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod metadata;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, XattrFlags, chmodat, chownat,
    fchmod, fchown, fsetxattr, linkat, makedev, mkdirat, mknodat, openat, statat, symlinkat,
    unlinkat, utimensat,
};
use rustix::io::Errno;
use tar::{Archive, Entry, EntryType};
use vetch_shim::resolve::openat2;

use bounded::Bounded;
use metadata::{Metadata, times};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// aufs's own files.
const AUFS: &[u8] = b".wh..wh.";

pub fn unpack(tar: impl Read, target: &Path) -> io::Result<()> {
    let root = openat(
        CWD,
        target,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let mut unpacker = Unpacker {
        root,
        directories: BTreeMap::new(),
        parent: None,
    };
    let description = Cell::new(bounded::MAX_DESCRIPTION);
    let mut archive = Archive::new(Bounded::new(tar, &description));
    for entry in archive.entries()? {
        let mut entry = entry?;
        description.set(bounded::CONTENT);
        let path = inside(&entry.path_bytes())?;
        unpacker.entry(&mut entry, &path).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
        // What nobody wanted of it describes no other.
        io::copy(&mut entry, &mut io::sink())?;
        description.set(bounded::MAX_DESCRIPTION);
    }
    unpacker.finish()
}

struct Unpacker {
    root: OwnedFd,
    /// Their times change while they are filled.
    directories: BTreeMap<PathBuf, i64>,
    /// The last one opened: entries come directory by directory.
    parent: Option<(PathBuf, OwnedFd)>,
}

/// The path below the root: without `/` and `.`, and never with `..`.
fn inside(path: &[u8]) -> io::Result<PathBuf> {
    let mut clean = PathBuf::new();
    for part in Path::new(OsStr::from_bytes(path)).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("path {:?} leads out of the layer", OsStr::from_bytes(path)),
                ));
            }
        }
    }
    Ok(clean)
}

impl Unpacker {
    fn entry<R: Read>(&mut self, entry: &mut Entry<'_, R>, path: &Path) -> io::Result<()> {
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        if kind == EntryType::XHeader {
            return Err(invalid("extensions in a header of an unknown format"));
        }
        let metadata = metadata::read(entry)?;
        let Some(name) = path.file_name() else {
            // The root directory itself.
            return self.directory_metadata(path, &metadata);
        };
        self.open_parent(path.parent().unwrap_or(Path::new("")))?;
        if name.as_bytes().starts_with(WHITEOUT) {
            return self.whiteout(name);
        }
        if kind == EntryType::Directory {
            return self.directory(path, name, &metadata);
        }
        if kind == EntryType::Link {
            return self.hard_link(entry, path, name);
        }
        let parent = self.parent()?;
        make_room(parent, name)?;
        match kind {
            EntryType::Symlink => {
                let target = entry
                    .link_name_bytes()
                    .ok_or_else(|| invalid("symlink without a target"))?;
                symlinkat(OsStr::from_bytes(&target), parent, name)?;
                own(parent, name, &metadata)?;
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let file_type = match kind {
                    EntryType::Char => FileType::CharacterDevice,
                    EntryType::Block => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                let header = entry.header();
                // Of a FIFO the fields may be empty.
                let number = match kind {
                    EntryType::Fifo => 0,
                    _ => makedev(
                        header.device_major()?.unwrap_or(0),
                        header.device_minor()?.unwrap_or(0),
                    ),
                };
                mknodat(parent, name, file_type, metadata.mode, number)?;
                own(parent, name, &metadata)?;
                chmodat(parent, name, metadata.mode, AtFlags::empty())?;
            }
            _ => regular(parent, name, entry, &metadata)?,
        }
        utimensat(
            parent,
            name,
            &times(metadata.mtime),
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
        Ok(())
    }

    fn parent(&self) -> io::Result<&OwnedFd> {
        self.parent
            .as_ref()
            .map(|(_, fd)| fd)
            .ok_or_else(|| invalid("no parent directory"))
    }

    fn open_parent(&mut self, path: &Path) -> io::Result<()> {
        if self.parent.as_ref().is_none_or(|(open, _)| open != path) {
            let fd = self.make_directories(path)?;
            self.parent = Some((path.to_owned(), fd));
        }
        Ok(())
    }

    fn open(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        openat2(
            &self.root,
            path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )
    }

    fn make_directories(&self, path: &Path) -> io::Result<OwnedFd> {
        match self.open(path) {
            Err(Errno::NOENT) => {}
            outcome => return Ok(outcome?),
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::NOENT.into());
        };
        let parent = self.make_directories(parent)?;
        mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
        Ok(self.open(path)?)
    }

    fn whiteout(&mut self, name: &OsStr) -> io::Result<()> {
        let parent = self.parent()?;
        let bytes = name.as_bytes();
        if bytes == OPAQUE {
            return opaque(parent);
        }
        if bytes.starts_with(AUFS) {
            return Ok(());
        }
        let hidden = OsStr::from_bytes(&bytes[WHITEOUT.len()..]);
        if hidden.is_empty() || hidden == "." || hidden == ".." {
            return Err(invalid("whiteout of nothing"));
        }
        match mknodat(parent, hidden, FileType::CharacterDevice, Mode::empty(), 0) {
            // It is about the layers below; this one has it anew. What has
            // only entries of its own, a directory, must not merge with theirs.
            Err(Errno::EXIST) => {
                let stat = statat(parent, hidden, AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    opaque(&open_directory(parent, hidden)?)?;
                }
                Ok(())
            }
            outcome => Ok(outcome?),
        }
    }

    fn directory(&mut self, path: &Path, name: &OsStr, metadata: &Metadata) -> io::Result<()> {
        let parent = self.parent()?;
        let mut replaces_whiteout = false;
        match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {}
            Ok(stat) => {
                replaces_whiteout = FileType::from_raw_mode(stat.st_mode)
                    == FileType::CharacterDevice
                    && stat.st_rdev == 0;
                make_room(parent, name)?;
                mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
            }
            Err(Errno::NOENT) => mkdirat(parent, name, Mode::from_raw_mode(0o755))?,
            Err(error) => return Err(error.into()),
        }
        if replaces_whiteout {
            opaque(&open_directory(parent, name)?)?;
        }
        self.directory_metadata(path, metadata)
    }

    fn directory_metadata(&mut self, path: &Path, metadata: &Metadata) -> io::Result<()> {
        let fd = match path.file_name() {
            Some(name) => open_directory(self.parent()?, name)?,
            None => self.open(path)?,
        };
        apply(&fd, metadata)?;
        self.directories.insert(path.to_owned(), metadata.mtime);
        Ok(())
    }

    fn hard_link<R: Read>(
        &mut self,
        entry: &Entry<'_, R>,
        path: &Path,
        name: &OsStr,
    ) -> io::Result<()> {
        let target = entry
            .link_name_bytes()
            .ok_or_else(|| invalid("hard link without a target"))?;
        let target = inside(&target)?;
        if target == path {
            return Err(invalid("hard link to itself"));
        }
        let target_name = target
            .file_name()
            .ok_or_else(|| invalid("hard link to the root"))?;
        let target_parent = self.open(target.parent().unwrap_or(Path::new("")))?;
        let parent = self.parent()?;
        make_room(parent, name)?;
        linkat(&target_parent, target_name, parent, name, AtFlags::empty())?;
        Ok(())
    }

    /// Inner directories before outer ones.
    fn finish(self) -> io::Result<()> {
        for (path, mtime) in self.directories.iter().rev() {
            let Some(name) = path.file_name() else {
                rustix::fs::futimens(&self.root, &times(*mtime))?;
                continue;
            };
            let outcome = self
                .open(path.parent().unwrap_or(Path::new("")))
                .and_then(|parent| {
                    let flags = AtFlags::SYMLINK_NOFOLLOW;
                    utimensat(&parent, name, &times(*mtime), flags)
                });
            match outcome {
                // A later entry put something else there.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                outcome => outcome?,
            }
        }
        Ok(())
    }
}

fn regular<R: Read>(
    parent: &OwnedFd,
    name: &OsStr,
    entry: &mut Entry<'_, R>,
    metadata: &Metadata,
) -> io::Result<()> {
    let fd = openat(
        parent,
        name,
        OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::from_raw_mode(0o600),
    )?;
    let mut file = File::from(fd);
    io::copy(entry, &mut file)?;
    apply(&OwnedFd::from(file), metadata)
}

fn open_directory(parent: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(parent, name, flags, Mode::empty())?)
}

fn opaque(directory: &OwnedFd) -> io::Result<()> {
    Ok(fsetxattr(
        directory,
        "trusted.overlay.opaque",
        b"y",
        XattrFlags::empty(),
    )?)
}

/// A later entry of the same name wins.
fn make_room(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => {
            let mut path = PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd()));
            path.push(name);
            fs::remove_dir_all(path)
        }
        Err(error) => Err(error.into()),
    }
}

fn own(parent: &OwnedFd, name: &OsStr, metadata: &Metadata) -> io::Result<()> {
    Ok(chownat(
        parent,
        name,
        Some(Uid::from_raw(metadata.uid)),
        Some(Gid::from_raw(metadata.gid)),
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// chown clears the set-id bits and capabilities, so it comes first.
fn apply(fd: &OwnedFd, metadata: &Metadata) -> io::Result<()> {
    fchown(
        fd,
        Some(Uid::from_raw(metadata.uid)),
        Some(Gid::from_raw(metadata.gid)),
    )?;
    fchmod(fd, metadata.mode)?;
    for (name, value) in &metadata.xattrs {
        match fsetxattr(fd, name.as_str(), value, XattrFlags::empty()) {
            Err(Errno::NOTSUP) => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

fn invalid(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests;
