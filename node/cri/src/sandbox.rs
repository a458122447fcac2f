//! Pod sandboxes: what is done for each call.

mod bandwidth;
mod config;
mod ports;
mod status;

use std::net::IpAddr;

use tonic::Status;
use tracing::warn;
use vetch_cri_proto::v1::{
    ContainerStatus, PodSandbox, PodSandboxConfig, PodSandboxFilter, PodSandboxStatus,
    PodSandboxStatusResponse, RunPodSandboxRequest, UpdatePodSandboxResourcesRequest,
};
use vetch_network::PodOptions;
use vetch_runtime::{SandboxId, SandboxStatus};

use crate::files::Contents;
use crate::{Cri, container, error, filter, id, resources};

pub use config::{HANDLER, check_handler, check_selinux, has_selinux, pid_mode, user_namespace};
pub use status::metadata;

impl Cri {
    /// Its sandbox is connected when this returns, or nothing of it is left.
    pub async fn run_sandbox(&self, request: RunPodSandboxRequest) -> Result<SandboxId, Status> {
        config::check_handler(&request.runtime_handler)?;
        let config = request
            .config
            .ok_or_else(|| Status::invalid_argument("config is missing"))?;
        let spec = config::spec(&config, &self.log_dir)?;
        let options = PodOptions {
            host_ports: ports::host_ports(&config, self.serves_host_ports)?,
            bandwidth: bandwidth::bandwidth(&config.annotations)?,
            ..PodOptions::default()
        };
        let made = self.runtime.create_sandbox(spec).await;
        let sandbox = made.map_err(error::status)?;
        match self.connect(&sandbox, &config, options).await {
            Ok(()) => Ok(sandbox.id),
            Err(refused) => {
                if let Err(left) = self.remove_sandbox(&sandbox.id.0).await {
                    warn!(sandbox = %sandbox.id, "cleaning up: {left}");
                }
                Err(refused)
            }
        }
    }

    async fn connect(
        &self,
        sandbox: &SandboxStatus,
        config: &PodSandboxConfig,
        options: PodOptions,
    ) -> Result<(), Status> {
        let ips = match &sandbox.netns {
            Some(netns) => {
                let attached = self.network.attach(&sandbox.id.0, netns, options).await;
                Some(attached.map_err(error::network)?.ips)
            }
            None => None,
        };
        let contents = Contents {
            hostname: &sandbox.spec.hostname,
            ips: ips.as_deref(),
            dns: config.dns_config.as_ref(),
        };
        let written = self.files.write(&sandbox.id, &contents);
        written.map_err(|error| Status::unknown(error.to_string()))
    }

    /// One that is not there is stopped.
    pub async fn stop_sandbox(&self, wanted: &str) -> Result<(), Status> {
        match self.known_sandbox(wanted).await? {
            Some(sandbox) => self.stop(&sandbox).await,
            None => Ok(()),
        }
    }

    async fn stop(&self, sandbox: &SandboxStatus) -> Result<(), Status> {
        if !sandbox.spec.host_network {
            let detached = self.network.detach(&sandbox.id.0).await;
            detached.map_err(error::network)?;
        }
        let stopped = self.runtime.stop_sandbox(&sandbox.id).await;
        stopped.map_err(error::status)
    }

    /// With all its containers.
    pub async fn remove_sandbox(&self, wanted: &str) -> Result<(), Status> {
        let Some(sandbox) = self.known_sandbox(wanted).await? else {
            return Ok(());
        };
        self.stop(&sandbox).await?;
        let removed = self.runtime.remove_sandbox(&sandbox.id).await;
        removed.map_err(error::status)?;
        let ours = config::own_log_dir(&sandbox.spec, &self.log_dir);
        let files = self.files.remove(&sandbox.id);
        let logs = ours.map_or(Ok(()), |dir| match std::fs::remove_dir_all(dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        });
        for left in [files, logs].into_iter().filter_map(Result::err) {
            warn!(sandbox = %sandbox.id, "removing its files: {left}");
        }
        Ok(())
    }

    /// Its client may have changed them already: where the place of its cgroup is the client's, they
    /// are only noted.
    pub async fn update_sandbox(
        &self,
        request: UpdatePodSandboxResourcesRequest,
    ) -> Result<(), Status> {
        let sandbox = self.find_sandbox(&request.pod_sandbox_id).await?;
        let given =
            resources::with_overhead(request.resources.as_ref(), request.overhead.as_ref())?;
        let wanted = resources::merged(&sandbox.spec.resources, given);
        let updated = self.runtime.update_sandbox_resources(&sandbox.id, wanted);
        updated.await.map_err(error::status)
    }

    pub async fn list_sandboxes(&self, filter: Option<PodSandboxFilter>) -> Vec<PodSandbox> {
        let wanted = filter.unwrap_or_default();
        let all = self.runtime.list().await;
        let chosen = all.iter().filter(|sandbox| {
            filter::is_id(&sandbox.id.0, &wanted.id)
                && wanted
                    .state
                    .is_none_or(|state| state.state == status::state(sandbox))
                && filter::has_labels(&sandbox.spec.labels, &wanted.label_selector)
        });
        chosen.map(status::listed).collect()
    }

    pub async fn sandbox_status(
        &self,
        wanted: &str,
        verbose: bool,
    ) -> Result<PodSandboxStatusResponse, Status> {
        let sandbox = self.find_sandbox(wanted).await?;
        let (status, containers) = self.described(&sandbox).await;
        Ok(PodSandboxStatusResponse {
            status: Some(status),
            info: if verbose {
                status::info(&sandbox)
            } else {
                Default::default()
            },
            containers_statuses: containers,
            timestamp: crate::now(),
        })
    }

    /// A sandbox with its containers.
    pub async fn described(
        &self,
        sandbox: &SandboxStatus,
    ) -> (PodSandboxStatus, Vec<ContainerStatus>) {
        let images = self.runtime.images().list().await;
        let containers = self.containers_of(sandbox).map(|known| {
            let image = images.iter().find(|image| image.id == known.spec.image_id);
            container::status(&known, &sandbox.spec, &self.files, image)
        });
        let containers = containers.collect();
        (
            status::whole(sandbox, &self.addresses(sandbox).await),
            containers,
        )
    }

    async fn addresses(&self, sandbox: &SandboxStatus) -> Vec<IpAddr> {
        let addresses = self.network.addresses(&sandbox.id.0).await;
        addresses.map(|addresses| addresses.ips).unwrap_or_default()
    }

    pub async fn find_sandbox(&self, wanted: &str) -> Result<SandboxStatus, Status> {
        let all = self.runtime.list().await;
        let id = id::resolve(
            "sandbox",
            wanted,
            all.iter().map(|sandbox| sandbox.id.0.as_str()),
        )?;
        let found = all.into_iter().find(|sandbox| sandbox.id.0 == id);
        found.ok_or_else(|| Status::not_found(format!("sandbox {id:?} not found")))
    }

    /// For calls that may come again when it is gone.
    async fn known_sandbox(&self, wanted: &str) -> Result<Option<SandboxStatus>, Status> {
        absent(self.find_sandbox(wanted).await)
    }

    /// A reason why new sandboxes would get no address, if there is one.
    pub async fn network_problem(&self) -> Option<&'static str> {
        let ready = self.network.has_pod_cidrs().await;
        (!ready).then_some("no pod CIDR is known yet")
    }
}

/// What is not there is no error.
pub fn absent<T>(found: Result<T, Status>) -> Result<Option<T>, Status> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
        Err(status) => Err(status),
    }
}
