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
    Ok(Metadata {
        uid: id(header.uid()?)?,
        gid: id(header.gid()?)?,
        mode: Mode::from_raw_mode(header.mode()? & 0o7777),
        mtime: i64::try_from(header.mtime()?).unwrap_or(0),
        xattrs,
    })
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
