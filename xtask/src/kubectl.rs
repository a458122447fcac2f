//! The API server as an administrator asks it, by the kubectl that is there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::process;

pub mod recent;

/// `VETCH_KUBECTL`, or the one in `PATH`.
pub fn program() -> Result<PathBuf> {
    std::env::var_os("VETCH_KUBECTL")
        .map(PathBuf::from)
        .or_else(|| process::find("kubectl"))
        .context("there is no kubectl: run `apt-get install kubernetes-client`")
}

impl Cluster {
    /// Raw requests only: they need no discovery and no cache.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        run(&self.paths.admin_kubeconfig(), arguments)
    }

    pub fn node_conditions(&self) -> Result<Vec<NodeCondition>> {
        nodes(&self.paths.admin_kubeconfig())
    }
}

fn run(kubeconfig: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program()?)
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("run kubectl")?;
    if !output.status.success() {
        bail!(
            "kubectl {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The nodes the API server knows, each with its Ready condition's status and message.
pub fn nodes(kubeconfig: &Path) -> Result<Vec<NodeCondition>> {
    let list = run(kubeconfig, &["get", "--raw", "/api/v1/nodes"])?;
    Ok(node_conditions(&serde_json::from_str(&list)?))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeCondition {
    pub name: String,
    pub ready: bool,
    pub message: String,
}

fn node_conditions(list: &Value) -> Vec<NodeCondition> {
    let node = |item: &Value| {
        let conditions = item["status"]["conditions"].as_array();
        let ready = conditions
            .into_iter()
            .flatten()
            .find(|condition| condition["type"] == "Ready");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        NodeCondition {
            name: text(&item["metadata"]["name"]),
            ready: ready.is_some_and(|ready| ready["status"] == "True"),
            message: ready
                .map(|ready| text(&ready["message"]))
                .unwrap_or_default(),
        }
    };
    list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(node)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_ready_when_its_condition_says_so() {
        let node = |name: &str, conditions: Value| json!({"metadata": {"name": name}, "status": {"conditions": conditions}});
        let list = json!({"items": [
            node("a", json!([{"type": "Other", "status": "False"}, {"type": "Ready", "status": "True", "message": "yes"}])),
            node("b", json!([{"type": "Ready", "status": "Unknown", "message": "lost"}])),
            {"metadata": {"name": "c"}},
        ]});
        let found = node_conditions(&list);
        let states: Vec<_> = found
            .iter()
            .map(|node| (node.name.as_str(), node.ready, node.message.as_str()))
            .collect();
        assert_eq!(
            states,
            [("a", true, "yes"), ("b", false, "lost"), ("c", false, "")]
        );
    }
}
