//! Starting one container: its image, its configuration, the program, its
//! postStart hook.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, Secret};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use vetch_runtime::{
    ContainerId, ContainerSpec, ImageMount, ImageStatus, Mount, MountSource, Propagation,
    Resources, SandboxId,
};

use super::job::Outcome;
use super::kill::Kill;
use super::make_sandbox::ensure_etc;
use super::volumes::FollowedObjects;
use crate::pods::container::{self, Parts, WantedMount, WantedSource};
use crate::pods::context::{Context, READ_LIMIT};
use crate::pods::downward::Surroundings;
use crate::pods::env;
use crate::pods::events::Teller;
use crate::pods::image::{self, ImageFailure, Needed};
use crate::pods::plan::KillReason;
use crate::pods::sources::Sources;
use crate::pods::static_pods::is_static;
use crate::pods::text::chain;
use crate::pods::volumes::{MountedVolumes, subpath};
use crate::pods::{etc, lifecycle, resources, security, spec, termination};

#[derive(Debug)]
pub enum StartFailure {
    Image(ImageFailure),
    /// Before anything was made: `CreateContainerConfigError`.
    Config(String),
    /// `CreateContainerError`.
    Create(String),
    /// The container is there and its program did not start: `RunContainerError`.
    Run(String),
    /// It was killed again: `PostStartHookError`.
    PostStart(String),
    /// Nobody wants it any more.
    Stopped,
}

pub struct StartJob {
    pub context: Arc<Context>,
    pub pod: Arc<Pod>,
    pub container: String,
    pub sandbox: SandboxId,
    /// `None` when the runtime has none before: the log files tell.
    pub attempt: Option<u32>,
    /// Made by an earlier daemon and never started.
    pub stale: Option<ContainerId>,
    /// The container whose processes it joins, or why it cannot.
    pub target: Result<Option<ContainerId>, String>,
    pub logs: PathBuf,
    pub dir: PathBuf,
    pub volumes: Arc<MountedVolumes>,
    pub objects: Arc<FollowedObjects>,
    pub pod_ips: Vec<IpAddr>,
    pub stopped: CancellationToken,
}

impl StartJob {
    pub async fn run(self) -> Outcome {
        let result = self.start().await;
        if let Err(failure) = &result {
            self.tell(failure);
        }
        Outcome::Started(result)
    }

    fn tell(&self, failure: &StartFailure) {
        let words = match failure {
            StartFailure::Image(failure) => failure.reason,
            StartFailure::Config(words)
            | StartFailure::Create(words)
            | StartFailure::Run(words) => words,
            StartFailure::PostStart(_) | StartFailure::Stopped => return,
        };
        self.context
            .recorder
            .container(&self.pod, &self.container)
            .warning("Failed", format!("Error: {words}"));
    }

    async fn start(&self) -> Result<(), StartFailure> {
        let container = spec::any_container(&self.pod, &self.container).ok_or_else(|| {
            StartFailure::Config(format!("container {} is not in the pod", self.container))
        })?;
        let container = container.as_ref();
        let images = self.unless_stopped(self.images(container)).await?;
        let images = images.map_err(StartFailure::Image)?;
        let read = self.unless_stopped(self.read()).await?;
        let spec = self
            .configuration(container, images, read)
            .await
            .map_err(StartFailure::Config)?;
        if self.stopped.is_cancelled() {
            return Err(StartFailure::Stopped);
        }
        let runtime = &self.context.runtime;
        let failed = |error: vetch_runtime::Error| StartFailure::Create(chain(&error));
        if let Some(stale) = &self.stale {
            runtime.remove_container(stale).await.map_err(failed)?;
        }
        let id = runtime
            .create_container(&self.sandbox, spec)
            .await
            .map_err(failed)?;
        let teller = self.context.recorder.container(&self.pod, &self.container);
        teller.normal("Created", "Container created");
        runtime.start_container(&id).await.map_err(|error| {
            // With ids in them, no two events would be the same.
            StartFailure::Run(chain(&error).replace(&id.0, &self.container))
        })?;
        teller.normal("Started", "Container started");
        self.unless_stopped(self.post_start(container, &id)).await?
    }

    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, StartFailure> {
        tokio::select! {
            () = self.stopped.cancelled() => Err(StartFailure::Stopped),
            done = work => Ok(done),
        }
    }

    /// What has to be waited for: the pod's objects, and the variables of
    /// Services.
    async fn read(&self) -> (Sources, Option<BTreeMap<String, String>>) {
        let links = spec::spec(&self.pod).enable_service_links.unwrap_or(true);
        let namespace = spec::namespace(&self.pod);
        // A static pod may be what others wait for: it has those that are known.
        let is_static = is_static(&self.pod);
        let limit = if is_static {
            Duration::ZERO
        } else {
            READ_LIMIT
        };
        let variables = self.context.services.read(limit, |services| {
            env::service_variables(services, namespace, links)
        });
        let (sources, variables) = tokio::join!(self.objects.read(), variables);
        (sources, variables.or_else(|| is_static.then(BTreeMap::new)))
    }

    async fn images(&self, container: &Container) -> Result<Images, ImageFailure> {
        let (secrets, missing) = self.objects.pull_secrets().await;
        let recorder = &self.context.recorder;
        let of_pod = recorder.pod(&self.pod);
        let images = async {
            let mut volumes = BTreeMap::new();
            for (name, needed) in image::of_volumes(&self.pod, container) {
                let image = self.image(&of_pod, &needed, &secrets).await?;
                volumes.insert(name.to_owned(), image.id);
            }
            let teller = recorder.container(&self.pod, &container.name);
            let own = image::own(container);
            let own = self.image(&teller, &own, &secrets).await?;
            Ok(Images { own, volumes })
        };
        let images = images.await;
        if images.is_err() && !missing.is_empty() {
            let message = format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                missing.join(", ")
            );
            of_pod.warning("FailedToRetrieveImagePullSecret", message);
        }
        images
    }

    async fn image(
        &self,
        teller: &Teller<'_>,
        needed: &Needed<'_>,
        secrets: &[Arc<Secret>],
    ) -> Result<ImageStatus, ImageFailure> {
        image::ensure(self.context.runtime.images(), teller, needed, secrets).await
    }

    async fn configuration(
        &self,
        container: &Container,
        images: Images,
        (mut sources, services): (Sources, Option<BTreeMap<String, String>>),
    ) -> Result<ContainerSpec, String> {
        let context = &self.context;
        let target = self.target.clone()?;
        let profiles = &context.config.seccomp_root;
        let security = security::effective(&self.pod, container, &images.own.user, profiles)
            .map_err(|error| error.to_string())?;
        let services = services
            .ok_or("services have not yet been read at least once, cannot construct envvars")?;
        let allocatable = context.node.allocatable();
        let around = Surroundings {
            pod_ips: &self.pod_ips,
            node_ips: &context.config.node_ips,
            allocatable: &allocatable,
        };
        let (places, volumes) = (env::file_places(container), self.volumes.clone());
        sources.files = tokio::task::spawn_blocking(move || env::read_files(places, &volumes))
            .await
            .map_err(|error| error.to_string())?;
        let env = env::environment(&self.pod, container, &sources, &services, &around).map_err(
            |error| {
                // The kubelet's words do not say what is wrong with a file.
                tracing::debug!(container = container.name, "{}", chain(&error));
                error.to_string()
            },
        )?;
        let wanted = container::wanted_mounts(container, &self.volumes, &images.volumes, &env)
            .map_err(|error| error.to_string())?;
        let devices = container::devices(container, &self.volumes).map_err(|e| e.to_string())?;
        ensure_etc(context, &self.pod, &self.dir, &self.pod_ips).await?;

        let files = Files {
            dir: self.dir.clone(),
            container: container.name.clone(),
            message_path: message_path(container),
            logs: self.logs.join(&container.name),
            readonly_rootfs: security.readonly_rootfs,
        };
        let prepared = tokio::task::spawn_blocking(move || files.prepare(wanted))
            .await
            .map_err(|error| error.to_string())??;
        let qos = resources::class(&self.pod);
        let resources = Resources {
            oom_score_adj: Some(resources::score_adj(
                &self.pod,
                container,
                qos,
                context.memory,
            )),
            ..resources::container(&self.pod, container, context.config.memory_qos.as_ref())
        };
        let parts = Parts {
            attempt: self.attempt.unwrap_or(prepared.attempt),
            image: images.own,
            env,
            mounts: prepared.mounts,
            devices,
            security,
            resources,
            target,
            message_file: prepared.message_file,
        };
        Ok(container::container_spec(&self.pod, container, parts))
    }

    async fn post_start(
        &self,
        container: &Container,
        id: &ContainerId,
    ) -> Result<(), StartFailure> {
        let lifecycle = container.lifecycle.as_ref();
        let Some(hook) = lifecycle.and_then(|lifecycle| lifecycle.post_start.as_ref()) else {
            return Ok(());
        };
        let context = &self.context;
        let pod_ip = self.pod_ips.first().copied();
        let result =
            lifecycle::run(&context.runtime, &context.http, id, container, pod_ip, hook).await;
        let Err(error) = result else { return Ok(()) };
        let words = chain(&error);
        tracing::info!(container = %id, "postStart hook: {words}");
        // Its words may hold secrets of the application.
        context
            .recorder
            .container(&self.pod, &self.container)
            .warning("FailedPostStartHook", "PostStartHook failed");
        let kill = Kill {
            context: context.clone(),
            pod: self.pod.clone(),
            container: self.container.clone(),
            id: id.clone(),
            message: "FailedPostStartHook".to_owned(),
            pod_ip,
        };
        let grace = termination::container_grace(&self.pod, container, KillReason::Other);
        let (_sender, grace) = watch::channel(grace);
        if let Err(error) = kill.run(grace).await {
            tracing::warn!(container = %id, "{error}");
        }
        Err(StartFailure::PostStart(words))
    }
}

/// In the store.
struct Images {
    own: ImageStatus,
    /// Ids, by the names of the volumes whose content they are.
    volumes: BTreeMap<String, String>,
}

/// Where the termination message is seen; the API server defaults it.
fn message_path(container: &Container) -> Option<PathBuf> {
    let path = container.termination_message_path.as_deref();
    let path = path.unwrap_or("/dev/termination-log");
    (!path.is_empty()).then(|| Path::new("/").join(path))
}

/// Files on disk that a container needs before it is made.
struct Files {
    dir: PathBuf,
    container: String,
    message_path: Option<PathBuf>,
    /// Of this container.
    logs: PathBuf,
    readonly_rootfs: bool,
}

struct Prepared {
    mounts: Vec<Mount>,
    message_file: Option<PathBuf>,
    attempt: u32,
}

impl Files {
    /// Blocks on disks.
    fn prepare(self, wanted: Vec<WantedMount>) -> Result<Prepared, String> {
        let own_paths: Vec<PathBuf> = wanted
            .iter()
            .map(|mount| mount.container_path.clone())
            .collect();
        let mut mounts = Vec::new();
        for (index, mount) in wanted.into_iter().enumerate() {
            mounts.push(self.mount(index, mount)?);
        }
        for (host_path, target) in etc::files(&self.dir) {
            if own_paths.iter().any(|path| path == Path::new(target)) {
                continue;
            }
            mounts.push(Mount {
                source: MountSource::Host(host_path),
                container_path: target.into(),
                // The kubelet leaves hosts writable.
                readonly: self.readonly_rootfs && target != "/etc/hosts",
                recursive_readonly: false,
                propagation: Propagation::Private,
            });
        }
        let message_file = self.message_file()?;
        if let (Some(file), Some(path)) = (&message_file, &self.message_path) {
            mounts.push(Mount {
                source: MountSource::Host(file.clone()),
                container_path: path.clone(),
                readonly: false,
                recursive_readonly: false,
                propagation: Propagation::Private,
            });
        }
        Ok(Prepared {
            mounts,
            message_file,
            attempt: attempt_after(&self.logs),
        })
    }

    fn mount(&self, index: usize, mount: WantedMount) -> Result<Mount, String> {
        let source = match (mount.source, mount.sub_path) {
            (WantedSource::Image(id), sub_path) => MountSource::Image(ImageMount { id, sub_path }),
            (WantedSource::Directory(path), None) => MountSource::Host(path),
            (WantedSource::Directory(path), Some(sub_path)) => {
                let target = self
                    .dir
                    .join("volume-subpaths")
                    .join(&mount.volume)
                    .join(&self.container)
                    .join(index.to_string());
                let bound = subpath::bind(&path, &sub_path, &target).map_err(|error| {
                    tracing::warn!(container = self.container, "subPath: {error}");
                    // What is on the node's disks is not the pod's to know.
                    format!(
                        "failed to prepare subPath for volumeMount \"{}\" of container \"{}\"",
                        mount.volume, self.container
                    )
                })?;
                MountSource::Host(bound)
            }
        };
        Ok(Mount {
            source,
            container_path: mount.container_path,
            readonly: mount.readonly,
            recursive_readonly: mount.recursive_readonly,
            propagation: mount.propagation,
        })
    }

    /// A new file each time: the last message stays with its container.
    fn message_file(&self) -> Result<Option<PathBuf>, String> {
        use std::os::unix::fs::PermissionsExt as _;
        if self.message_path.is_none() {
            return Ok(None);
        }
        let dir = self.dir.join("containers").join(&self.container);
        let file = dir.join(format!("{:08x}", rand::random::<u32>()));
        std::fs::create_dir_all(&dir)
            .and_then(|()| std::fs::write(&file, ""))
            .and_then(|()| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)))
            .map_err(|error| format!("making {}: {error}", file.display()))?;
        Ok(Some(file))
    }
}

/// One more than the newest log: a machine that was restarted has no
/// containers, but it has their logs.
fn attempt_after(logs: &Path) -> u32 {
    let entries = std::fs::read_dir(logs).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let number = name.split_once(".log")?.0;
            number.parse::<u32>().ok()?.checked_add(1)
        })
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_go_on_after_the_logs() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(attempt_after(&dir.path().join("none")), 0);
        assert_eq!(attempt_after(dir.path()), 0);
        for name in ["0.log", "3.log", "3.log.20260101", "x.log", "notes"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(attempt_after(dir.path()), 4);
    }

    fn files(dir: &Path) -> Files {
        Files {
            dir: dir.to_owned(),
            container: "app".into(),
            message_path: Some("/dev/termination-log".into()),
            logs: dir.join("logs"),
            readonly_rootfs: true,
        }
    }

    #[test]
    fn a_part_of_an_image_is_left_to_the_runtime() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = WantedMount {
            volume: "model".into(),
            source: WantedSource::Image("sha256:1".into()),
            sub_path: Some("weights".into()),
            container_path: "/model".into(),
            readonly: true,
            recursive_readonly: false,
            propagation: Propagation::Private,
        };
        let mount = files(dir.path()).mount(0, wanted).unwrap();
        let image = ImageMount {
            id: "sha256:1".into(),
            sub_path: Some("weights".into()),
        };
        assert_eq!((mount.image(), mount.readonly), (Some(&image), true));
        assert!(!dir.path().join("volume-subpaths").exists());
    }

    #[test]
    fn files_of_a_container() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let own = WantedMount {
            volume: "hosts".into(),
            source: WantedSource::Directory("/v".into()),
            sub_path: None,
            container_path: "/etc/hosts".into(),
            readonly: true,
            recursive_readonly: false,
            propagation: Propagation::Private,
        };
        let prepared = files.prepare(vec![own]).unwrap();
        let targets: Vec<(String, bool)> = prepared
            .mounts
            .iter()
            .map(|mount| (mount.container_path.display().to_string(), mount.readonly))
            .collect();
        assert_eq!(
            targets,
            [
                ("/etc/hosts".to_owned(), true),
                ("/etc/hostname".to_owned(), true),
                ("/etc/resolv.conf".to_owned(), true),
                ("/dev/termination-log".to_owned(), false),
            ]
        );
        assert!(prepared.message_file.unwrap().exists());
    }
}
