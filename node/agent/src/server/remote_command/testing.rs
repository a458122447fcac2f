//! Processes of this machine, for tests of sessions.

use std::os::unix::process::ExitStatusExt as _;

use tokio::process::{Child, Command};
use tokio::sync::oneshot;

use super::options::Options;
use super::session::Process;
use super::stdio::{self, Ends};

pub struct Local {
    child: Child,
    _dropped: oneshot::Sender<()>,
}

impl Process for Local {
    async fn wait(&mut self) -> Result<i32, String> {
        let status = self.child.wait().await.map_err(|error| error.to_string())?;
        let signal = status.signal().unwrap_or_default();
        Ok(status.code().unwrap_or(128 + signal))
    }
}

/// What `flags` of the kubelet ask for.
pub fn options(flags: &[&str], command: &[&str]) -> Options {
    let flags = flags.iter().map(|&flag| (flag.to_owned(), "1".to_owned()));
    let words = command
        .iter()
        .map(|&word| ("command".to_owned(), word.to_owned()));
    Options::parse(flags.chain(words).collect()).unwrap()
}

/// Starts the command; `dropped` is dropped with the process.
pub async fn run(options: Options, dropped: oneshot::Sender<()>) -> Result<(Ends, Local), String> {
    let (ends, [stdin, stdout, stderr]) = stdio::open(&options).unwrap();
    let child = Command::new(&options.command[0])
        .args(&options.command[1..])
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| error.to_string())?;
    let process = Local {
        child,
        _dropped: dropped,
    };
    Ok((ends, process))
}
