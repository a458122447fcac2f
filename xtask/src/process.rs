//! Processes: starting them, finding them, what they are.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// This program once more. The path stays right also after a build has replaced the file.
pub fn own_command() -> Command {
    Command::new("/proc/self/exe")
}

/// `PATH` with what root's may lack: Debian's system tools, and what `cargo install` installs.
pub fn search_path() -> OsString {
    let given = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&given).collect();
    let cargo = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let more = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
    for dir in cargo.map(|home| home.join("bin")).into_iter().chain(more) {
        if !dirs.contains(&dir) {
            dirs.push(dir);
        }
    }
    std::env::join_paths(dirs).unwrap_or(given)
}

/// The program of this name that would be run.
pub fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&search_path())
        .map(|dir| dir.join(program))
        .find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o111 != 0)
}

/// Leaves out what cargo and nextest tell their children, so that a daemon is the same however it
/// was started.
pub fn daemon_environment(program: &mut Command) {
    program.env("PATH", search_path());
    for (key, _) in std::env::vars_os() {
        if is_of_the_builder(&key.to_string_lossy()) {
            program.env_remove(key);
        }
    }
}

fn is_of_the_builder(key: &str) -> bool {
    ["CARGO", "RUSTUP", "RUSTC", "NEXTEST", "VETCH_", "__CARGO"]
        .iter()
        .any(|prefix| key.starts_with(prefix))
        || key == "LD_LIBRARY_PATH"
}

/// The pids of all processes; those that end meanwhile may be among them.
pub fn all() -> Vec<i32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The name of the program, as ps shows it.
pub fn program_name(pid: i32) -> Option<String> {
    Some(
        fs::read_to_string(format!("/proc/{pid}/comm"))
            .ok()?
            .trim_end()
            .to_owned(),
    )
}

pub fn arguments(pid: i32) -> Vec<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

pub fn is_zombie(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before it may hold blanks and brackets.
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with('Z'))
}

/// Does the process run the file that is now at `program`?
pub fn runs_file(pid: i32, program: &Path) -> bool {
    let same = |one: fs::Metadata, other: fs::Metadata| {
        (one.dev(), one.ino()) == (other.dev(), other.ino())
    };
    let running = fs::metadata(format!("/proc/{pid}/exe"));
    running.is_ok_and(|running| fs::metadata(program).is_ok_and(|file| same(running, file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found() {
        let pid = i32::try_from(std::process::id()).unwrap();
        assert!(all().contains(&pid));
        assert!(!is_zombie(pid));
        assert!(arguments(pid)[0].contains("xtask"));
        assert!(runs_file(pid, &std::env::current_exe().unwrap()));
        assert!(!runs_file(pid, Path::new("/bin/sh")));
    }

    #[test]
    fn system_tools_are_found_whatever_path_says() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-such-program"), None);
        let path = search_path().into_string().unwrap();
        assert!(path.split(':').any(|dir| dir == "/usr/sbin"));
    }

    #[test]
    fn daemons_see_nothing_of_cargo() {
        for key in [
            "CARGO_MANIFEST_DIR",
            "RUSTUP_TOOLCHAIN",
            "NEXTEST_RUN_ID",
            "VETCH_CLUSTER",
            "LD_LIBRARY_PATH",
        ] {
            assert!(is_of_the_builder(key), "{key}");
        }
        for key in ["PATH", "RUST_LOG", "HTTPS_PROXY", "SSL_CERT_FILE"] {
            assert!(!is_of_the_builder(key), "{key}");
        }
    }
}
