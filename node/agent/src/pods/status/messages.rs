//! What a container leaves to say about its end.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use k8s_openapi::api::core::v1::ContainerStatus as ApiStatus;
use vetch_runtime::{ContainerId, ContainerStatus};

use crate::pods::container::{MESSAGE_PATH, MESSAGE_POLICY};

/// Of the file.
const MAX_MESSAGE: u64 = 4096;
/// Of the log, where that is asked for.
const MAX_LOG: usize = 2048;
const MAX_LOG_LINES: usize = 80;
/// Of all containers of a pod together.
const MAX_POD: usize = 12 * 1024;

pub type TerminationMessages = HashMap<ContainerId, String>;

/// Of a container that exited; `log` is its log file. Empty when there is none.
pub fn read(status: &ContainerStatus, log: &Path) -> String {
    let policy = status.annotations.get(MESSAGE_POLICY);
    let fall_back = policy.is_some_and(|policy| policy == "FallbackToLogsOnError")
        && status.exit_code != Some(0)
        && status.started_at.is_some();
    let message = match status.annotations.get(MESSAGE_PATH) {
        Some(path) => match tail(Path::new(path), MAX_MESSAGE) {
            Ok(message) => message,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return format!("Error on reading termination log {path}: {error}"),
        },
        None => String::new(),
    };
    if !message.is_empty() || !fall_back {
        return message;
    }
    // Entries are a little longer than their lines.
    match tail(log, 4 * MAX_LOG as u64) {
        Ok(entries) => last_lines(&entries),
        Err(error) => format!("Error on reading termination message from logs: {error}"),
    }
}

fn tail(path: &Path, most: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The text of the last CRI log entries.
fn last_lines(entries: &str) -> String {
    let lines: Vec<String> = entries.lines().filter_map(line).collect();
    let from = lines.len().saturating_sub(MAX_LOG_LINES);
    let text = lines[from..].concat();
    let from = text.len().saturating_sub(MAX_LOG);
    text[text.ceil_char_boundary(from)..].to_owned()
}

/// `time stream tag text`; a partial one (`P`) goes on in the next.
fn line(entry: &str) -> Option<String> {
    let mut fields = entry.splitn(4, ' ');
    let (_time, _stream, tag) = (fields.next()?, fields.next()?, fields.next()?);
    let text = fields.next().unwrap_or_default();
    match tag {
        "P" => Some(text.to_owned()),
        "F" => Some(format!("{text}\n")),
        _ => None,
    }
}

/// Cuts what is too long for one object.
pub fn limit(lists: [&mut [ApiStatus]; 3]) {
    let count: usize = lists.iter().map(|list| list.len()).sum();
    if count == 0 {
        return;
    }
    let most = MAX_POD / count;
    for status in lists.into_iter().flatten() {
        for state in [&mut status.state, &mut status.last_state] {
            let terminated = state.as_mut().and_then(|state| state.terminated.as_mut());
            if let Some(message) = terminated.and_then(|ended| ended.message.as_mut()) {
                message.truncate(message.floor_char_boundary(most));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use vetch_runtime::ContainerState;

    use super::*;

    #[test]
    fn from_the_file_and_from_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let (file, log) = (dir.path().join("message"), dir.path().join("0.log"));
        let entries = "2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:01Z stderr P tw\n2026-01-01T00:00:01Z stderr F o\n";
        std::fs::write(&log, entries).unwrap();
        for (said, policy, exit_code, want) in [
            ("words", "File", 1, "words"),
            ("", "File", 1, ""),
            ("", "FallbackToLogsOnError", 1, "one\ntwo\n"),
            ("", "FallbackToLogsOnError", 0, ""),
            ("words", "FallbackToLogsOnError", 1, "words"),
        ] {
            std::fs::write(&file, said).unwrap();
            let status = ContainerStatus {
                id: ContainerId("c".into()),
                name: "c".into(),
                attempt: 0,
                state: ContainerState::Exited,
                image: String::new(),
                image_id: String::new(),
                pid: None,
                created_at: Timestamp::UNIX_EPOCH,
                started_at: Some(Timestamp::UNIX_EPOCH),
                finished_at: None,
                exit_code: Some(exit_code),
                signal: None,
                reason: None,
                message: None,
                log_path: "c/0.log".into(),
                labels: Default::default(),
                annotations: [
                    (MESSAGE_PATH.to_owned(), file.display().to_string()),
                    (MESSAGE_POLICY.to_owned(), policy.to_owned()),
                ]
                .into(),
                user: None,
            };
            assert_eq!(read(&status, &log), want, "{said:?} {policy} {exit_code}");
        }
    }

    #[test]
    fn only_the_end_of_what_is_long() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("message");
        std::fs::write(&file, format!("{}end", "x".repeat(5000))).unwrap();
        let text = tail(&file, MAX_MESSAGE).unwrap();
        assert!(text.len() == 4096 && text.ends_with("xend"));
        let entries: String = (0..100).map(|n| format!("t stdout F line {n}\n")).collect();
        let lines = last_lines(&entries);
        assert!(lines.starts_with("line 20\n") && lines.ends_with("line 99\n"));
    }
}
