//! What a machine's console and journal must never say. A pure reader, and the files it is fed.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// Words of the kernel and of libbpf-like loaders, and what they mean.
const SIGNS: [(&str, &str); 9] = [
    ("Kernel panic - not syncing", "kernel panic"),
    ("BUG: kernel NULL pointer", "kernel oops"),
    ("BUG: unable to handle", "kernel oops"),
    ("Oops: ", "kernel oops"),
    ("general protection fault", "kernel oops"),
    ("kernel BUG at", "kernel bug"),
    ("watchdog: BUG: soft lockup", "soft lockup"),
    ("Verifier output", "verifier rejection"),
    ("the kernel does not take the", "verifier rejection"),
];

/// How much follows the first line of a trouble.
const TOLD: usize = 40;

/// A trouble as it was printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub kind: &'static str,
    /// The line that shows it, with those that came after.
    pub text: String,
}

/// The first trouble in what was printed so far.
pub fn trouble(text: &str) -> Option<Trouble> {
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().enumerate().find_map(|(number, line)| {
        let (_, kind) = SIGNS.iter().find(|(sign, _)| line.contains(sign))?;
        let end = lines.len().min(number + TOLD);
        Some(Trouble {
            kind,
            text: lines[number..end].join("\n"),
        })
    })
}

/// The last lines of a file, at most as many as this; nothing of one that is not there.
pub fn end(path: &Path, most: usize) -> String {
    let said = std::fs::read(path).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(most)..].join("\n")
}

/// A file that grows.
#[derive(Debug)]
pub struct Watched {
    path: PathBuf,
    read: u64,
    /// What was not yet a whole line.
    rest: String,
}

impl Watched {
    pub fn new(path: &Path) -> Watched {
        Watched {
            path: path.to_owned(),
            read: 0,
            rest: String::new(),
        }
    }

    /// A trouble in what has been written since the last look.
    pub fn look(&mut self) -> Option<Trouble> {
        let mut file = File::open(&self.path).ok()?;
        file.seek(SeekFrom::Start(self.read)).ok()?;
        let mut bytes = Vec::new();
        self.read += file.read_to_end(&mut bytes).ok()? as u64;
        self.rest.push_str(&String::from_utf8_lossy(&bytes));
        let found = trouble(&self.rest);
        if found.is_none() {
            let whole = self.rest.rfind('\n').map_or(0, |end| end + 1);
            self.rest.drain(..whole);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn troubles_are_told_from_what_is_usual() {
        for (line, kind) in [
            (
                "[ 1.0] Kernel panic - not syncing: VFS: Unable to mount root fs",
                Some("kernel panic"),
            ),
            (
                "[ 9.1] BUG: kernel NULL pointer dereference, address: 0",
                Some("kernel oops"),
            ),
            ("[ 9.1] Oops: 0002 [#1] PREEMPT SMP", Some("kernel oops")),
            (
                "vetch-node: the kernel does not take the program connect4: …",
                Some("verifier rejection"),
            ),
            (
                "[ 2.2] Memory cgroup out of memory: Killed process 812 (sh)",
                None,
            ),
            ("[ 0.0] Kernel command line: panic=0 quiet", None),
            ("systemd[1]: Reached target Multi-User System", None),
        ] {
            let found = trouble(line).map(|trouble| trouble.kind);
            assert_eq!(found, kind, "{line}");
        }
    }

    #[test]
    fn the_text_begins_with_the_sign_and_goes_on() {
        let text = "usual\nOops: 0000\n RIP: somewhere\n";
        assert_eq!(trouble(text).unwrap().text, "Oops: 0000\n RIP: somewhere");
    }

    #[test]
    fn the_end_is_the_last_lines_that_say_something() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "one\r\n\ntwo\n  \nthree\n").unwrap();
        assert_eq!(end(file.path(), 2), "two\nthree");
        assert_eq!(end(file.path(), 9), "one\ntwo\nthree");
        assert_eq!(end(Path::new("/nowhere/at/all"), 9), "");
    }

    #[test]
    fn a_growing_file_is_read_once() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut watched = Watched::new(file.path());
        assert_eq!(watched.look(), None);
        write!(file, "fine\nKernel pan").unwrap();
        assert_eq!(watched.look(), None);
        writeln!(file, "ic - not syncing: dead").unwrap();
        assert_eq!(watched.look().unwrap().kind, "kernel panic");
    }
}
