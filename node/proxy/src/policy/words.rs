//! By which rules exact sets decide, in a file: their names are in no map.
//!
//! The daemon writes it where it keeps its state, and leaves a link to it beside the
//! maps, where whoever reads those finds it. bpffs takes links, and no dots in names.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use tracing::warn;
use vetch_policy::Explained;

const LINK: &str = "policies";

#[derive(Debug)]
pub struct Words {
    /// None where nobody wants them.
    file: Option<PathBuf>,
    link: PathBuf,
    written: Option<Explained>,
}

impl Words {
    pub fn new(file: Option<PathBuf>, pin_dir: &Path) -> Self {
        Self {
            file,
            link: pin_dir.join(LINK),
            written: None,
        }
    }

    pub fn write(&mut self, explained: Explained) {
        if self.written.as_ref() == Some(&explained) {
            return;
        }
        let Some(file) = &self.file else { return };
        match write(file, &self.link, &explained) {
            Ok(()) => self.written = Some(explained),
            Err(error) => warn!(
                %error,
                file = %file.display(),
                "it cannot be written by which rules of AdminNetworkPolicies pods are held: `vetch-node policy` \
                 and `trace` do not say it"
            ),
        }
    }
}

fn write(file: &Path, link: &Path, explained: &Explained) -> io::Result<()> {
    let new = file.with_extension("new");
    fs::write(&new, serde_json::to_vec(explained)?)?;
    fs::rename(&new, file)?;
    if fs::read_link(link).is_ok_and(|to| to == file) {
        return Ok(());
    }
    match fs::remove_file(link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => symlink(file, link),
    }
}

/// Empty where no daemon has written any.
pub fn read(pin_dir: &Path) -> Explained {
    let read = fs::read(pin_dir.join(LINK));
    read.ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use vetch_policy::ExplainedSet;

    use super::*;

    #[test]
    fn what_is_written_is_read_beside_the_maps() {
        let dir = tempfile::tempdir().unwrap();
        let (file, pins) = (dir.path().join("policies.json"), dir.path().join("pins"));
        fs::create_dir(&pins).unwrap();
        assert_eq!(read(&pins), Explained::default());
        for number in [5, 6] {
            let explained = Explained {
                sets: vec![ExplainedSet {
                    egress: true,
                    number,
                    order: vec!["a rule".into()],
                    peers: Vec::new(),
                }],
            };
            // As a daemon that has just begun, and one that goes on.
            let mut words = Words::new(Some(file.clone()), &pins);
            for _ in 0..2 {
                words.write(explained.clone());
                assert_eq!(read(&pins), explained);
            }
        }
    }
}
