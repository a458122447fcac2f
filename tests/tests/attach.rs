//! `kubectl attach` and `kubectl run -i`, by WebSockets and by SPDY alone: the first processes of containers, what they
//! write from now on and what they are told.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use vetch_tests::{Cluster, Namespace, Way, eventually, pod_of_two};

const MINUTE: Duration = Duration::from_secs(60);

/// A pod of a container that speaks by itself, and of one that repeats what it is told. The second is the one meant where
/// none is named.
fn two(cluster: &Cluster) -> Result<Namespace<'_>> {
    let container = |name: &str, stdin: bool, script: &str| {
        json!({
            "name": name, "image": "vetch.local/echo:v1", "imagePullPolicy": "IfNotPresent",
            "stdin": stdin, "command": ["sh", "-c", script],
        })
    };
    let ticks = "trap 'exit 0' TERM; while :; do echo tick; sleep 0.1; done";
    let repeats = "while read word; do echo out $word; echo err $word >&2; done";
    pod_of_two(
        cluster,
        "attach",
        [
            container("app", false, ticks),
            container("side", true, repeats),
        ],
    )
}

#[test]
fn attach_hears_and_says() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = two(&cluster)?;
    for way in Way::both(&namespace) {
        hears_and_says(way).with_context(|| format!("WebSockets: {}", way.web_sockets))?;
    }
    Ok(())
}

fn hears_and_says(way: Way<'_>) -> Result<()> {
    // Two at a time; one that is killed is no matter to the other, nor to the container.
    let mut listeners = Vec::new();
    for _ in 0..2 {
        let mut kubectl = way
            .command(&["attach", "two", "-c", "app"])
            .stdout(Stdio::piped())
            .spawn()
            .context("run kubectl")?;
        let stdout = kubectl.stdout.take().context("kubectl's stdout")?;
        listeners.push((kubectl, BufReader::new(stdout)));
    }
    for (kubectl, said) in &mut listeners {
        for _ in 0..2 {
            let mut line = String::new();
            said.read_line(&mut line)?;
            ensure!(line == "tick\n", "{line:?}");
        }
        kubectl.kill()?;
        kubectl.wait()?;
    }

    // The client ends with its input, and the container waits for the next one.
    for turn in ["first", "second"] {
        let word = format!("{turn}-{}", way.web_sockets);
        let ran = way.run(&["attach", "-i", "two"], format!("{word}\n").as_bytes())?;
        ensure!(ran.code == Some(0), "{ran:?}");
        eventually(MINUTE, "the container heard it", || {
            let log = way
                .namespace
                .kubectl(&["logs", "two", "-c", "side"])?
                .ok()?;
            for told in [format!("out {word}\n"), format!("err {word}\n")] {
                if !log.contains(&told) {
                    bail!("no {told:?} in {log:?}");
                }
            }
            Ok(())
        })?;
    }
    let pod = way.namespace.get(&["pod/two"])?;
    for status in pod["status"]["containerStatuses"]
        .as_array()
        .context("statuses")?
    {
        ensure!(status["restartCount"] == 0, "{status}");
    }
    Ok(())
}

/// `kubectl run`, up to the command.
fn run<'a>(streams: &'a str, name: &'a str) -> Vec<&'a str> {
    vec![
        "run",
        streams,
        "--rm",
        "--quiet",
        "--restart=Never",
        "--image=vetch.local/echo:v1",
        "--image-pull-policy=IfNotPresent",
        "--pod-running-timeout=2m",
        "--command",
        name,
    ]
}

#[test]
fn run_reads_all_and_says_how_it_ended() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "run")?;
    for way in Way::both(&namespace) {
        reads_all(way).with_context(|| format!("WebSockets: {}", way.web_sockets))?;
    }
    Ok(())
}

fn reads_all(way: Way<'_>) -> Result<()> {
    let name = format!("sort-{}", way.web_sockets);
    let mut args = run("-i", &name);
    args.extend(["--", "sh", "-c", "sort -rn; echo err >&2; exit 3"]);
    // The container sees the end of the input, and what it says then is whole.
    let input: String = (0..300_000).map(|line| format!("{line}\n")).collect();
    let ran = way.run(&args, input.as_bytes())?;
    ensure!(ran.code == Some(3), "{:?} {}", ran.code, ran.stderr);
    let wanted: String = (0..300_000).rev().map(|line| format!("{line}\n")).collect();
    ensure!(
        ran.stdout.starts_with(wanted.as_bytes()),
        "{} bytes came back of {}: {}",
        ran.stdout.len(),
        wanted.len(),
        ran.stderr
    );
    ensure!(ran.stderr.contains("err\n"), "{}", ran.stderr);
    eventually(MINUTE, "the pod goes with its client", || {
        let left = way
            .namespace
            .kubectl(&["get", "pods", "-o", "name"])?
            .ok()?;
        if left.contains(&name) {
            bail!("{left}");
        }
        Ok(())
    })
}

#[test]
fn run_has_a_terminal_of_the_clients_size() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = Namespace::create(&cluster, "run-tty")?;
    for way in Way::both(&namespace) {
        let inside =
            "until [ \"$(stty size)\" = \"42 77\" ]; do sleep 0.1; done; test -t 2 && echo sized";
        let name = format!("sized-{}", way.web_sockets);
        let output = way.in_terminal((42, 77), &run("-it", &name), inside)?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "{output:?}");
        ensure!(said.contains("sized\r\n"), "{said:?}");
    }
    Ok(())
}
