//! The cluster that is measured: one of `cargo xtask up` on this machine, or any other by its
//! kubeconfig.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde::Deserialize;

#[derive(Clone)]
pub struct Target {
    pub client: kube::Client,
    pub kubeconfig: PathBuf,
    /// Of a cluster of namespaces on this machine: then daemons and nodes can be looked into.
    pub local: Option<Local>,
}

/// What `cluster.json` says.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Local {
    pub name: String,
    kubeconfig: PathBuf,
    /// The API server as nodes and pods reach it.
    pub node_server: String,
    #[serde(rename = "podCIDR")]
    pub pod_cidr: String,
    #[serde(rename = "serviceCIDR")]
    pub service_cidr: String,
    pub daemons: Daemons,
    pub nodes: Vec<LocalNode>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Daemons {
    pub etcd: Daemon,
    pub control: Daemon,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Daemon {
    pub pids: Vec<i32>,
    pub cgroup: PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalNode {
    pub name: String,
    pub address: String,
    /// Namespaces, as paths that `nsenter` takes.
    pub netns: PathBuf,
    pub mountns: PathBuf,
    /// Holds the daemon (in its leaf `daemon`) and every pod.
    pub cgroup: PathBuf,
    /// Of the daemon.
    pub pids: Vec<i32>,
}

impl Target {
    /// A cluster of this machine, by its `cluster.json`.
    pub async fn local(description: &Path) -> Result<Target> {
        let text = fs::read_to_string(description)
            .with_context(|| format!("read {}: is the cluster up?", description.display()))?;
        let local: Local = serde_json::from_str(&text)
            .with_context(|| format!("read {}", description.display()))?;
        let mut target = Target::remote(&local.kubeconfig.clone()).await?;
        target.local = Some(local);
        Ok(target)
    }

    /// Any cluster.
    pub async fn remote(kubeconfig: &Path) -> Result<Target> {
        // Whoever was first has installed the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let file = Kubeconfig::read_from(kubeconfig)
            .with_context(|| format!("read {}", kubeconfig.display()))?;
        let config =
            kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        Ok(Target {
            client: kube::Client::try_from(config)?,
            kubeconfig: kubeconfig.to_owned(),
            local: None,
        })
    }
}
