//! Replacing a volume's files as one: readers see the old set or the new one.
//!
//! ```text
//! <volume>/..2026_01_02_03_04_05.123/  the files
//! <volume>/..data -> ..2026_…          swapped by rename(2)
//! <volume>/<name> -> ..data/<name>     what containers see
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use super::VolumeError;
use super::payload::Payload;

const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";

/// Makes the volume's content `payload`; `stamp` names the new directory and
/// `finish` sets what else its files need. Whether anything was different.
pub fn write(
    volume: &Path,
    payload: &Payload,
    stamp: &str,
    finish: impl FnOnce(&Path) -> Result<(), VolumeError>,
) -> Result<bool, VolumeError> {
    let old = fs::read_link(volume.join(DATA)).ok();
    if let Some(old) = &old
        && holds(&volume.join(old), payload)
    {
        link_names(volume, payload)?;
        return Ok(false);
    }
    let name = format!("..{stamp}");
    let fresh = volume.join(&name);
    make_files(&fresh, payload)?;
    finish(&fresh)?;

    let new_data = volume.join(NEW_DATA);
    // One that an earlier daemon did not come to rename.
    remove_link(&new_data)?;
    symlink(&name, &new_data).map_err(VolumeError::io("linking", &new_data))?;
    let data = volume.join(DATA);
    fs::rename(&new_data, &data).map_err(VolumeError::io("renaming", &data))?;

    link_names(volume, payload)?;
    unlink_others(volume, payload, &name)?;
    Ok(true)
}

fn make_files(dir: &Path, payload: &Payload) -> Result<(), VolumeError> {
    fs::create_dir(dir).map_err(VolumeError::io("making", dir))?;
    set_mode(dir, 0o755)?;
    for (path, entry) in payload {
        let path = dir.join(path);
        if let Some(parent) = path.parent().filter(|parent| *parent != dir) {
            fs::create_dir_all(parent).map_err(VolumeError::io("making", parent))?;
        }
        fs::write(&path, &entry.data).map_err(VolumeError::io("writing", &path))?;
        set_mode(&path, entry.mode)?;
        if let Some(owner) = entry.owner {
            chown(&path, Some(owner), None).map_err(VolumeError::io("changing owner of", &path))?;
        }
    }
    Ok(())
}

/// Not what the umask leaves of it.
fn set_mode(path: &Path, mode: u32) -> Result<(), VolumeError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(VolumeError::io("changing mode of", path))
}

/// Whether the directory has these files, no others, with at least these modes
/// (a group may have been let in on top).
fn holds(dir: &Path, payload: &Payload) -> bool {
    let mut found = BTreeSet::new();
    if walk(dir, Path::new(""), &mut found).is_err() {
        return false;
    }
    found.len() == payload.len()
        && payload.iter().all(|(path, entry)| {
            let whole = dir.join(path);
            let same_meta = fs::metadata(&whole).is_ok_and(|meta| {
                meta.mode() & entry.mode == entry.mode && meta.uid() == entry.owner.unwrap_or(0)
            });
            found.contains(path)
                && same_meta
                && fs::read(&whole).is_ok_and(|data| data == entry.data)
        })
}

fn walk(dir: &Path, below: &Path, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            walk(dir, &path, found)?;
        } else {
            found.insert(path);
        }
    }
    Ok(())
}

fn top_names(payload: &Payload) -> BTreeSet<PathBuf> {
    payload
        .keys()
        .filter_map(|path| path.components().next())
        .map(|first| PathBuf::from(first.as_os_str()))
        .collect()
}

fn link_names(volume: &Path, payload: &Payload) -> Result<(), VolumeError> {
    for name in top_names(payload) {
        let path = volume.join(&name);
        match symlink(Path::new(DATA).join(&name), &path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(VolumeError::io("linking", &path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Names that are no longer there, and directories of earlier times.
fn unlink_others(volume: &Path, payload: &Payload, current: &str) -> Result<(), VolumeError> {
    let names = top_names(payload);
    let entries = fs::read_dir(volume).map_err(VolumeError::io("reading", volume))?;
    for entry in entries {
        let entry = entry.map_err(VolumeError::io("reading", volume))?;
        let (name, path) = (entry.file_name(), entry.path());
        if name == DATA || name == current || names.contains(Path::new(&name)) {
            continue;
        }
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_dir && name.to_string_lossy().starts_with("..") {
            fs::remove_dir_all(&path).map_err(VolumeError::io("removing", &path))?;
        } else if !is_dir {
            remove_link(&path)?;
        }
    }
    Ok(())
}

fn remove_link(path: &Path) -> Result<(), VolumeError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(VolumeError::io("removing", path)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
