//! Processes of this machine, for tests of sessions.

use std::future::ready;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;

use futures::FutureExt as _;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};

use super::channels::Size;
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

fn open(options: &Options) -> io::Result<(Ends, [OwnedFd; 3])> {
    if !options.tty {
        return stdio::pipes(options);
    }
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    unlockpt(&master)?;
    let stdin = ioctl_tiocgptpeer(&master, flags)?;
    let theirs = [stdin.try_clone()?, stdin.try_clone()?, stdin];
    Ok((stdio::terminal(options, master)?, theirs))
}

/// Starts the command; `dropped` is dropped with the process.
pub async fn run(options: Options, dropped: oneshot::Sender<()>) -> Result<(Ends, Local), String> {
    let (ends, theirs) = open(&options).unwrap();
    Ok((ends, spawn(&options.command, theirs, dropped)?))
}

/// As attach has it: a terminal that is told its size, behind pipes.
pub async fn run_elsewhere(
    options: Options,
    dropped: oneshot::Sender<()>,
    sizes: mpsc::UnboundedSender<Size>,
) -> Result<(Ends, Local), String> {
    let (mut ends, theirs) = stdio::pipes(&options).unwrap();
    ends.input.resized_by(move |size| {
        sizes.send(size).unwrap();
        ready(()).boxed()
    });
    Ok((ends, spawn(&options.command, theirs, dropped)?))
}

fn spawn(
    command: &[String],
    [stdin, stdout, stderr]: [OwnedFd; 3],
    dropped: oneshot::Sender<()>,
) -> Result<Local, String> {
    let child = Command::new(&command[0])
        .args(&command[1..])
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| error.to_string())?;
    Ok(Local {
        child,
        _dropped: dropped,
    })
}
