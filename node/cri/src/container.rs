//! Containers: what is done for each call.

mod config;
mod status;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tonic::Status;
use vetch_cri_proto::v1::{
    Container, ContainerFilter, ContainerStatusResponse, CreateContainerRequest, ExecSyncRequest,
    ExecSyncResponse, UpdateContainerResourcesRequest,
};
use vetch_runtime::{
    ContainerId, ContainerSpec, ContainerStatus, NO_LIMIT, SandboxId, SandboxStatus,
};

use crate::sandbox::absent;
use crate::{Cri, cdi, error, filter, id, resources};

#[cfg(test)]
pub use config::tests;
pub use config::{access, report_signal};
pub use status::{labels, metadata, whole as status};

/// What the runtime knows of one.
pub struct Known {
    pub sandbox: SandboxId,
    pub spec: ContainerSpec,
    pub status: ContainerStatus,
    /// The kernel's number.
    pub stop_signal: i32,
}

impl Cri {
    pub async fn create_container(
        &self,
        request: CreateContainerRequest,
    ) -> Result<ContainerId, Status> {
        let sandbox = self.find_sandbox(&request.pod_sandbox_id).await?;
        let config = request
            .config
            .ok_or_else(|| Status::invalid_argument("config is missing"))?;
        let wanted = config
            .image
            .as_ref()
            .map_or("", |image| image.image.as_str());
        let mut images = config::Images {
            own: self.image_id(wanted).await?,
            mounted: BTreeMap::new(),
        };
        for name in config::mounted_images(&config) {
            let id = self.image_id(name).await?;
            images.mounted.insert(name.to_owned(), id);
        }
        if let Some(of_sandbox) = &request.sandbox_config {
            config::check_sandbox(&config, of_sandbox)?;
        }
        let mut spec = config::spec(&config, &images, &sandbox.spec)?;
        let devices = config.cdi_devices.iter().map(|device| device.name.as_str());
        let devices: Vec<&str> = devices.collect();
        cdi::add(&mut spec, &devices, &cdi::DIRS.map(Path::new))?;
        config::make_missing(&spec.mounts)?;
        let files = self
            .files
            .mounts(&sandbox.id, &spec.mounts, spec.readonly_rootfs);
        spec.mounts.extend(files);
        let made = self.runtime.create_container(&sandbox.id, spec).await;
        made.map_err(error::status)
    }

    async fn image_id(&self, name: &str) -> Result<String, Status> {
        let found = self.runtime.images().status(name).await;
        let image = found.ok_or_else(|| error::image_not_found(name))?;
        Ok(image.id)
    }

    pub async fn start_container(&self, wanted: &str) -> Result<(), Status> {
        let known = self.find_container(wanted).await?;
        let started = self.runtime.start_container(&known.status.id).await;
        started.map_err(error::status)
    }

    /// One that is not there is stopped. `timeout` is in seconds.
    pub async fn stop_container(&self, wanted: &str, timeout: i64) -> Result<(), Status> {
        let Some(known) = absent(self.find_container(wanted).await)? else {
            return Ok(());
        };
        let grace = Duration::from_secs(u64::try_from(timeout).unwrap_or(0));
        let stopped = self.runtime.stop_container(&known.status.id, grace).await;
        stopped.map_err(error::status)
    }

    /// Kills it, if it runs.
    pub async fn remove_container(&self, wanted: &str) -> Result<(), Status> {
        let Some(known) = absent(self.find_container(wanted).await)? else {
            return Ok(());
        };
        let removed = self.runtime.remove_container(&known.status.id).await;
        removed.map_err(error::status)
    }

    pub async fn list_containers(&self, filter: Option<ContainerFilter>) -> Vec<Container> {
        let wanted = filter.unwrap_or_default();
        let chosen = self.containers().await.into_iter().filter(|known| {
            filter::is_id(&known.status.id.0, &wanted.id)
                && filter::is_id(&known.sandbox.0, &wanted.pod_sandbox_id)
                && wanted
                    .state
                    .is_none_or(|state| state.state == status::state(&known.status))
                && filter::has_labels(&known.spec.labels, &wanted.label_selector)
        });
        chosen
            .map(|known| status::listed(&known.sandbox, &known.spec, &known.status))
            .collect()
    }

    pub async fn container_status(
        &self,
        wanted: &str,
        verbose: bool,
    ) -> Result<ContainerStatusResponse, Status> {
        let known = self.find_container(wanted).await?;
        let sandbox = self.find_sandbox(&known.sandbox.0).await?;
        let image = self.runtime.images().status(&known.spec.image_id).await;
        let status = status(&known, &sandbox.spec, &self.files, image.as_ref());
        Ok(ContainerStatusResponse {
            status: Some(status),
            info: if verbose {
                status::info(&known.sandbox, &known.spec, &known.status)
            } else {
                Default::default()
            },
        })
    }

    pub async fn reopen_log(&self, wanted: &str) -> Result<(), Status> {
        let known = self.find_container(wanted).await?;
        let reopened = self.runtime.reopen_log(&known.status.id).await;
        reopened.map_err(error::status)
    }

    /// What is not given stays.
    pub async fn update_resources(
        &self,
        request: UpdateContainerResourcesRequest,
    ) -> Result<(), Status> {
        let known = self.find_container(&request.container_id).await?;
        if request.windows.is_some() {
            return Err(error::unsupported("windows is"));
        }
        let wanted = resources::changed(&known.spec.resources, request.linux.as_ref())?;
        let id = &known.status.id;
        let annotations = request.annotations.into_iter().collect();
        let updated = self.runtime.update_container(id, wanted, annotations).await;
        updated.map_err(error::status)
    }

    /// `DeadlineExceeded` when it was killed for its time; no limit where `timeout` (seconds) is 0.
    pub async fn exec_sync(&self, request: ExecSyncRequest) -> Result<ExecSyncResponse, Status> {
        let known = self.find_container(&request.container_id).await?;
        if request.cmd.is_empty() {
            return Err(Status::invalid_argument("cmd is empty"));
        }
        let limit = match u64::try_from(request.timeout) {
            Ok(seconds @ 1..) => Duration::from_secs(seconds),
            _ => NO_LIMIT,
        };
        let output = self
            .runtime
            .exec(&known.status.id, request.cmd, limit)
            .await;
        let output = output.map_err(error::status)?;
        if output.timed_out {
            return Err(Status::deadline_exceeded(format!(
                "the command did not end within {} s and was killed",
                request.timeout
            )));
        }
        Ok(ExecSyncResponse {
            stdout: output.stdout,
            stderr: output.stderr,
            exit_code: output.exit_code,
        })
    }

    /// All, each with its sandbox.
    pub async fn containers(&self) -> Vec<Known> {
        let sandboxes = self.runtime.list().await;
        let all = sandboxes
            .iter()
            .flat_map(|sandbox| self.containers_of(sandbox));
        all.collect()
    }

    pub fn containers_of(&self, sandbox: &SandboxStatus) -> impl Iterator<Item = Known> {
        let containers = sandbox.containers.iter();
        containers.filter_map(|container| self.known(&container.id))
    }

    fn known(&self, id: &ContainerId) -> Option<Known> {
        let (sandbox, spec, status) = self.runtime.container(id)?;
        Some(Known {
            sandbox,
            spec,
            status,
            stop_signal: self.runtime.stop_signal(id)?,
        })
    }

    pub async fn find_container(&self, wanted: &str) -> Result<Known, Status> {
        let sandboxes = self.runtime.list().await;
        let ids = sandboxes.iter().flat_map(|sandbox| &sandbox.containers);
        let id = id::resolve("container", wanted, ids.map(|known| known.id.0.as_str()))?;
        let found = self.known(&ContainerId(id.clone()));
        found.ok_or_else(|| Status::not_found(format!("container {id:?} not found")))
    }
}
