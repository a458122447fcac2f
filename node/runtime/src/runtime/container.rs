//! Containers: made, started, stopped, removed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use vetch_shim::protocol::{self, BUNDLE_FILE, ROOTFS_DIR, Reply, Request, STATE_FILE, State};

use super::{Container, Runtime, new_id};
use crate::bundle::{self, MountedImages, Places};
use crate::devices::{DeviceError, DeviceNode, nodes};
use crate::error::Chain;
use crate::images::{ImageError, layers, part};
use crate::record::{self, CONTAINER_FILE, ContainerRecord};
use crate::shim::ShimConnection;
use crate::types::*;
use crate::{Error, cgroup, seccomp, signal, users};

const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// Mounting and exec; a volume on a dead server may hang there.
const START_TIMEOUT: Duration = Duration::from_secs(120);

impl Runtime {
    /// Makes its directories and its cgroup; nothing runs yet.
    pub async fn create_container(
        &self,
        sandbox: &SandboxId,
        spec: ContainerSpec,
    ) -> Result<ContainerId, Error> {
        let status = self
            .sandbox(sandbox)
            .await
            .ok_or_else(|| Error::SandboxNotFound(sandbox.clone()))?;
        if status.state != SandboxState::Ready {
            return Err(Error::SandboxNotReady(sandbox.clone()));
        }
        if let Some(target) = &spec.pid_target {
            check_target(&status, target)?;
        }
        let runtime = self.clone();
        // Goes on when the caller does not: no half-made container is left.
        tokio::task::spawn_blocking(move || {
            let id = ContainerId(new_id());
            match runtime.make_container(&status, &id, spec) {
                Ok(()) => {
                    runtime.changed(&status.id);
                    Ok(id)
                }
                Err(error) => {
                    if let Err(cleaning) = runtime.discard_files(&status, &id) {
                        tracing::warn!(container = %id, "cleaning up: {}", Chain(&cleaning));
                    }
                    Err(error)
                }
            }
        })
        .await?
    }

    /// container.json comes last: without it, all this is rubbish.
    fn make_container(
        &self,
        sandbox: &SandboxStatus,
        id: &ContainerId,
        spec: ContainerSpec,
    ) -> Result<(), Error> {
        if sandbox.spec.user_namespace.is_some() {
            users::check_mounts(&spec.mounts)?;
        }
        let images = self.images();
        let mounted: Vec<&str> = spec
            .mounts
            .iter()
            .filter_map(|mount| Some(mount.image()?.id.as_str()))
            .collect();
        // Pinned before they are looked at, so that no removal comes between.
        let (image, found) = images
            .pin(&id.0, &spec.image_id, &mounted)
            .map_err(|error| match error {
                ImageError::NotFound(image) => Error::ImageNotFound(image),
                other => other.into(),
            })?;
        let mut trees = MountedImages::new();
        for (name, image) in mounted.iter().zip(&found) {
            // Without a writable directory overlayfs wants two.
            trees.insert((*name).to_owned(), images.lower(image, 2)?);
        }
        let stop_signal = spec
            .stop_signal
            .as_deref()
            .or(image.status.stop_signal.as_deref())
            .unwrap_or("SIGTERM");
        let stop_signal = signal::parse(stop_signal)?;

        let writable = self.writable_dir(id);
        let places = Places {
            cgroup: self.pod_cgroup(&sandbox.spec).join(&id.0),
            lower: images.lower(&image, 1)?,
            upper: writable.join("upper"),
            work: writable.join("work"),
            log: sandbox.spec.log_directory.join(&spec.log_path),
            images: trees,
        };
        let cgroup = places.cgroup.clone();
        let (upper, work) = (places.upper.clone(), places.work.clone());
        let mut bundle = bundle::decide(&spec, &image.status, &sandbox.spec.hostname, places)?;
        bundle.seccomp = seccomp::filter(&spec, bundle.capabilities)?;
        if bundle.seccomp.is_some() {
            self.check_filters(&sandbox.id)?;
        }
        bundle.apparmor = self.inner.profiles.of(&spec)?;
        if bundle.apparmor.is_some() && !self.sets_profiles(&sandbox.id)? {
            if spec.apparmor != AppArmor::Unsaid {
                let message =
                    "it is of a version that sets no AppArmor profiles: a new pod has a new one";
                return Err(Error::Shim {
                    sandbox: sandbox.id.clone(),
                    message: message.into(),
                });
            }
            bundle.apparmor = None;
        }
        let nodes = nodes::find(&spec.devices)?;
        bundle.devices = nodes.iter().map(DeviceNode::bind).collect();
        if !bundle.devices.is_empty() || bundle.ambient != 0 {
            self.check_devices(&sandbox.id)?;
        }

        let dir = self.container_dir(&sandbox.id, id);
        let rootfs = dir.join(ROOTFS_DIR);
        for made in [&rootfs, &upper, &work] {
            fs::create_dir_all(made).map_err(Error::io("making", made))?;
        }
        for mount in &bundle.mounts {
            if let protocol::MountSource::Image(image) = &mount.source
                && let Some(wanted) = &image.sub_path
            {
                part::find(&image.lower, wanted, &rootfs)?;
            }
        }
        if let Some(map) = sandbox.spec.id_map() {
            users::own(&upper, map)?;
        }
        self.inner.cgroups.make(&cgroup)?;
        bundle.device_cgroup = self.restrict_devices(&cgroup, spec.privileged, &nodes)?;
        self.inner.cgroups.kill_whole_on_oom(&cgroup)?;
        self.inner.cgroups.apply(&cgroup, &spec.resources)?;
        record::write(&dir.join(BUNDLE_FILE), &bundle)?;
        let record = ContainerRecord {
            spec,
            created_at: Timestamp::now(),
            cgroup,
            layers: layers(&image, &found),
            stop_signal,
        };
        record::write(&dir.join(CONTAINER_FILE), &record)?;
        match self.sandboxes().get_mut(&sandbox.id) {
            Some(sandbox) => {
                let observed = None;
                sandbox
                    .containers
                    .insert(id.clone(), Container { record, observed });
                Ok(())
            }
            None => Err(Error::SandboxNotFound(sandbox.id.clone())),
        }
    }

    /// Whether the supervisor sets the filter of a bundle, or leaves its
    /// container less confined than it asks for.
    fn check_filters(&self, sandbox: &SandboxId) -> Result<(), Error> {
        let state: Option<State> = record::read(&self.dir(sandbox).join(STATE_FILE))?;
        if state.is_some_and(|state| state.sets_filters) {
            return Ok(());
        }
        let message = "it is of a version that sets no seccomp filters: a new pod has a new one";
        Err(Error::Shim {
            sandbox: sandbox.clone(),
            message: message.into(),
        })
    }

    /// Whether the supervisor knows of `Bundle::devices` and `Bundle::ambient`, or reads over them.
    fn check_devices(&self, sandbox: &SandboxId) -> Result<(), Error> {
        let state: Option<State> = record::read(&self.dir(sandbox).join(STATE_FILE))?;
        if state.is_some_and(|state| state.binds_devices) {
            return Ok(());
        }
        let message = "it is of a version that gives containers no devices and no ambient capabilities: \
                       a new pod has a new one";
        Err(Error::Shim {
            sandbox: sandbox.clone(),
            message: message.into(),
        })
    }

    /// Whether the supervisor knows of `Bundle::apparmor`.
    fn sets_profiles(&self, sandbox: &SandboxId) -> Result<bool, Error> {
        let state: Option<State> = record::read(&self.dir(sandbox).join(STATE_FILE))?;
        Ok(state.is_some_and(|state| state.sets_profiles))
    }

    /// Whether `cgroup` decides which devices the container may use; that of a
    /// privileged one never does. Where none decides, who is to have less of a
    /// device than all of it would have more.
    pub(super) fn restrict_devices(
        &self,
        cgroup: &Path,
        privileged: bool,
        nodes: &[DeviceNode],
    ) -> Result<bool, DeviceError> {
        match &self.inner.devices {
            _ if privileged => Ok(false),
            Ok(devices) => devices.restrict(cgroup, nodes).map(|()| true),
            Err(problem) => match nodes.iter().find(|node| !node.is_whole()) {
                Some(node) => Err(DeviceError::Undecided {
                    path: node.host_path.clone(),
                    problem: problem.clone(),
                }),
                None => Ok(false),
            },
        }
    }

    /// Returns when its program runs. A container is started once.
    pub async fn start_container(&self, id: &ContainerId) -> Result<(), Error> {
        let (sandbox, status) = self.find(id)?;
        if status.state != ContainerState::Created {
            return Err(Error::WrongState {
                id: id.clone(),
                state: state_name(status.state),
                wanted: "created",
            });
        }
        let request = Request::Start {
            container: id.0.clone(),
        };
        match self.ask(&sandbox, &request, START_TIMEOUT).await? {
            Reply::Started { .. } => {
                // So that who started it sees it running, or already exited.
                self.wait_until(KILL_TIMEOUT, |runtime| runtime.was_started(id))
                    .await;
                Ok(())
            }
            Reply::Failed { message } => {
                self.wait_until(Duration::from_secs(1), |runtime| runtime.was_started(id))
                    .await;
                Err(Error::Start(message))
            }
            other => Err(unexpected(&sandbox, &other)),
        }
    }

    fn was_started(&self, id: &ContainerId) -> bool {
        self.find_container(id)
            .is_none_or(|(_, status)| status.state != ContainerState::Created)
    }

    /// Stop signal, then SIGKILL to the whole container after `grace`. Returns
    /// when it is dead. Idempotent.
    pub async fn stop_container(&self, id: &ContainerId, grace: Duration) -> Result<(), Error> {
        let Some((sandbox, status)) = self.find_container(id) else {
            return Ok(());
        };
        match status.state {
            ContainerState::Running => {}
            ContainerState::Created | ContainerState::Exited => return Ok(()),
            ContainerState::Unknown => return self.kill_unsupervised(id).await,
        }
        let dead = |runtime: &Runtime| {
            runtime
                .find_container(id)
                .is_none_or(|(_, status)| status.state != ContainerState::Running)
        };
        if !grace.is_zero() {
            let signal = self
                .sandboxes()
                .get(&sandbox)
                .and_then(|sandbox| sandbox.containers.get(id))
                .map_or(libc::SIGTERM, |container| container.record.stop_signal);
            self.signal(&sandbox, id, signal, false).await?;
            if self.wait_until(grace, dead).await {
                return Ok(());
            }
        }
        self.signal(&sandbox, id, libc::SIGKILL, true).await?;
        if self.wait_until(KILL_TIMEOUT, dead).await {
            Ok(())
        } else {
            Err(Error::WouldNotDie(id.clone()))
        }
    }

    async fn signal(
        &self,
        sandbox: &SandboxId,
        id: &ContainerId,
        signal: i32,
        all: bool,
    ) -> Result<(), Error> {
        let request = Request::Kill {
            container: id.0.clone(),
            signal,
            all,
        };
        match self.ask(sandbox, &request, KILL_TIMEOUT).await {
            Ok(Reply::Done) => Ok(()),
            Ok(Reply::Failed { message }) => Err(Error::Shim {
                sandbox: sandbox.clone(),
                message,
            }),
            Ok(other) => Err(unexpected(sandbox, &other)),
            Err(Error::ShimGone(_)) => self.kill_unsupervised(id).await,
            Err(error) => Err(error),
        }
    }

    async fn kill_unsupervised(&self, id: &ContainerId) -> Result<(), Error> {
        let Some(path) = self.container_cgroup(id) else {
            return Ok(());
        };
        cgroup::kill(&path)?;
        if cgroup::wait_empty(&path, KILL_TIMEOUT).await {
            Ok(())
        } else {
            Err(Error::WouldNotDie(id.clone()))
        }
    }

    /// For a log that somebody has moved away: the next lines are in a new file.
    pub async fn reopen_log(&self, id: &ContainerId) -> Result<(), Error> {
        let (sandbox, status) = self.find(id)?;
        if status.state != ContainerState::Running {
            return Err(Error::WrongState {
                id: id.clone(),
                state: state_name(status.state),
                wanted: "running",
            });
        }
        let request = Request::ReopenLog {
            container: id.0.clone(),
        };
        match self.ask(&sandbox, &request, KILL_TIMEOUT).await? {
            Reply::Done => Ok(()),
            Reply::Failed { message } => Err(Error::Shim { sandbox, message }),
            other => Err(unexpected(&sandbox, &other)),
        }
    }

    /// Kills it if need be; the log stays. Idempotent.
    pub async fn remove_container(&self, id: &ContainerId) -> Result<(), Error> {
        let (runtime, id) = (self.clone(), id.clone());
        self.carry(async move {
            runtime.stop_container(&id, Duration::ZERO).await?;
            let Some((sandbox, _)) = runtime.find_container(&id) else {
                return Ok(());
            };
            runtime.discard_container(&sandbox, &id).await?;
            runtime.changed(&sandbox);
            Ok(())
        })
        .await
    }

    /// Of a container that does not run.
    pub(super) async fn discard_container(
        &self,
        sandbox: &SandboxId,
        id: &ContainerId,
    ) -> Result<(), Error> {
        let Some(status) = self.sandbox(sandbox).await else {
            return Ok(());
        };
        let cgroup = self.pod_cgroup(&status.spec).join(&id.0);
        if !cgroup::wait_empty(&cgroup, KILL_TIMEOUT).await {
            return Err(Error::WouldNotDie(id.clone()));
        }
        let (runtime, of) = (self.clone(), id.clone());
        tokio::task::spawn_blocking(move || runtime.discard_files(&status, &of)).await??;
        if let Some(sandbox) = self.sandboxes().get_mut(sandbox) {
            sandbox.containers.remove(id);
        }
        Ok(())
    }

    /// container.json goes first: killed half-way, the rest is rubbish.
    fn discard_files(&self, sandbox: &SandboxStatus, id: &ContainerId) -> Result<(), Error> {
        let dir = self.container_dir(&sandbox.id, id);
        record::remove_file(&dir.join(CONTAINER_FILE))?;
        cgroup::remove(&self.pod_cgroup(&sandbox.spec).join(&id.0))?;
        record::remove_tree(&dir)?;
        record::remove_tree(&self.writable_dir(id))?;
        Ok(self.images().unpin(&id.0)?)
    }

    pub(super) fn find(&self, id: &ContainerId) -> Result<(SandboxId, ContainerStatus), Error> {
        self.find_container(id)
            .ok_or_else(|| Error::ContainerNotFound(id.clone()))
    }

    pub(super) async fn ask(
        &self,
        sandbox: &SandboxId,
        request: &Request,
        timeout: Duration,
    ) -> Result<Reply, Error> {
        let call = async {
            let mut connection = ShimConnection::open(&self.dir(sandbox)).await?;
            connection.call(request).await
        };
        match tokio::time::timeout(timeout, call).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => {
                tracing::debug!(%sandbox, "asking the supervisor: {error}");
                Err(Error::ShimGone(sandbox.clone()))
            }
            Err(_) => Err(Error::Shim {
                sandbox: sandbox.clone(),
                message: format!("no answer within {timeout:?}"),
            }),
        }
    }
}

/// Found now, it may still be gone when the container starts: the supervisor looks again.
fn check_target(sandbox: &SandboxStatus, target: &ContainerId) -> Result<(), Error> {
    let found = sandbox.containers.iter().find(|known| known.id == *target);
    match found.map(|known| (&known.name, known.state)) {
        Some((_, ContainerState::Running)) => Ok(()),
        Some((name, state)) => Err(Error::Target(format!(
            "container {name} is not running - in state {}",
            state_name(state)
        ))),
        None => Err(Error::Target(format!("container {target} does not exist"))),
    }
}

pub(super) fn unexpected(sandbox: &SandboxId, reply: &Reply) -> Error {
    Error::Shim {
        sandbox: sandbox.clone(),
        message: format!("answered {reply:?}"),
    }
}

pub(super) fn state_name(state: ContainerState) -> &'static str {
    match state {
        ContainerState::Created => "created",
        ContainerState::Running => "running",
        ContainerState::Exited => "exited",
        ContainerState::Unknown => "unknown",
    }
}
