//! The service proxy of one node.

use std::{net::IpAddr, path::PathBuf};

use tokio_util::sync::CancellationToken;

#[derive(Clone, Debug)]
pub struct ProxyConfig {
    pub node_name: String,
    pub node_ips: Vec<IpAddr>,
    /// The cgroup v2 directory the programs are attached at.
    pub cgroup: PathBuf,
    /// Where maps and links are pinned: a directory on a bpffs.
    pub pin_dir: PathBuf,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("built without eBPF programs: run cargo xtask build")]
    NoPrograms,
}

pub async fn run(_client: kube::Client, _config: ProxyConfig, shutdown: CancellationToken) -> Result<(), Error> {
    shutdown.cancelled().await;
    Ok(())
}
