//! The mount table, and the few mounts made here.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// One line of a mountinfo file: see proc_pid_mountinfo(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub point: PathBuf,
    /// Where in the file system it starts: for namespaces `net:[…]` and the like.
    pub root: String,
    pub kind: String,
}

impl Mount {
    /// The mounts that a process sees.
    pub fn all(pid: &str) -> Result<Vec<Mount>> {
        let path = format!("/proc/{pid}/mountinfo");
        let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        Ok(text.lines().filter_map(Mount::parse).collect())
    }

    fn parse(line: &str) -> Option<Mount> {
        let (fields, after) = line.split_once(" - ")?;
        let mut fields = fields.split(' ').skip(3);
        let root = fields.next()?.to_owned();
        let point = PathBuf::from(unescape(fields.next()?));
        let kind = after.split(' ').next()?.to_owned();
        Some(Mount { point, root, kind })
    }
}

/// Blanks and backslashes are written as three octal digits.
fn unescape(text: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        result.push_str(before);
        match after
            .get(..3)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok())
        {
            Some(byte) => {
                result.push(char::from(byte));
                rest = &after[3..];
            }
            None => {
                result.push('\\');
                rest = after;
            }
        }
    }
    result + rest
}

pub fn new(kind: &str, point: &Path, options: &str) -> Result<()> {
    mount(
        Some(kind),
        point,
        Some(kind),
        MsFlags::empty(),
        Some(options),
    )
    .with_context(|| format!("mount {kind} at {}", point.display()))
}

pub fn bind(source: &Path, point: &Path) -> Result<()> {
    let none = None::<&str>;
    mount(Some(source), point, none, MsFlags::MS_BIND, none)
        .with_context(|| format!("bind {} at {}", source.display(), point.display()))
}

pub fn propagate(point: &Path, how: MsFlags) -> Result<()> {
    let none = None::<&str>;
    mount(none, point, none, how, none)
        .with_context(|| format!("change the propagation of {}", point.display()))
}

/// Takes what is mounted at or below `dir` away, the last mounted first, except where `keep` says so.
pub fn detach_below(dir: &Path, keep: impl Fn(&Mount) -> bool) -> Result<()> {
    for mount in Mount::all("self")?.iter().rev() {
        if !mount.point.starts_with(dir) || keep(mount) {
            continue;
        }
        match umount2(&mount.point, MntFlags::MNT_DETACH) {
            // Gone with a mount above it.
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(errno) => {
                return Err(errno).with_context(|| format!("unmount {}", mount.point.display()));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_mountinfo_are_read() {
        let line = r"36 35 98:0 net:[4026532281] /run/vetch/a\040b/ns/net rw,noatime shared:1 master:2 - nsfs nsfs rw";
        let mount = Mount::parse(line).unwrap();
        assert_eq!(mount.point, Path::new("/run/vetch/a b/ns/net"));
        assert_eq!(
            (mount.root.as_str(), mount.kind.as_str()),
            ("net:[4026532281]", "nsfs")
        );
        assert_eq!(Mount::parse("nonsense"), None);
    }

    #[test]
    fn the_own_mount_table_has_a_root() {
        let mounts = Mount::all("self").unwrap();
        assert!(mounts.iter().any(|mount| mount.point == Path::new("/")));
    }
}
