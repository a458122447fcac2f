//! Owner, mode, times and attributes of a layer's entry.

use std::io::{self, Read};

use rustix::fs::{Mode, Timespec, Timestamps};
use tar::Entry;

use super::invalid;

pub struct Metadata {
    pub uid: u32,
    pub gid: u32,
    pub mode: Mode,
    pub mtime: i64,
    pub xattrs: Vec<(String, Vec<u8>)>,
}

/// What a header and its extensions say, with what must not be applied left out.
pub fn read<R: Read>(entry: &mut Entry<'_, R>) -> io::Result<Metadata> {
    let mut xattrs = Vec::new();
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions {
            let extension = extension?;
            let Some(name) = extension
                .key()
                .ok()
                .and_then(|key| key.strip_prefix("SCHILY.xattr."))
            else {
                continue;
            };
            // Not overlayfs's own, which would lead elsewhere.
            if name == "security.capability" || name.starts_with("user.") {
                xattrs.push((name.to_owned(), extension.value_bytes().to_vec()));
            }
        }
    }
    let header = entry.header();
    let id = |id: u64| u32::try_from(id).map_err(|_| invalid("user or group id"));
    let raw = header.as_old();
    Ok(Metadata {
        uid: id(number(&raw.uid, || header.uid())?)?,
        gid: id(number(&raw.gid, || header.gid())?)?,
        mode: Mode::from_raw_mode(number(&raw.mode, || header.mode())? & 0o7777),
        mtime: i64::try_from(number(&raw.mtime, || header.mtime())?).unwrap_or(0),
        xattrs,
    })
}

/// A field of the header that nobody filled is zero, as Go's archive/tar reads it: builders leave
/// out owners and times.
fn number<T: Default>(raw: &[u8], parse: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    if raw.iter().all(|byte| matches!(byte, 0 | b' ')) {
        return Ok(T::default());
    }
    parse()
}

pub fn times(mtime: i64) -> Timestamps {
    let time = Timespec {
        tv_sec: mtime,
        tv_nsec: 0,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}
