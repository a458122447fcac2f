//! The real `kubectl`, and a namespace that goes away with its scenario.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::cluster::{Cluster, Node, repository};
use crate::wait::{self, eventually, patient};

/// What a kubectl run printed.
#[derive(Debug)]
pub struct Output {
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Standard output of a run that must have gone well.
    pub fn ok(self) -> Result<String> {
        if !self.success {
            bail!("kubectl failed: {}{}", self.stdout, self.stderr);
        }
        Ok(self.stdout)
    }

    /// Standard error of a run that must have been refused.
    pub fn refused(self) -> Result<String> {
        if self.success {
            bail!("kubectl succeeded where it must not: {}", self.stdout);
        }
        Ok(self.stderr)
    }
}

impl Cluster {
    pub fn kubectl_command(&self, args: &[&str]) -> Command {
        let program = std::env::var_os("VETCH_KUBECTL").unwrap_or_else(|| "kubectl".into());
        let mut command = Command::new(program);
        command
            .env("KUBECONFIG", &self.kubeconfig)
            // Discovery is cached per server address; a fresh cluster may serve other kinds.
            .arg("--cache-dir")
            .arg(self.kubeconfig.with_extension("cache"))
            .args(args)
            .stdin(Stdio::null());
        command
    }

    pub fn kubectl(&self, args: &[&str]) -> Result<Output> {
        collect(self.kubectl_command(args).output().context("run kubectl")?)
    }

    /// Feeds `manifest` to `kubectl ARGS -f -`.
    pub fn kubectl_stdin(&self, args: &[&str], manifest: &str) -> Result<Output> {
        let mut child = self
            .kubectl_command(args)
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("run kubectl")?;
        let mut stdin = child.stdin.take().context("kubectl's stdin")?;
        stdin.write_all(manifest.as_bytes())?;
        drop(stdin);
        collect(child.wait_with_output()?)
    }
}

fn collect(output: std::process::Output) -> Result<Output> {
    Ok(Output {
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// A namespace of the scenario's own, deleted when the scenario ends.
#[derive(Debug)]
pub struct Namespace<'a> {
    pub cluster: &'a Cluster,
    pub name: String,
}

impl<'a> Namespace<'a> {
    pub fn create(cluster: &'a Cluster, prefix: &str) -> Result<Namespace<'a>> {
        let name = format!("{prefix}-{}", std::process::id());
        cluster.kubectl(&["create", "namespace", &name])?.ok()?;
        let namespace = Namespace { cluster, name };
        // Pods are refused until the controller has made the default account.
        eventually(
            Duration::from_secs(30),
            "the default service account",
            || {
                namespace
                    .kubectl(&["get", "serviceaccount", "default"])?
                    .ok()
            },
        )?;
        Ok(namespace)
    }

    pub fn kubectl(&self, args: &[&str]) -> Result<Output> {
        let mut all = vec!["--namespace", &self.name];
        all.extend_from_slice(args);
        self.cluster.kubectl(&all)
    }

    pub fn apply(&self, manifest: &str) -> Result<String> {
        self.cluster
            .kubectl_stdin(&["--namespace", &self.name, "apply"], manifest)?
            .ok()
    }

    /// Applies one of the manifests people apply, from `examples/`.
    pub fn apply_example(&self, file: &str) -> Result<String> {
        let path: PathBuf = repository().join("examples").join(file);
        self.kubectl(&["apply", "-f", &path.to_string_lossy()])?
            .ok()
    }

    pub fn get(&self, args: &[&str]) -> Result<Value> {
        let mut all = vec!["get", "-o", "json"];
        all.extend_from_slice(args);
        Ok(serde_json::from_str(&self.kubectl(&all)?.ok()?)?)
    }

    /// Every config map of these names is there: its creation was acknowledged.
    pub fn assert_kept(&self, config_maps: &[String]) -> Result<()> {
        let kept = self.kubectl(&["get", "configmaps", "-o", "name"])?.ok()?;
        for name in config_maps {
            ensure!(
                kept.contains(&format!("configmap/{name}\n")),
                "{name} was acknowledged and is lost:\n{kept}"
            );
        }
        Ok(())
    }

    /// Waits until a Deployment's newest pods are all there.
    pub fn rolled_out(&self, deployment: &str) -> Result<String> {
        let limit = patient(Duration::from_secs(90)).as_secs();
        self.kubectl(&[
            "rollout",
            "status",
            deployment,
            &format!("--timeout={limit}s"),
        ])?
        .ok()
    }

    /// The value at a JSON pointer of one object.
    pub fn field(&self, object: &str, pointer: &str) -> Result<Value> {
        let value = self.get(&[object])?;
        value
            .pointer(pointer)
            .cloned()
            .with_context(|| format!("{object} has no {pointer} yet: {}", value["status"]))
    }

    pub fn pods(&self, selector: &str) -> Result<Vec<Value>> {
        let list = self.get(&["pods", "-l", selector])?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// The node of a running pod, its commands run as the pod's first container.
    pub fn inside(&self, pod: &str) -> Result<Node> {
        let found = self.get(&[&format!("pod/{pod}")])?;
        let text = |pointer: &str| {
            let value = found.pointer(pointer).and_then(Value::as_str);
            value.with_context(|| format!("pod/{pod} has no {pointer}: {}", found["status"]))
        };
        let id = text("/status/containerStatuses/0/containerID")?;
        let (_, id) = id.split_once("://").context("containerID")?;
        let node = self.cluster.node(text("/spec/nodeName")?)?;
        Ok(node.inside(text("/metadata/uid")?, id))
    }

    /// Waits until `object`'s field has this value.
    pub fn wait_field(
        &self,
        object: &str,
        pointer: &str,
        wanted: &Value,
        limit: Duration,
    ) -> Result<()> {
        eventually(limit, &format!("{object} {pointer} = {wanted}"), || {
            let value = self.field(object, pointer)?;
            if value == *wanted {
                return Ok(());
            }
            bail!("{pointer} is {value}")
        })
    }

    /// Waits until a service has exactly this many ready endpoints, and returns their addresses.
    pub fn wait_endpoints(&self, service: &str, count: usize) -> Result<Vec<String>> {
        let selector = format!("kubernetes.io/service-name={service}");
        eventually(
            Duration::from_secs(60),
            &format!("{count} ready endpoints of {service}"),
            || {
                let slices = self.get(&["endpointslices", "-l", &selector])?;
                let ready: Vec<String> = slices["items"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default())
                    .filter(|endpoint| endpoint["conditions"]["ready"] == Value::Bool(true))
                    .filter_map(|endpoint| endpoint["addresses"][0].as_str().map(str::to_owned))
                    .collect();
                if ready.len() == count {
                    return Ok(ready);
                }
                bail!("ready now: {ready:?}")
            },
        )
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() || wait::given_up() {
            // The state of a failed scenario is what explains it.
            for args in [
                &["get", "pods", "-o", "wide"][..],
                &["get", "events", "--sort-by=.lastTimestamp"][..],
            ] {
                if let Ok(output) = self.kubectl(args) {
                    eprintln!("{}{}", output.stdout, output.stderr);
                }
            }
        }
        let _ = self
            .cluster
            .kubectl(&["delete", "namespace", &self.name, "--wait=false"]);
    }
}
