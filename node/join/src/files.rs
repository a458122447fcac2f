//! What a node keeps of its cluster: a kubeconfig, its certificate, its settings.
//!
//! ```text
//! <dir>/node.kubeconfig                  0600; names the certificate by its path
//! <dir>/node.env                         NAME=value, read by the unit
//! <dir>/pki/node-client-current.pem      → the certificate with its key, in one file: both or neither are new
//! <dir>/pki/node-client-TIME.pem         this one and the one before it, 0600
//! ```

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::certificate::Certificate;

pub(crate) const CURRENT: &str = "node-client-current.pem";
const PREFIX: &str = "node-client-";

#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {path}", path = path.display())]
pub struct FileError {
    step: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError { step, path, source }
}

/// Where a node keeps it.
#[derive(Clone, Debug)]
pub struct Places {
    /// `/etc/vetch`
    dir: PathBuf,
}

impl Places {
    pub fn at(dir: &Path) -> Places {
        Places {
            dir: dir.to_owned(),
        }
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.join("node.kubeconfig")
    }

    pub fn env(&self) -> PathBuf {
        self.dir.join("node.env")
    }

    pub(crate) fn pki(&self) -> PathBuf {
        self.dir.join("pki")
    }

    /// Replaces the kubeconfig at one instant.
    pub(crate) fn write_kubeconfig(&self, text: &str) -> Result<(), FileError> {
        fs::create_dir_all(&self.dir).map_err(failed("make", &self.dir))?;
        replace(&self.kubeconfig(), text.as_bytes(), 0o600)
    }

    /// Sets these names in the settings, and leaves the others as they are.
    pub fn write_env(&self, settings: &[(&str, &str)]) -> Result<(), FileError> {
        let path = self.env();
        let known = match fs::read_to_string(&path) {
            Ok(known) => known,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        fs::create_dir_all(&self.dir).map_err(failed("make", &self.dir))?;
        replace(&path, merged_env(&known, settings).as_bytes(), 0o644)
    }
}

/// The file of an EnvironmentFile= with these names set: in their places, or at the end.
pub fn merged_env(known: &str, settings: &[(&str, &str)]) -> String {
    let named = |line: &str| line.split_once('=').map(|(name, _)| name.trim().to_owned());
    let mut left: Vec<&(&str, &str)> = settings.iter().collect();
    let mut text = String::new();
    for line in known.lines() {
        let name = named(line).unwrap_or_default();
        match settings.iter().find(|(own, _)| *own == name) {
            None => text.push_str(&format!("{line}\n")),
            // One that is there twice would win over ours.
            Some((own, value)) => {
                if let Some(at) = left.iter().position(|(wanted, _)| wanted == own) {
                    left.remove(at);
                    text.push_str(&format!("{own}={value}\n"));
                }
            }
        }
    }
    for (name, value) in left {
        text.push_str(&format!("{name}={value}\n"));
    }
    text
}

/// What `CURRENT` in this directory is now, PEM; None: nothing that can be read.
pub(crate) fn current(pki: &Path) -> Option<(Vec<u8>, Certificate)> {
    let pem = fs::read(pki.join(CURRENT)).ok()?;
    let certificate = Certificate::of_pem(&pem)?;
    Some((pem, certificate))
}

/// Makes this the current one. The one before stays beside it until the next.
pub(crate) fn keep(pki: &Path, pem: &str, now: Timestamp) -> Result<(), FileError> {
    fs::create_dir_all(pki).map_err(failed("make", pki))?;
    let before = fs::read_link(pki.join(CURRENT)).ok();
    let name = PathBuf::from(format!(
        "{PREFIX}{}.pem",
        now.strftime("%Y-%m-%d-%H-%M-%S%.9f")
    ));
    replace(&pki.join(&name), pem.as_bytes(), 0o600)?;
    let link = pki.join(format!(".{CURRENT}"));
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(&name, &link).map_err(failed("write", &link))?;
    let current = pki.join(CURRENT);
    fs::rename(&link, &current).map_err(failed("write", &current))?;
    sync_dir(pki);
    let kept = [Some(name), before, Some(CURRENT.into())];
    for entry in fs::read_dir(pki).into_iter().flatten().flatten() {
        let own = PathBuf::from(entry.file_name());
        let ours = own.to_string_lossy().starts_with(PREFIX);
        if ours && !kept.iter().flatten().any(|kept| *kept == own) {
            // Left over is a file, not a fault.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// Whole or not at all, also when the power fails.
fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    let temporary = path.with_file_name(name);
    let _ = fs::remove_file(&temporary);
    let mut file = fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(mode)
        .open(&temporary)
        .map_err(failed("write", &temporary))?;
    file.write_all(content)
        .and_then(|()| file.sync_all())
        .map_err(failed("write", &temporary))?;
    fs::rename(&temporary, path).map_err(failed("write", path))?;
    if let Some(dir) = path.parent() {
        sync_dir(dir);
    }
    Ok(())
}

/// File systems that cannot do it lose nothing but time.
fn sync_dir(dir: &Path) {
    if let Ok(dir) = fs::File::open(dir) {
        let _ = dir.sync_all();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn pem(user: &str) -> String {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, user);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        format!("{}{}", certificate.pem(), key.serialize_pem())
    }

    #[test]
    fn settings_are_set_and_others_stay() {
        for (known, wanted) in [
            ("", "A=1\nB=2\n"),
            ("C=3\n", "C=3\nA=1\nB=2\n"),
            ("# mine\nB=9\nC=3", "# mine\nB=2\nC=3\nA=1\n"),
            ("A=8\nB=2\nA=9\n", "A=1\nB=2\n"),
            ("AA=5\n#A=6\n", "AA=5\n#A=6\nA=1\nB=2\n"),
        ] {
            assert_eq!(
                merged_env(known, &[("A", "1"), ("B", "2")]),
                wanted,
                "{known:?}"
            );
        }
        let again = merged_env("A=1\nB=2\n", &[("A", "1"), ("B", "2")]);
        assert_eq!(again, "A=1\nB=2\n");
    }

    #[test]
    fn the_current_certificate_is_replaced_at_once_and_the_last_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let pki = dir.path().join("pki");
        assert!(current(&pki).is_none());
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        for (number, second) in [("one", 1), ("two", 2), ("three", 3)] {
            keep(&pki, &pem(number), at(second)).unwrap();
            assert_eq!(current(&pki).unwrap().1.user, number);
        }
        let mut files: Vec<String> = fs::read_dir(&pki)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        assert_eq!(
            files.len(),
            3,
            "this one, the last one, the link: {files:?}"
        );
        assert!(
            files[0].contains("00-00-02") && files[1].contains("00-00-03"),
            "{files:?}"
        );
        for file in &files {
            let mode = fs::metadata(pki.join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        fs::write(pki.join(CURRENT), "rubbish").unwrap();
        assert!(current(&pki).is_none());
    }
}
