//! Runs `vetch-cni`.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

use crate::namespace::Namespace;

/// One call, as libcni makes it.
#[derive(Clone, Debug)]
pub struct Call {
    pub environment: Vec<(String, String)>,
    pub input: Value,
}

pub struct Answered {
    pub ok: bool,
    /// Null where nothing was said.
    pub output: Value,
}

impl Call {
    pub fn new(command: &str, version: &str, run_dir: &Path) -> Self {
        let input = json!({
            "cniVersion": version,
            "name": "lab",
            "type": "vetch-cni",
            "runDir": run_dir,
        });
        Self {
            environment: vec![("CNI_COMMAND".into(), command.into())],
            input,
        }
        .with("CNI_PATH", "/opt/cni/bin")
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    pub fn of(self, container: &str, netns: &str) -> Self {
        self.with("CNI_CONTAINERID", container)
            .with("CNI_NETNS", netns)
            .with("CNI_IFNAME", "eth0")
    }

    pub fn field(mut self, name: &str, value: Value) -> Self {
        self.input[name] = value;
        self
    }

    /// From where the calling thread is.
    pub fn start(&self) -> Child {
        let variables = self.environment.iter();
        let mut child = Command::new(env!("CARGO_BIN_EXE_vetch-cni"))
            .env_clear()
            .envs(variables.map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("vetch-cni starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        // One that is killed reads nothing.
        let _ = stdin.write_all(self.input.to_string().as_bytes());
        child
    }

    pub fn run(&self) -> Answered {
        answered(self.start().wait_with_output().expect("vetch-cni ends"))
    }

    /// By a runtime in this namespace.
    pub fn run_in(&self, node: &Namespace) -> Answered {
        node.run(|| self.run())
    }
}

pub fn answered(output: Output) -> Answered {
    let text = String::from_utf8_lossy(&output.stdout);
    let value = match text.trim() {
        "" => Value::Null,
        text => serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}")),
    };
    Answered {
        ok: output.status.success(),
        output: value,
    }
}

impl Answered {
    #[track_caller]
    pub fn unwrap(self) -> Value {
        assert!(self.ok, "{}", self.output);
        self.output
    }

    /// The code of the error object.
    #[track_caller]
    pub fn code(&self) -> u64 {
        assert!(!self.ok, "{}", self.output);
        self.output["code"].as_u64().expect("an error object")
    }
}

/// How another process finds one that this one holds.
pub fn path_of(namespace: &Namespace) -> String {
    use std::os::fd::AsRawFd as _;
    let (pid, fd) = (std::process::id(), namespace.file().as_raw_fd());
    format!("/proc/{pid}/fd/{fd}")
}
