//! The AppArmor profile of the program that comes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};

use vetch_shim::protocol::Bundle;

use crate::failure::{Context, Failure};

/// Of AppArmor alone since Linux 5.8; before, of the one security module that had it.
const FILES: [&str; 2] = [
    "/proc/thread-self/attr/apparmor/exec",
    "/proc/thread-self/attr/exec",
];

/// Where the kernel is told. Only the process that opened it can tell it.
pub struct Confinement<'a>(Option<(&'a str, File)>);

impl Confinement<'_> {
    /// Opened in the node's /proc, by the process that will exec: what is mounted at the container's
    /// may be anything.
    pub fn of(bundle: &Bundle) -> Result<Confinement<'_>, Failure> {
        let Some(name) = bundle.apparmor.as_deref() else {
            return Ok(Confinement(None));
        };
        let file = open().context(|| format!("AppArmor profile {name:?}"))?;
        Ok(Confinement(Some((name, file))))
    }

    /// From the next exec on: what is done before it is not confined.
    pub fn set_on_exec(self) -> Result<(), Failure> {
        let Some((name, mut file)) = self.0 else {
            return Ok(());
        };
        // In one write, or the kernel takes a part for the whole.
        let word = format!("exec {name}");
        let written = file.write(word.as_bytes());
        let whole = written.and_then(|length| match length == word.len() {
            true => Ok(()),
            false => Err(io::ErrorKind::WriteZero.into()),
        });
        whole.context(|| format!("AppArmor profile {name:?}"))
    }
}

fn open() -> io::Result<File> {
    let write = |path| OpenOptions::new().write(true).open(path);
    match write(FILES[0]) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => write(FILES[1]),
        opened => opened,
    }
}
