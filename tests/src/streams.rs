//! The real kubectl with its streams: what it is told, what it says, how it ends, in a terminal too.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::{Cluster, Namespace};

/// How kubectl speaks with the containers of a namespace.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    pub namespace: &'a Namespace<'a>,
    pub web_sockets: bool,
}

/// What a run of kubectl said, and its exit code.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

/// A namespace with the pod `two`, ready, of two containers, the second of which, `side`, is the one meant where none is
/// named.
pub fn pod_of_two<'a>(
    cluster: &'a Cluster,
    prefix: &str,
    containers: [Value; 2],
) -> Result<Namespace<'a>> {
    let namespace = Namespace::create(cluster, prefix)?;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "two", "annotations": {"kubectl.kubernetes.io/default-container": "side"}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": containers},
    });
    namespace.apply(&pod.to_string())?;
    namespace
        .kubectl(&["wait", "--for=condition=Ready", "pod/two", "--timeout=120s"])?
        .ok()?;
    Ok(namespace)
}

impl<'a> Way<'a> {
    /// SPDY is what kubectl before 1.31 spoke.
    pub fn both(namespace: &'a Namespace<'a>) -> [Way<'a>; 2] {
        [true, false].map(|web_sockets| Way {
            namespace,
            web_sockets,
        })
    }

    pub fn command(self, args: &[&str]) -> Command {
        let mut all = vec!["--namespace", &self.namespace.name];
        all.extend_from_slice(args);
        let mut command = self.namespace.cluster.kubectl_command(&all);
        command.env(
            "KUBECTL_REMOTE_COMMAND_WEBSOCKETS",
            self.web_sockets.to_string(),
        );
        command
    }

    /// To its end, with all of `stdin`.
    pub fn run(self, args: &[&str], stdin: &[u8]) -> Result<Ran> {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("run kubectl")?;
        let mut pipe = child.stdin.take().context("kubectl's stdin")?;
        std::thread::scope(|scope| {
            // kubectl may end before it has read all.
            scope.spawn(move || pipe.write_all(stdin));
            let output = child.wait_with_output()?;
            Ok(Ran {
                code: output.status.code(),
                stdout: output.stdout,
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            })
        })
    }

    /// `kubectl ARGS -- sh -c INSIDE`, in a terminal of so many rows and columns. No argument has a space.
    pub fn in_terminal(
        self,
        (rows, columns): (u16, u16),
        args: &[&str],
        inside: &str,
    ) -> Result<Output> {
        let kubectl = self.command(args);
        let words: Vec<&str> = kubectl
            .get_args()
            .filter_map(|word| word.to_str())
            .collect();
        // In a terminal of script(1): a shell that sets its size, and becomes kubectl.
        let size = format!("stty rows {rows} cols {columns}");
        let mut script = Command::new("script");
        script
            .args([
                "-qec",
                &format!("{size} && exec \"$RUN\" $WORDS -- sh -c \"$INSIDE\""),
                "/dev/null",
            ])
            .env("RUN", kubectl.get_program())
            .env("WORDS", words.join(" "))
            .env("INSIDE", inside);
        for (name, value) in kubectl.get_envs() {
            script.env(name, value.context("kubectl's environment")?);
        }
        script.stdin(Stdio::null()).output().context("run script")
    }
}
