//! The mounts of the calling thread: proc_pid_mountinfo(5).

use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

const PATH: &str = "/proc/thread-self/mountinfo";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub id: u64,
    pub point: PathBuf,
    /// New mounts on it appear elsewhere too.
    pub shared: bool,
}

/// In the order in which they were made.
pub fn all() -> Result<Vec<Mount>> {
    let text = fs::read_to_string(PATH).with_context(|| format!("read {PATH}"))?;
    Ok(text.lines().filter_map(parse).collect())
}

/// The one `path` is on.
pub fn holding(path: &Path) -> Result<Mount> {
    let stat = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID)
        .with_context(|| format!("look at {}", path.display()))?;
    all()?
        .into_iter()
        .find(|mount| mount.id == stat.stx_mnt_id)
        .with_context(|| format!("{} is on no mount of {PATH}", path.display()))
}

fn parse(line: &str) -> Option<Mount> {
    let (fields, _) = line.split_once(" - ")?;
    let mut fields = fields.split(' ');
    let id = fields.next()?.parse().ok()?;
    let point = unescape(fields.nth(3)?);
    let shared = fields.any(|field| field.starts_with("shared:"));
    Some(Mount { id, point, shared })
}

/// Blanks and the like are three octal digits.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|_| first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(octal.unwrap_or(first));
        rest = if octal.is_some() { &after[3..] } else { after };
    }
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let mount = |id, point: &str, shared| Mount {
            id,
            point: point.into(),
            shared,
        };
        for (line, want) in [
            (
                "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw",
                mount(27, "/", false),
            ),
            (
                "36 27 0:33 / /run/a\\040b rw shared:7 master:2 - tmpfs tmpfs rw",
                mount(36, "/run/a b", true),
            ),
            (
                "37 27 0:3 net:[1] /n rw master:9 - nsfs nsfs rw",
                mount(37, "/n", false),
            ),
        ] {
            assert_eq!(parse(line), Some(want));
        }
        assert_eq!(parse("rubbish"), None);
    }

    #[test]
    fn this_thread_has_a_root() {
        assert_eq!(holding(Path::new("/")).unwrap().point, Path::new("/"));
        assert_eq!(
            holding(Path::new("/proc/self")).unwrap().point,
            Path::new("/proc")
        );
    }
}
