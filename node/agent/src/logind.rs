//! Hears from systemd's logind that the machine goes down, and has it wait: a delay lock
//! (org.freedesktop.login1, <https://systemd.io/INHIBITOR_LOCKS>), by systemd's own clients, which are
//! wherever logind is. A library for the bus would be the larger part of what this does.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;

/// Before it is tried again where it failed.
const RETRY: Duration = Duration::from_secs(10);
const MANAGER: [&str; 3] = [
    "org.freedesktop.login1",
    "/org/freedesktop/login1",
    "org.freedesktop.login1.Manager",
];
const MATCH: &str = "type='signal',interface='org.freedesktop.login1.Manager',\
                     member='PrepareForShutdown'";
const SETTINGS: &str = "/etc/systemd/logind.conf.d/99-vetch-node.conf";

/// Ends itself when its standard input does, also when this process is killed.
const MONITOR: &str = r#"busctl --system --json=short "--match=$1" monitor </dev/null & pid=$!
exec >/dev/null; cat; kill "$pid""#;

#[derive(Debug, thiserror::Error)]
enum LogindError {
    #[error("running {program}")]
    Run {
        program: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("{program} failed: {words}")]
    Failed {
        program: &'static str,
        words: String,
    },
    #[error("logind's InhibitDelayMaxUSec is {0:?}, which is no number")]
    Delay(String),
    #[error(
        "logind lets nobody wait for longer than {has:?}, and pods have {wanted:?}: see InhibitDelayMaxSec in \
         {SETTINGS}, or make --shutdown-grace-period shorter"
    )]
    TooShort { has: Duration, wanted: Duration },
    #[error("writing {SETTINGS}")]
    Settings(#[source] io::Error),
    #[error("busctl, which hears of shutdowns, has ended")]
    Ended,
    #[error("systemd-inhibit, which holds the machine, has ended")]
    Lost,
}

/// For ever. The machine waits for `ended`, `wanted` at the most.
pub async fn follow(
    wanted: Duration,
    going_down: watch::Sender<bool>,
    ended: watch::Receiver<bool>,
) {
    let mut told = None;
    loop {
        if let Err(error) = session(wanted, &going_down, ended.clone()).await {
            let words = crate::node::chain(&error);
            // Once for as long as it is the same.
            if told.as_ref() != Some(&words) {
                tracing::warn!("pods do not end before this machine does: {words}");
            }
            told = Some(words);
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn session(
    wanted: Duration,
    going_down: &watch::Sender<bool>,
    mut ended: watch::Receiver<bool>,
) -> Result<(), LogindError> {
    allow(wanted).await?;
    // It hears before it holds: nothing is missed in between.
    let (_monitor, mut signals) = monitor()?;
    let already = property("PreparingForShutdown").await?.trim() == "b true";
    going_down.send_replace(already);
    if already {
        // Nobody may hold it any more.
        let _ = ended.wait_for(|ended| *ended).await;
    }
    let mut lock = match already {
        true => None,
        false => Some(Lock::take()?),
    };
    loop {
        let line = tokio::select! {
            line = signals.next_line() => line.map_err(run("busctl"))?,
            () = lost(&mut lock) => return Err(LogindError::Lost),
        };
        let line = line.ok_or(LogindError::Ended)?;
        match signal(&line) {
            Some(true) => {
                going_down.send_replace(true);
                // Its sender lives as long as the agent.
                let _ = ended.wait_for(|ended| *ended).await;
                tracing::info!("the machine may go down: its pods have ended");
                lock = None;
            }
            Some(false) => {
                going_down.send_replace(false);
                lock = Some(match lock {
                    Some(lock) => lock,
                    None => Lock::take()?,
                });
            }
            None => {}
        }
    }
}

/// Has logind wait for so long, by its settings where it would not.
async fn allow(wanted: Duration) -> Result<(), LogindError> {
    if longest().await? >= wanted {
        return Ok(());
    }
    let settings = Path::new(SETTINGS);
    // The kubelet does likewise, with a file of its own.
    let text = format!("[Login]\nInhibitDelayMaxSec={}\n", wanted.as_secs());
    let dir = settings.parent().unwrap_or(settings);
    std::fs::create_dir_all(dir)
        .and_then(|()| std::fs::write(settings, text))
        .map_err(LogindError::Settings)?;
    let args = ["kill", "--signal=HUP", "systemd-logind.service"];
    output("systemctl", &args).await?;
    // It reads them in its own time.
    let mut has = Duration::ZERO;
    for _ in 0..50 {
        has = longest().await?;
        if has >= wanted {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(LogindError::TooShort { has, wanted })
}

async fn longest() -> Result<Duration, LogindError> {
    let said = property("InhibitDelayMaxUSec").await?;
    delay(&said).ok_or(LogindError::Delay(said))
}

async fn property(property: &str) -> Result<String, LogindError> {
    let [name, path, interface] = MANAGER;
    let args = ["--system", "get-property", name, path, interface, property];
    output("busctl", &args).await
}

/// `t 5000000`: an unsigned number of 64 bits.
fn delay(said: &str) -> Option<Duration> {
    let micros = said.trim().strip_prefix("t ")?.parse().ok()?;
    Some(Duration::from_micros(micros))
}

/// Whether the machine goes down, of a line of busctl's JSON; none of what says something else.
fn signal(line: &str) -> Option<bool> {
    let message: Value = serde_json::from_str(line).ok()?;
    let ours = message["type"] == "signal" && message["member"] == "PrepareForShutdown";
    ours.then(|| message["payload"]["data"][0].as_bool())?
}

async fn output(program: &'static str, args: &[&str]) -> Result<String, LogindError> {
    let done = Command::new(program).args(args).output().await;
    let done = done.map_err(run(program))?;
    match done.status.success() {
        true => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
        false => Err(LogindError::Failed {
            program,
            words: String::from_utf8_lossy(&done.stderr).trim().to_owned(),
        }),
    }
}

fn monitor() -> Result<(Child, Lines<BufReader<ChildStdout>>), LogindError> {
    let mut child = Command::new("sh")
        .args(["-c", MONITOR, "monitor", MATCH])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(run("busctl"))?;
    let output = child.stdout.take().ok_or(LogindError::Ended)?;
    Ok((child, BufReader::new(output).lines()))
}

/// Held until it is dropped, or this process ends: then the child's standard input has.
struct Lock {
    child: Child,
    /// Apart: who waits for a child closes it.
    _input: Option<ChildStdin>,
}

impl Lock {
    fn take() -> Result<Lock, LogindError> {
        let child = Command::new("systemd-inhibit")
            .args([
                "--what=shutdown",
                "--mode=delay",
                "--who=vetch-node",
                "--why=Pods have time to end",
                "cat",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        let mut child = child.map_err(run("systemd-inhibit"))?;
        Ok(Lock {
            _input: child.stdin.take(),
            child,
        })
    }
}

/// Returns when a lock that should be held is not.
async fn lost(lock: &mut Option<Lock>) {
    match lock {
        // However it ended.
        Some(lock) => drop(lock.child.wait().await),
        None => std::future::pending().await,
    }
}

fn run(program: &'static str) -> impl FnOnce(io::Error) -> LogindError {
    move |source| LogindError::Run { program, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_busctl_says() {
        assert_eq!(delay("t 5000000\n"), Some(Duration::from_secs(5)));
        assert_eq!(delay("s \"x\"\n"), None);
        let said = |member: &str, down: bool| {
            format!(
                "{{\"type\":\"signal\",\"endian\":\"l\",\"path\":\"/org/freedesktop/login1\",\
                 \"member\":\"{member}\",\"payload\":{{\"type\":\"b\",\"data\":[{down}]}}}}"
            )
        };
        for (line, want) in [
            (said("PrepareForShutdown", true), Some(true)),
            (said("PrepareForShutdown", false), Some(false)),
            (said("PrepareForSleep", true), None),
            ("Monitoring bus message stream.".to_owned(), None),
            ("{}".to_owned(), None),
        ] {
            assert_eq!(signal(&line), want, "{line}");
        }
    }
}
