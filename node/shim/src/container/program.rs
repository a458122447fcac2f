//! Finding the program and becoming it; errors in runc's words.

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use vetch_shim::protocol::Filter;

use crate::failure::{Context, Failure, words};
use crate::sys;

#[derive(Debug)]
pub struct Program(String);

pub fn find(args: &[String], env: &[(String, String)]) -> Result<Program, Failure> {
    let Some(name) = args.first() else {
        return Err(Failure("no command specified".into()));
    };
    if name.contains('/') {
        return match executable(name) {
            Ok(()) => Ok(Program(name.clone())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Failure(format!(
                "exec: {name:?}: stat {name}: {}",
                words(&error)
            ))),
            Err(error) => Err(Failure(format!("exec: {name:?}: {}", words(&error)))),
        };
    }
    let path = env
        .iter()
        .rev()
        .find(|(key, _)| key == "PATH")
        .map_or("", |(_, value)| value.as_str());
    let mut refused = None;
    for dir in path.split(':') {
        let dir = if dir.is_empty() { "." } else { dir };
        let candidate = format!("{dir}/{name}");
        match executable(&candidate) {
            Ok(()) => return Ok(Program(candidate)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => refused = Some(error),
            Err(_) => {}
        }
    }
    Err(Failure(match refused {
        Some(error) if !name.is_empty() => format!("exec: {name:?}: {}", words(&error)),
        _ => format!("exec: {name:?}: executable file not found in $PATH"),
    }))
}

fn executable(path: &str) -> io::Result<()> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    // Root without any x bit may not either.
    if metadata.mode() & 0o111 == 0 {
        return Err(io::Error::from_raw_os_error(libc::EACCES));
    }
    accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)?;
    Ok(())
}

impl Program {
    /// `filter` is set at the last moment, so that it judges the program alone:
    /// it has to let execve through, and sendto where a failure is to be told.
    pub fn exec(
        &self,
        args: &[String],
        env: &[(String, String)],
        filter: Option<&Filter>,
    ) -> Result<Infallible, Failure> {
        let text = |value: String| {
            CString::new(value).map_err(|_| Failure("a zero byte in args or env".into()))
        };
        let path = text(self.0.clone())?;
        let args = args
            .iter()
            .cloned()
            .map(text)
            .collect::<Result<Vec<_>, _>>()?;
        let env = env
            .iter()
            .map(|(name, value)| text(format!("{name}={value}")))
            .collect::<Result<Vec<_>, _>>()?;
        if let Some(filter) = filter {
            sys::filter_calls(filter).context(|| "seccomp filter".into())?;
        }
        nix::unistd::execve(&path, &args, &env)
            .map_err(|error| Failure(format!("exec {}: {}", self.0, words(&error.into()))))
    }
}

/// Adds variables; one that is there already gets the new value in its place.
pub fn merge_env(env: &mut Vec<(String, String)>, more: &[(String, String)]) {
    for (name, value) in more {
        match env.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => old.clone_from(value),
            None => env.push((name.clone(), value.clone())),
        }
    }
}
