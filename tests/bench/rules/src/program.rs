//! Programs run inside a network namespace.

use std::{
    ffi::OsStr,
    io::{self, Write},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// What failed, and where.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("start {program}")]
    Start { program: String, source: io::Error },
    #[error("talk with {program}")]
    Talk { program: String, source: io::Error },
    #[error("{program} ended with {status}: {said}")]
    Failed {
        program: String,
        status: ExitStatus,
        said: String,
    },
    #[error("{program} cannot use `{extension}`: the kernel or the program lacks it")]
    Extension { program: String, extension: String },
    #[error("enter the network namespace {path}")]
    Enter { path: PathBuf, source: io::Error },
    #[error("{operation} the counter {name}")]
    Counter {
        operation: &'static str,
        name: &'static str,
        source: io::Error,
    },
    #[error("read what nft says of table {table}")]
    Listing {
        table: String,
        source: serde_json::Error,
    },
    #[error("write {path}")]
    Log { path: PathBuf, source: io::Error },
    #[error("{program} did not write its rules within {limit:?}; its log is {log}")]
    Slow {
        program: PathBuf,
        limit: Duration,
        log: PathBuf,
    },
    #[error("{program} ended before it wrote its rules; its log is {log}")]
    Ended { program: PathBuf, log: PathBuf },
    #[error("conntrack still follows packets in the network namespace {path}")]
    Tracked { path: PathBuf },
    #[error("{program} was not done within {limit:?}")]
    Long { program: String, limit: Duration },
    #[error("ask {program} to end")]
    Signal { program: PathBuf, source: io::Error },
}

/// What a program that went well said and how long it took, from its start to
/// its end.
pub struct Output {
    pub stdout: String,
    pub took: Duration,
}

/// `program` with nsenter before it.
pub fn inside(namespace: &Path, program: impl AsRef<OsStr>) -> Command {
    let mut net = std::ffi::OsString::from("--net=");
    net.push(namespace);
    let mut command = Command::new("nsenter");
    command.arg(net).arg("--").arg(program);
    command
}

/// The same, killed when it is not done within `limit`.
pub fn inside_for(namespace: &Path, limit: Duration, program: &str) -> Command {
    let mut command = inside(namespace, "timeout");
    command
        .arg("--signal=KILL")
        .arg(limit.as_secs_f64().to_string())
        .arg(program);
    command
}

/// Runs a command of [`inside_for`].
pub fn run_for(command: Command, input: &str, limit: Duration) -> Result<Output, Error> {
    // timeout(1): it is ended by the signal it sends, or says so as a shell does.
    const KILLED: i32 = 128 + 9;
    run(command, input).map_err(|error| match error {
        Error::Failed {
            program, status, ..
        } if status.code() == Some(KILLED) || status.signal() == Some(9) => {
            Error::Long { program, limit }
        }
        other => other,
    })
}

/// Runs `command` to its end with `input` on its standard input.
pub fn run(mut command: Command, input: &str) -> Result<Output, Error> {
    let program = describe(&command);
    let talk = |source| Error::Talk {
        program: program.clone(),
        source,
    };
    command
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let started = Instant::now();
    let mut child = command.spawn().map_err(|source| Error::Start {
        program: program.clone(),
        source,
    })?;
    let stdin = child.stdin.take();
    // It may say a lot before it has read all: neither side is to wait for the other.
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program that ends early says why itself.
            let _ = stdin.map(|mut stdin| stdin.write_all(input.as_bytes()));
        });
        child.wait_with_output()
    })
    .map_err(talk)?;
    let took = started.elapsed();
    if output.status.success() {
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        return Ok(Output { stdout, took });
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(match missing_extension(&said) {
        Some(extension) => Error::Extension {
            program,
            extension: extension.to_owned(),
        },
        None => Error::Failed {
            program,
            status: output.status,
            said: shorten(&said),
        },
    })
}

/// The program's name and arguments, without nsenter's.
fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    let own = words.iter().position(|word| word == "--");
    words[own.map_or(0, |at| at + 1)..].join(" ")
}

/// The match or target that iptables says it cannot have.
fn missing_extension(said: &str) -> Option<&str> {
    const KERNEL: &str = "Warning: Extension ";
    said.lines().find_map(|line| {
        if let Some(rest) = line.strip_prefix(KERNEL) {
            return rest
                .contains("not supported")
                .then(|| rest.split(' ').next())?;
        }
        let at = line.find("Couldn't load ")?;
        line[at..].split(['`', '\'']).nth(2)
    })
}

/// Enough of it to see what went wrong: one rule too many is said once a rule.
fn shorten(said: &str) -> String {
    const LINES: usize = 8;
    let lines: Vec<_> = said.trim().lines().take(LINES).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_extensions_are_named() {
        let table = [
            (
                "Warning: Extension statistic revision 0 not supported, missing kernel module?\niptables-restore: line 9 failed",
                Some("statistic"),
            ),
            (
                "iptables-restore v1.8.9 (nf_tables): Couldn't load match `nfacct':No such file or directory\n",
                Some("nfacct"),
            ),
            (
                "iptables-restore v1.8.9 (legacy): Couldn't load target `KUBE-SVC-X':No such file or directory\n",
                Some("KUBE-SVC-X"),
            ),
            ("iptables-restore: line 3 failed", None),
            ("", None),
        ];
        for (said, expected) in table {
            assert_eq!(missing_extension(said), expected, "{said}");
        }
    }

    #[test]
    fn errors_name_the_program_and_not_nsenter() {
        let mut command = inside(Path::new("/proc/1/ns/net"), "nft");
        command.args(["-f", "-"]);
        assert_eq!(describe(&command), "nft -f -");
    }

    #[test]
    fn what_a_program_says_comes_back_however_long_it_is() {
        let input = "a line\n".repeat(100_000);
        let output = run(Command::new("cat"), &input).unwrap();
        assert_eq!(output.stdout, input);
    }

    #[test]
    fn a_failure_says_why() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such chain >&2; exit 3"]);
        let error = run(command, "").err().unwrap().to_string();
        assert!(error.contains("no such chain"), "{error}");
        assert!(error.contains('3'), "{error}");
    }
}
