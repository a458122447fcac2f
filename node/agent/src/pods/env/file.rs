//! Variables from files that an init container wrote (KEP-3721).
//!
//! The format is Kubernetes' own, a small part of a shell's: `NAME='value'`,
//! where a value may go on over lines and is what stands there; lines that begin
//! with `#`, and what follows one after a value, are comments. A name with a
//! blank before its value, as in a shell, has none. What is empty counts as not
//! there. <https://kubernetes.io/docs/reference/node/env-file-format/>

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, FileKeySelector};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use vetch_runtime::resolve::openat2;

use crate::pods::volumes::MountedVolumes;

/// Nobody needs more variables, and the file is a container's.
const LARGEST: u64 = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error("line {line}: {what}")]
    Line { line: usize, what: &'static str },
    #[error("line {0}: a quote without an end")]
    Open(usize),
}

const BLANKS: [char; 2] = [' ', '\t'];

/// The value of `key`, `None` where it is not there or empty. What stands after
/// it is not looked at.
pub fn value(text: &str, key: &str) -> Result<Option<String>, FormatError> {
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let line = line.trim_start_matches(BLANKS);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |line: usize, what| FormatError::Line {
            line: line + 1,
            what,
        };
        let (name, rest) = line.split_once('=').ok_or(wrong(index, "no '='"))?;
        if name.is_empty() {
            return Err(wrong(index, "no name"));
        }
        if name.ends_with(BLANKS) {
            return Err(wrong(index, "a blank before '='"));
        }
        if rest.starts_with(BLANKS) {
            if name == key {
                return Ok(None);
            }
            continue;
        }
        let rest = rest
            .strip_prefix('\'')
            .ok_or(wrong(index, "a value without single quotes"))?;
        let mut value = String::new();
        let (mut at, mut rest) = (index, rest);
        let after = loop {
            if let Some((last, after)) = rest.split_once('\'') {
                value.push_str(last);
                break after.trim_start_matches(BLANKS);
            }
            value.push_str(rest);
            value.push('\n');
            (at, rest) = lines.next().ok_or(FormatError::Open(index + 1))?;
        };
        if !after.is_empty() && !after.starts_with('#') {
            return Err(wrong(at, "something after the quote"));
        }
        if name == key {
            return Ok(Some(value).filter(|value| !value.is_empty()));
        }
    }
    Ok(None)
}

/// A file of variables that a container refers to: in which volume, and where
/// there.
pub type Place = (String, String);

/// Of all places in volumes that are there: the text, or why it cannot be read.
#[derive(Clone, Debug, Default)]
pub struct Files(BTreeMap<Place, (PathBuf, Result<String, String>)>);

impl Files {
    pub fn get(&self, reference: &FileKeySelector) -> Option<(&Path, Result<&str, &str>)> {
        let place = (reference.volume_name.clone(), reference.path.clone());
        let (path, text) = self.0.get(&place)?;
        Some((path, text.as_deref().map_err(String::as_str)))
    }
}

/// What a container's variables are read from.
pub fn places(container: &Container) -> Vec<Place> {
    let sources = container.env.iter().flatten();
    let files = sources.filter_map(|variable| variable.value_from.as_ref()?.file_key_ref.as_ref());
    files
        .map(|file| (file.volume_name.clone(), file.path.clone()))
        .collect()
}

/// Blocks on disks.
pub fn read_all(places: Vec<Place>, volumes: &MountedVolumes) -> Files {
    let found = places.into_iter().filter_map(|place| {
        let volume = &volumes.get(&place.0)?.path;
        let text = read(volume, &place.1).map_err(|error| error.to_string());
        let path = volume.join(&place.1);
        Some((place, (path, text)))
    });
    Files(found.collect())
}

/// A regular file of a volume; wherever links in it point, they stay inside.
fn read(volume: &Path, path: &str) -> io::Result<String> {
    let root = File::open(volume)?;
    // A pipe has no end to wait for.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = File::from(openat2(
        &root,
        path.as_ref(),
        flags,
        Mode::empty(),
        resolve,
    )?);
    let meta = file.metadata()?;
    if !meta.is_file() || meta.len() > LARGEST {
        return Err(io::Error::other("no file of variables, or a too large one"));
    }
    let mut text = String::new();
    file.take(LARGEST).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn values_of_keys() {
        let line = |line, what| Err(FormatError::Line { line, what });
        let found = |text: &str| Ok(Some(text.to_owned()));
        for (text, want) in [
            ("K='v'", found("v")),
            ("  K='v'  # why\n", found("v")),
            (
                "# K='c'\n\nJ='1'\n\tK='it is $HOME\\n # here'\n",
                found("it is $HOME\\n # here"),
            ),
            ("K='one\n  two'\n", found("one\n  two")),
            ("J='K='\nK='v'", found("v")),
            ("J='\nK='", Ok(None)),
            ("K='first'\nK='second'\nbroken", found("first")),
            ("K= 'v'", Ok(None)),
            ("J= x\nK='v'", found("v")),
            ("K=''", Ok(None)),
            ("J='v'", Ok(None)),
            ("", Ok(None)),
            ("K", line(1, "no '='")),
            ("\n='v'", line(2, "no name")),
            ("K ='v'", line(1, "a blank before '='")),
            ("K=v", line(1, "a value without single quotes")),
            ("K=\"v\"", line(1, "a value without single quotes")),
            ("K='v'w", line(1, "something after the quote")),
            ("J='a\nb'c\nK='v'", line(2, "something after the quote")),
            ("\nK='v\n", Err(FormatError::Open(2))),
        ] {
            assert_eq!(value(text, "K"), want, "{text:?}");
        }
    }

    #[test]
    fn links_stay_in_the_volume() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        fs::create_dir_all(volume.join("in")).unwrap();
        fs::write(dir.path().join("a.env"), "out").unwrap();
        fs::write(volume.join("a.env"), "own").unwrap();
        symlink("/a.env", volume.join("absolute")).unwrap();
        symlink("../../a.env", volume.join("in/up")).unwrap();
        symlink("/etc/passwd", volume.join("host")).unwrap();
        for (path, want) in [
            ("a.env", Some("own")),
            ("absolute", Some("own")),
            ("in/up", Some("own")),
            ("host", None),
            ("in", None),
            ("none", None),
        ] {
            assert_eq!(read(&volume, path).ok().as_deref(), want, "{path}");
        }
    }
}
