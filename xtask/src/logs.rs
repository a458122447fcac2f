//! The daemons' logs, readable and told apart by their part's name.

use std::fs::File;
use std::io::{IsTerminal as _, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::inotify;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::service::{Part, parts};
use crate::signals::{Signals, Woken};

/// Prints what is there, and with `follow` what comes.
pub fn print(cluster: &Cluster, part: Option<&Part>, follow: bool) -> Result<()> {
    let wanted = match part {
        Some(part) => vec![part.clone()],
        None => parts(&cluster.state()?),
    };
    let mut follower = Follower::new(cluster, &wanted, Start::Beginning)?;
    follower.print_new()?;
    if !follow {
        return Ok(());
    }
    let signals = Signals::hold()?;
    while signals.wait(follower.as_fd())? == Woken::Ready {
        follower.drain_events();
        follower.print_new()?;
    }
    Ok(())
}

/// The last `count` lines of a log, as people read them.
pub fn tail(path: &Path, from: u64, count: usize) -> String {
    let mut text = Vec::new();
    if let Ok(mut file) = File::open(path) {
        let _ = file.seek(SeekFrom::Start(from));
        let _ = file.read_to_end(&mut text);
    }
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<String> = text.lines().map(readable).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Beginning,
    End,
}

/// Reads several logs as they grow.
#[derive(Debug)]
pub struct Follower {
    logs: Vec<Log>,
    events: OwnedFd,
    colours: bool,
}

#[derive(Debug)]
struct Log {
    part: String,
    path: PathBuf,
    position: u64,
    /// A line whose end is not yet written.
    unfinished: Vec<u8>,
}

impl Follower {
    pub fn new(cluster: &Cluster, parts: &[Part], start: Start) -> Result<Follower> {
        let events = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
            .context("watch files")?;
        let follower = Follower {
            logs: parts
                .iter()
                .map(|part| {
                    let path = cluster.log(part);
                    let length = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
                    Log {
                        part: part.to_string(),
                        position: if start == Start::End { length } else { 0 },
                        path,
                        unfinished: Vec::new(),
                    }
                })
                .collect(),
            events,
            colours: std::io::stdout().is_terminal(),
        };
        follower.watch(&cluster.paths.logs())?;
        Ok(follower)
    }

    /// Also wakes when this file, or one in this directory, changes.
    pub fn watch(&self, path: &Path) -> Result<()> {
        let flags = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE;
        inotify::add_watch(&self.events, path, flags)
            .with_context(|| format!("watch {}", path.display()))?;
        Ok(())
    }

    pub fn drain_events(&self) {
        let mut buffer = [0; 4096];
        while rustix::io::read(&self.events, &mut buffer).is_ok_and(|length| length > 0) {}
    }

    pub fn print_new(&mut self) -> Result<()> {
        let width = self
            .logs
            .iter()
            .map(|log| log.part.len())
            .max()
            .unwrap_or(0);
        let mut out = std::io::stdout().lock();
        for (number, log) in self.logs.iter_mut().enumerate() {
            for line in log.new_lines()? {
                let line = readable(&line);
                let part = &log.part;
                let written = if self.colours {
                    // 31 to 36 are the terminal's colours without black and white.
                    let colour = 31 + (number + 1) % 6;
                    writeln!(out, "\x1b[{colour}m{part:width$} |\x1b[0m {line}")
                } else {
                    writeln!(out, "{part:width$} | {line}")
                };
                written.context("print")?;
            }
        }
        Ok(())
    }
}

impl AsFd for Follower {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

impl Log {
    fn new_lines(&mut self) -> Result<Vec<String>> {
        let Ok(mut file) = File::open(&self.path) else {
            return Ok(Vec::new());
        };
        if file.metadata()?.len() < self.position {
            // Emptied by hand.
            self.position = 0;
        }
        file.seek(SeekFrom::Start(self.position))?;
        let read = file.read_to_end(&mut self.unfinished)?;
        self.position += read as u64;
        let mut lines = Vec::new();
        if let Some(last) = self.unfinished.iter().rposition(|byte| *byte == b'\n') {
            let rest = self.unfinished.split_off(last + 1);
            let whole = String::from_utf8_lossy(&self.unfinished).into_owned();
            lines.extend(whole.lines().map(str::to_owned));
            self.unfinished = rest;
        }
        Ok(lines)
    }
}

/// etcd writes JSON objects: level and message first, then the rest. Other lines stay as they are.
fn readable(line: &str) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::from_str(line) else {
        return line.to_owned();
    };
    let mut take = |key: &str| match fields.remove(key) {
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let (time, level, message) = (take("ts"), take("level"), take("msg"));
    take("caller");
    let mut text = format!("{time} {:>5} {message}", level.to_uppercase());
    for (key, value) in fields {
        match value {
            Value::String(value) => text.push_str(&format!(" {key}={value}")),
            value => text.push_str(&format!(" {key}={value}")),
        }
    }
    text.trim_start().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_becomes_a_sentence_and_the_rest_stays() {
        for (line, words) in [
            (
                r#"{"level":"warn","ts":"2026-01-01T00:00:00.000Z","caller":"a/b.go:1","msg":"slow","took":"3s","n":2}"#,
                "2026-01-01T00:00:00.000Z  WARN slow n=2 took=3s",
            ),
            ("  plain text", "  plain text"),
            ("[1, 2]", "[1, 2]"),
            ("", ""),
        ] {
            assert_eq!(readable(line), words);
        }
    }

    #[test]
    fn only_whole_new_lines_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log {
            part: "a".into(),
            path: path.clone(),
            position: 0,
            unfinished: Vec::new(),
        };
        assert!(log.new_lines().unwrap().is_empty());
        std::fs::write(&path, "one\ntwo\nthr").unwrap();
        assert_eq!(log.new_lines().unwrap(), ["one", "two"]);
        File::options()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"ee\n")
            .unwrap();
        assert_eq!(log.new_lines().unwrap(), ["three"]);
        std::fs::write(&path, "new\n").unwrap();
        assert_eq!(log.new_lines().unwrap(), ["new"]);
        assert_eq!(tail(&path, 0, 5), "new");
    }
}
