//! Clients that measure: each with a connection of its own, and without the retries that would
//! hide a refusal.

use std::path::Path;

use anyhow::{Context as _, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};

/// `count` clients that share nothing.
pub async fn several(kubeconfig: &Path, count: usize) -> Result<Vec<kube::Client>> {
    let file = Kubeconfig::read_from(kubeconfig)
        .with_context(|| format!("read {}", kubeconfig.display()))?;
    let options = KubeConfigOptions::default();
    let mut config = kube::Config::from_custom_kubeconfig(file, &options).await?;
    config.default_retry = false;
    (0..count)
        .map(|_| kube::Client::try_from(config.clone()).context("make a client"))
        .collect()
}

pub async fn single(kubeconfig: &Path) -> Result<kube::Client> {
    let mut clients = several(kubeconfig, 1).await?;
    clients.pop().context("no client was made")
}
