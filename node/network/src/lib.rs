//! The pod network of one node.

use std::{
    collections::HashSet,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// What the node knows about itself before it has a pod CIDR.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    pub node_name: String,
    pub node_ip: IpAddr,
    pub state_dir: PathBuf,
    pub mtu: Option<u32>,
}

/// The addresses of one sandbox, the primary one first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodAddresses {
    pub ips: Vec<IpAddr>,
}

/// Another node, as far as routes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub name: String,
    pub pod_cidrs: Vec<IpNet>,
    pub node_ip: IpAddr,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("the node has no pod CIDR yet")]
    NoPodCidr,
}

#[derive(Clone)]
pub struct Network {
    inner: Arc<NetworkConfig>,
}

impl Network {
    pub async fn open(config: NetworkConfig) -> Result<Self, Error> {
        Ok(Self { inner: Arc::new(config) })
    }

    pub async fn set_pod_cidrs(&self, _cidrs: &[IpNet]) -> Result<(), Error> {
        Ok(())
    }

    pub async fn set_peers(&self, _peers: &[Peer]) -> Result<(), Error> {
        Ok(())
    }

    pub async fn attach(&self, _sandbox_id: &str, _netns: &Path) -> Result<PodAddresses, Error> {
        Ok(PodAddresses { ips: vec![self.inner.node_ip] })
    }

    pub async fn detach(&self, _sandbox_id: &str) -> Result<(), Error> {
        Ok(())
    }

    pub async fn addresses(&self, _sandbox_id: &str) -> Option<PodAddresses> {
        None
    }

    pub async fn retain(&self, _live: &HashSet<String>) -> Result<(), Error> {
        Ok(())
    }
}
