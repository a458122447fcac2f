//! `kubectl exec`, by WebSockets and by SPDY alone: processes in running containers, their streams, terminals and exit
//! codes.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use vetch_tests::{Cluster, Namespace, Way, eventually, pod_of_two};

const MINUTE: Duration = Duration::from_secs(60);

/// A pod of two containers that do nothing, the second of which is the one meant where none is named.
fn two(cluster: &Cluster) -> Result<Namespace<'_>> {
    let container = |name: &str| {
        json!({
            "name": name, "image": "vetch.local/echo:v1", "imagePullPolicy": "IfNotPresent",
            "command": ["sleep", "3600"], "env": [{"name": "WHO", "value": name}],
        })
    };
    pod_of_two(cluster, "exec", [container("app"), container("side")])
}

#[test]
fn exec_streams_and_exit_codes() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = two(&cluster)?;
    for way in Way::both(&namespace) {
        streams_and_exit_codes(way).with_context(|| format!("WebSockets: {}", way.web_sockets))?;
    }
    Ok(())
}

fn streams_and_exit_codes(way: Way<'_>) -> Result<()> {
    let script = "echo $WHO; echo err >&2; exit 3";
    for (more, who) in [(&["-c", "app"][..], "app\n"), (&[], "side\n")] {
        let args = [&["exec", "two"], more, &["--", "sh", "-c", script]].concat();
        let ran = way.run(&args, b"")?;
        ensure!(ran.code == Some(3), "{ran:?}");
        ensure!(ran.stdout == who.as_bytes(), "{ran:?}");
        let told = "err\ncommand terminated with exit code 3\n";
        ensure!(ran.stderr.ends_with(told), "{ran:?}");
    }

    // The input ends before the output begins, and both are whole.
    let input: String = (0..300_000).map(|line| format!("{line}\n")).collect();
    let sort = ["exec", "-i", "two", "--", "sort", "-rn"];
    let ran = way.run(&sort, input.as_bytes())?;
    ensure!(ran.code == Some(0), "{:?} {}", ran.code, ran.stderr);
    let wanted: String = (0..300_000).rev().map(|line| format!("{line}\n")).collect();
    ensure!(
        ran.stdout == wanted.as_bytes(),
        "{} bytes came back of {}",
        ran.stdout.len(),
        wanted.len()
    );

    for (args, words) in [
        (
            &["exec", "two", "-c", "none", "--", "ls"][..],
            "container none is not valid for pod two",
        ),
        (
            &["exec", "two", "--", "no-such-program"],
            "exec: \"no-such-program\": executable file not found in $PATH",
        ),
    ] {
        let ran = way.run(args, b"")?;
        ensure!(ran.code == Some(1), "{ran:?}");
        ensure!(ran.stderr.contains(words), "{ran:?}");
    }
    Ok(())
}

#[test]
fn exec_has_a_terminal_of_the_clients_size() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = two(&cluster)?;
    for way in Way::both(&namespace) {
        terminal(way).with_context(|| format!("WebSockets: {}", way.web_sockets))?;
    }
    Ok(())
}

fn terminal(way: Way<'_>) -> Result<()> {
    let inside = "until [ \"$(stty size)\" = \"42 77\" ]; do sleep 0.1; done; test -c \"$(tty)\" && echo sized";
    let output = way.in_terminal((42, 77), &["exec", "-it", "two"], inside)?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{output:?}");
    ensure!(said.contains("sized\r\n"), "{said:?}");
    Ok(())
}

#[test]
fn a_client_that_is_killed_leaves_no_process() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = two(&cluster)?;
    for way in Way::both(&namespace) {
        killed(way).with_context(|| format!("WebSockets: {}", way.web_sockets))?;
    }
    Ok(())
}

fn killed(way: Way<'_>) -> Result<()> {
    let endless = [
        "exec",
        "two",
        "--",
        "sh",
        "-c",
        "echo begun; exec sleep 4711",
    ];
    let mut client = way
        .command(&endless)
        .stdout(Stdio::piped())
        .spawn()
        .context("run kubectl")?;
    let stdout = client.stdout.take().context("kubectl's stdout")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    ensure!(line == "begun\n", "{line:?}");
    let processes = || -> Result<String> {
        let ran = way.run(&["exec", "two", "--", "ps"], b"")?;
        ensure!(ran.code == Some(0), "{ran:?}");
        Ok(String::from_utf8(ran.stdout)?)
    };
    let before = processes()?;
    ensure!(before.contains("sleep 4711"), "{before}");
    client.kill()?;
    client.wait()?;
    eventually(MINUTE, "the process goes with its client", || {
        let now = processes()?;
        if now.contains("sleep 4711") {
            bail!("{now}");
        }
        Ok(())
    })
}
