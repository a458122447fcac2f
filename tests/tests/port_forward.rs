//! `kubectl port-forward`, by WebSockets and by SPDY alone: connections to a pod's ports, and what becomes of them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::process::{Child, ChildStdout, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use vetch_tests::{Cluster, Namespace, eventually};

const MINUTE: Duration = Duration::from_secs(60);
/// Where the echo server takes lines.
const LINES: u16 = 8081;
/// Where nobody listens.
const CLOSED: u16 = 9;
/// Lines that come back on each connection.
const COUNT: usize = 500;

/// A kubectl that forwards.
struct Forward {
    kubectl: Child,
    stdout: BufReader<ChildStdout>,
    stderr: Option<JoinHandle<String>>,
}

impl Forward {
    fn start(
        namespace: &Namespace<'_>,
        pod: &str,
        port: u16,
        web_sockets: bool,
    ) -> Result<(Forward, u16)> {
        let mut kubectl = namespace
            .cluster
            .kubectl_command(&[
                "--namespace",
                &namespace.name,
                "port-forward",
                "--address=127.0.0.1",
                pod,
                &format!(":{port}"),
            ])
            .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", web_sockets.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("run kubectl")?;
        let stdout = kubectl.stdout.take().context("kubectl's stdout")?;
        let mut stderr = kubectl.stderr.take().context("kubectl's stderr")?;
        let stderr = std::thread::spawn(move || {
            let mut words = String::new();
            let _ = stderr.read_to_string(&mut words);
            words
        });
        let mut forward = Forward {
            kubectl,
            stdout: BufReader::new(stdout),
            stderr: Some(stderr),
        };
        let mut line = String::new();
        forward.stdout.read_line(&mut line)?;
        let local = line
            .strip_prefix("Forwarding from 127.0.0.1:")
            .and_then(|rest| rest.split(' ').next())
            .and_then(|port| port.parse().ok());
        match local {
            Some(local) => Ok((forward, local)),
            None => bail!("{line:?} {}", forward.end()?.1),
        }
    }

    /// Its exit code, if it had one, and what it complained about.
    fn end(mut self) -> Result<(Option<i32>, String)> {
        let ended = eventually(Duration::from_secs(10), "kubectl ends", || {
            self.kubectl.try_wait()?.context("it runs")
        });
        if ended.is_err() {
            self.kubectl.kill()?;
        }
        let code = self.kubectl.wait()?.code();
        let stderr = self.stderr.take().context("kubectl's stderr")?;
        let words = stderr.join().map_err(|_| anyhow::anyhow!("reading"))?;
        Ok((code, words))
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
    }
}

fn connect(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("connect to kubectl")?;
    stream.set_read_timeout(Some(MINUTE))?;
    Ok(stream)
}

/// A pod of the echo server.
fn echo<'a>(cluster: &'a Cluster, spec: Value) -> Result<Namespace<'a>> {
    let namespace = Namespace::create(cluster, "forward")?;
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "echo"},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {"name": "echo", "image": "vetch.local/echo:v1", "imagePullPolicy": "IfNotPresent"},
                // The ports are the pod's, not a container's.
                {
                    "name": "side", "image": "vetch.local/echo:v1", "imagePullPolicy": "IfNotPresent",
                    "command": ["sleep", "3600"],
                },
            ],
        },
    });
    for (key, value) in spec.as_object().context("a spec")? {
        pod["spec"][key] = value.clone();
    }
    namespace.apply(&pod.to_string())?;
    namespace
        .kubectl(&[
            "wait",
            "--for=condition=Ready",
            "pod/echo",
            "--timeout=120s",
        ])?
        .ok()?;
    Ok(namespace)
}

/// Says many lines, then that there are no more, and hears them all come back.
fn converse(port: u16, who: &str) -> Result<()> {
    let mut stream = connect(port)?;
    let mut answers = stream.try_clone()?;
    let heard = std::thread::spawn(move || {
        let mut all = String::new();
        answers.read_to_string(&mut all).map(|_| all)
    });
    let filler = "x".repeat(500);
    for line in 0..COUNT {
        stream.write_all(format!("{line} {filler}\n").as_bytes())?;
    }
    stream.shutdown(Shutdown::Write)?;
    let all = heard.join().map_err(|_| anyhow::anyhow!("reading"))??;
    let wanted: String = (0..COUNT)
        .map(|line| format!("{who}: {line} {filler}\n"))
        .collect();
    ensure!(
        all == wanted,
        "{} bytes came back of {}",
        all.len(),
        wanted.len()
    );
    Ok(())
}

#[test]
fn port_forward_carries_connections_side_by_side() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = echo(&cluster, json!({}))?;
    for web_sockets in [true, false] {
        let (_forward, local) = Forward::start(&namespace, "pod/echo", LINES, web_sockets)?;
        // One that stays open beside the others.
        let mut first = connect(local)?;
        std::thread::scope(|scope| {
            let others: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| converse(local, "echo")))
                .collect();
            others
                .into_iter()
                .try_for_each(|other| other.join().map_err(|_| anyhow::anyhow!("a thread"))?)
        })
        .with_context(|| format!("WebSockets: {web_sockets}"))?;
        first.write_all(b"still here\n")?;
        let mut line = String::new();
        BufReader::new(&first).read_line(&mut line)?;
        ensure!(line == "echo: still here\n", "{line:?}");
    }
    Ok(())
}

#[test]
fn port_forward_reaches_a_pod_in_the_nodes_network() -> Result<()> {
    let cluster = Cluster::shared()?;
    // Ports that no other pod of the tests has.
    let args = ["--http", "28080", "--tcp", "28081", "--udp", "28082"];
    let namespace = echo(
        &cluster,
        json!({"hostNetwork": true, "containers": [{
            "name": "echo", "image": "vetch.local/echo:v1", "imagePullPolicy": "IfNotPresent",
            "args": args, "env": [{"name": "POD_NAME", "value": "host"}],
        }]}),
    )?;
    let (_forward, local) = Forward::start(&namespace, "pod/echo", 28081, true)?;
    converse(local, "host")
}

#[test]
fn a_port_nobody_listens_on_is_told() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = echo(&cluster, json!({}))?;
    for web_sockets in [true, false] {
        let (forward, local) = Forward::start(&namespace, "pod/echo", CLOSED, web_sockets)?;
        let mut nothing = Vec::new();
        let _ = connect(local)?.read_to_end(&mut nothing);
        ensure!(nothing.is_empty(), "{nothing:?}");
        let (code, words) = forward.end()?;
        for told in [
            format!("error forwarding port {CLOSED} to pod "),
            format!("dial tcp 127.0.0.1:{CLOSED}: connect: connection refused"),
            // kubectl's own answer to any error.
            "lost connection to pod".to_owned(),
        ] {
            ensure!(words.contains(&told), "{told}: {words}");
        }
        ensure!(code == Some(1), "{code:?} {words}");
    }
    let (_forward, local) = Forward::start(&namespace, "pod/echo", LINES, true)?;
    converse(local, "echo")
}

#[test]
fn a_forward_that_is_killed_leaves_no_connection() -> Result<()> {
    let cluster = Cluster::shared()?;
    let namespace = echo(&cluster, json!({}))?;
    let established = || -> Result<usize> {
        let show = [
            "exec",
            "echo",
            "-c",
            "side",
            "--",
            "cat",
            "/proc/net/tcp",
            "/proc/net/tcp6",
        ];
        let sockets = namespace.kubectl(&show)?.ok()?;
        let local = format!(":{LINES:04X}");
        let count = sockets.lines().filter(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // State 1 is ESTABLISHED (include/net/tcp_states.h).
            fields.len() > 3 && fields[1].ends_with(&local) && fields[3] == "01"
        });
        Ok(count.count())
    };
    for web_sockets in [true, false] {
        let (mut forward, local) = Forward::start(&namespace, "pod/echo", LINES, web_sockets)?;
        let mut stream = connect(local)?;
        stream.write_all(b"hello\n")?;
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line)?;
        ensure!(line == "echo: hello\n", "{line:?}");
        let before = established()?;
        ensure!(before == 1, "{before} connections");
        forward.kubectl.kill()?;
        eventually(MINUTE, "the pod's side is closed", || {
            match established()? {
                0 => Ok(()),
                some => bail!("{some} connections"),
            }
        })?;
    }
    Ok(())
}
