//! Making a pod's sandbox and connecting it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use vetch_network::BandwidthError;
use vetch_runtime::{SandboxId, SandboxStatus};

use super::clean;
use super::job::Outcome;
use crate::pods::cluster_dns;
use crate::pods::context::Context;
use crate::pods::datapath;
use crate::pods::etc::hostname::hostname;
use crate::pods::etc::{self, EtcError};
use crate::pods::sandbox::sandbox_spec;
use crate::pods::text::chain;
use crate::pods::{addresses, runtime_class, spec, unsupported};

#[derive(Debug, thiserror::Error)]
enum SandboxError {
    #[error("{0}")]
    Unsupported(String),
    #[error(transparent)]
    Hostname(#[from] etc::hostname::HostnameError),
    #[error("cleaning up an earlier sandbox: {0}")]
    Earlier(String),
    #[error(transparent)]
    Runtime(#[from] vetch_runtime::Error),
    #[error("failed to set up the network: {0}")]
    Network(String),
    #[error("services have not yet been read at least once, cannot find the cluster's DNS")]
    Services,
    #[error(transparent)]
    Bandwidth(#[from] BandwidthError),
    #[error("the sandbox has no network namespace")]
    NoNamespace,
    #[error(transparent)]
    Etc(#[from] EtcError),
}

pub struct SandboxJob {
    pub context: Arc<Context>,
    pub pod: Arc<Pod>,
    pub dir: PathBuf,
}

impl SandboxJob {
    /// `earlier` are sandboxes that were lost: what is left of them ends first.
    pub async fn make(self, attempt: u32, earlier: Vec<SandboxStatus>) -> Outcome {
        let made = self.try_make(attempt, earlier).await;
        Outcome::Sandbox(made.map_err(|error| chain(&error)))
    }

    async fn try_make(
        &self,
        attempt: u32,
        earlier: Vec<SandboxStatus>,
    ) -> Result<(SandboxId, Vec<IpAddr>), SandboxError> {
        if let Some(words) = unsupported::refusal(&self.pod) {
            return Err(SandboxError::Unsupported(words));
        }
        let class = runtime_class::check(&self.context.client, &self.pod).await;
        class.map_err(SandboxError::Unsupported)?;
        for sandbox in earlier {
            clean::stop_sandbox(&self.context, &sandbox)
                .await
                .map_err(SandboxError::Earlier)?;
        }
        let context = &self.context;
        let config = &context.config;
        let name = hostname(&self.pod, &config.cluster_domain, &context.hostname())?;
        let spec = sandbox_spec(&self.pod, attempt, name.kernel.clone(), config);
        let sandbox = context.runtime.create_sandbox(spec).await?;
        match self.connect(&sandbox, true).await {
            Ok(ips) => Ok((sandbox.id, ips)),
            Err(error) => {
                // It is made anew the next time, as the kubelet does.
                let removed = clean::network_and_sandbox(context, &sandbox.id).await;
                if let Err(words) = removed {
                    tracing::warn!(sandbox = %sandbox.id, "{words}");
                }
                Err(error)
            }
        }
    }

    /// For a sandbox that an earlier daemon made and did not connect.
    pub async fn attach(self, sandbox: SandboxStatus) -> Outcome {
        let attached = self.connect(&sandbox, false).await;
        Outcome::Attached(attached.map_err(|error| chain(&error)))
    }

    async fn connect(
        &self,
        sandbox: &SandboxStatus,
        tell: bool,
    ) -> Result<Vec<IpAddr>, SandboxError> {
        let context = &self.context;
        let servers = cluster_dns::servers(context, &self.pod).await;
        let servers = servers.ok_or(SandboxError::Services)?;
        let ips = if spec::host_network(&self.pod) {
            context.config.node_ips.clone()
        } else {
            let netns = sandbox.netns.as_ref().ok_or(SandboxError::NoNamespace)?;
            let (options, warnings) = datapath::options(&self.pod)?;
            if tell {
                for message in warnings {
                    let teller = context.recorder.pod(&self.pod);
                    teller.warning("InvalidAnnotation", message);
                }
            }
            let attached = context.network.attach(&sandbox.id.0, netns, options).await;
            let found = attached.map_err(|error| SandboxError::Network(chain(&error)))?;
            addresses::of_pod(&found.ips, &context.config.node_ips)
        };
        let warnings = write_etc(context, &self.pod, &self.dir, &ips, &servers)?;
        if tell {
            for (reason, message) in warnings {
                context.recorder.pod(&self.pod).warning(reason, message);
            }
        }
        Ok(ips)
    }
}

/// The files of /etc; a few hundred bytes each.
fn write_etc(
    context: &Context,
    pod: &Pod,
    dir: &std::path::Path,
    ips: &[IpAddr],
    cluster_dns: &[IpAddr],
) -> Result<Vec<etc::resolv::Warning>, SandboxError> {
    let config = &context.config;
    let name = hostname(pod, &config.cluster_domain, &context.hostname())?;
    Ok(etc::write(
        dir,
        pod,
        ips,
        &name,
        cluster_dns,
        &config.cluster_domain,
    )?)
}

/// Before a container starts: a daemon may have come to a pod whose files are gone.
pub async fn ensure_etc(
    context: &Context,
    pod: &Pod,
    dir: &std::path::Path,
    ips: &[IpAddr],
) -> Result<(), String> {
    if etc::are_there(dir) {
        return Ok(());
    }
    let servers = cluster_dns::servers(context, pod).await;
    let written = servers
        .ok_or(SandboxError::Services)
        .and_then(|servers| write_etc(context, pod, dir, ips, &servers));
    written.map(drop).map_err(|error| chain(&error))
}
