//! From a client's ContainerConfig to the container the runtime is asked for.

mod apparmor;
mod devices;
mod stop_signal;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tonic::Status;
use vetch_cri_proto::v1::security_profile::ProfileType;
use vetch_cri_proto::v1::{
    ContainerConfig, IdMapping, KeyValue, LinuxContainerSecurityContext, Mount as CriMount,
    MountPropagation, NamespaceMode, NamespaceOption, PodSandboxConfig, SupplementalGroupsPolicy,
};
use vetch_runtime::{
    ContainerId, ContainerSpec, ImageMount, Mount, MountSource, Propagation, SandboxSpec, Seccomp,
};

use crate::error::{image_not_found, unsupported};
use crate::resources;
use crate::sandbox::{check_handler, check_selinux, has_selinux, pid_mode, user_namespace};

pub use devices::access;
pub use stop_signal::report as report_signal;

/// Ids in the store of the images that a config names.
#[derive(Debug)]
pub struct Images {
    pub own: String,
    /// By the names that its mounts have for them.
    pub mounted: BTreeMap<String, String>,
}

/// The names of the images that are mounted.
pub fn mounted_images(config: &ContainerConfig) -> impl Iterator<Item = &str> {
    config.mounts.iter().filter_map(image_name)
}

fn image_name(mount: &CriMount) -> Option<&str> {
    let name = mount.image.as_ref()?.image.as_str();
    (!name.is_empty()).then_some(name)
}

/// # Errors
/// `InvalidArgument` for what cannot be, `Unimplemented` for what is not done here.
pub fn spec(
    config: &ContainerConfig,
    images: &Images,
    sandbox: &SandboxSpec,
) -> Result<ContainerSpec, Status> {
    let invalid = |words: &str| Status::invalid_argument(format!("config: {words}"));
    let metadata = config
        .metadata
        .as_ref()
        .ok_or_else(|| invalid("metadata is missing"))?;
    if metadata.name.is_empty() {
        return Err(invalid("metadata.name is empty"));
    }
    if config.windows.is_some() {
        return Err(unsupported("windows is"));
    }
    let linux = config.linux.clone().unwrap_or_default();
    let security = linux.security_context.unwrap_or_default();
    check_selinux(security.selinux_options.as_ref())?;
    if let Some(options) = &security.namespace_options {
        check_namespaces(options, sandbox)?;
    }
    let seccomp = seccomp(&security)?;
    let pid_target = pid_target(&security, sandbox)?;
    let apparmor = apparmor::apparmor(&security)?;
    let user = user(&security)?;
    let capabilities = security.capabilities.unwrap_or_default();
    let image = config.image.clone().unwrap_or_default();
    check_handler(&image.runtime_handler)?;
    let log_path = match config.log_path.as_str() {
        "" => PathBuf::from(&metadata.name).join(format!("{}.log", metadata.attempt)),
        path => path.into(),
    };
    Ok(ContainerSpec {
        name: metadata.name.clone(),
        attempt: metadata.attempt,
        image_id: images.own.clone(),
        image: match image.user_specified_image.as_str() {
            "" => image.image,
            named => named.to_owned(),
        },
        command: config.command.clone(),
        args: config.args.clone(),
        working_dir: Some(config.working_dir.clone()).filter(|dir| !dir.is_empty()),
        env: config.envs.iter().map(variable).collect::<Result<_, _>>()?,
        mounts: config
            .mounts
            .iter()
            .map(|wanted| mount(wanted, &images.mounted, sandbox))
            .collect::<Result<_, _>>()?,
        devices: config
            .devices
            .iter()
            .map(devices::device)
            .collect::<Result<_, _>>()?,
        run_as_user: user.id,
        run_as_user_name: user.name,
        run_as_group: user.group,
        supplemental_groups: user.groups,
        only_given_groups: security.supplemental_groups_policy
            == SupplementalGroupsPolicy::Strict as i32,
        capabilities_add: capabilities.add_capabilities,
        capabilities_drop: capabilities.drop_capabilities,
        capabilities_ambient: capabilities.add_ambient_capabilities,
        privileged: security.privileged,
        no_new_privs: security.no_new_privs,
        readonly_rootfs: security.readonly_rootfs,
        masked_paths: Some(security.masked_paths),
        readonly_paths: Some(security.readonly_paths),
        tty: config.tty,
        seccomp,
        apparmor,
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        pid_target,
        resources: resources::wanted(linux.resources.as_ref())?,
        labels: config.labels.clone().into_iter().collect(),
        annotations: config.annotations.clone().into_iter().collect(),
        log_path,
        stop_signal: stop_signal::wanted(config.stop_signal)?,
    })
}

/// What the sandbox is not, none of its containers is: clients say so of both.
pub fn check_sandbox(config: &ContainerConfig, sandbox: &PodSandboxConfig) -> Result<(), Status> {
    let linux = config.linux.as_ref();
    let security = linux.and_then(|linux| linux.security_context.as_ref());
    let of_sandbox = sandbox.linux.as_ref();
    let of_sandbox = of_sandbox.and_then(|linux| linux.security_context.as_ref());
    let privileged = security.is_some_and(|security| security.privileged);
    if privileged && !of_sandbox.is_some_and(|security| security.privileged) {
        return Err(Status::invalid_argument(
            "config: a privileged container in a sandbox that is not",
        ));
    }
    Ok(())
}

/// A name and a value that are text: anything else has no place in what is written down of a container.
fn variable(pair: &KeyValue) -> Result<(String, String), Status> {
    let value = String::from_utf8(pair.value.clone()).map_err(|_| {
        let key = &pair.key;
        unsupported(&format!("envs: a value of {key:?} that is not UTF-8 is"))
    })?;
    Ok((pair.key.clone(), value))
}

/// Its network, its IPC and its ids are the sandbox's. 0 may be what is meant or what is not said.
fn check_namespaces(options: &NamespaceOption, sandbox: &SandboxSpec) -> Result<(), Status> {
    for (name, mode, of_node) in [
        ("network", options.network, sandbox.host_network),
        ("ipc", options.ipc, sandbox.host_ipc),
    ] {
        if mode != NamespaceMode::Pod as i32 && !(mode == NamespaceMode::Node as i32 && of_node) {
            return Err(Status::invalid_argument(format!(
                "namespace_options: the {name} namespace is not the sandbox's"
            )));
        }
    }
    let users = user_namespace(options.userns_options.as_ref())?;
    if users.is_some() && users != sandbox.id_map() {
        return Err(Status::invalid_argument(
            "namespace_options: the user namespace is not the sandbox's",
        ));
    }
    Ok(())
}

/// The sandbox has said whether its containers share one; one of them may join another's.
fn pid_target(
    security: &LinuxContainerSecurityContext,
    sandbox: &SandboxSpec,
) -> Result<Option<ContainerId>, Status> {
    let Some(options) = &security.namespace_options else {
        return Ok(None);
    };
    let mode = pid_mode(options)?;
    let of_sandbox = match (sandbox.host_pid, sandbox.share_process_namespace) {
        (true, _) => NamespaceMode::Node,
        (false, true) => NamespaceMode::Pod,
        (false, false) => NamespaceMode::Container,
    };
    match mode {
        _ if mode == of_sandbox => Ok(None),
        NamespaceMode::Target if of_sandbox == NamespaceMode::Container => {
            Ok(Some(ContainerId(options.target_id.clone())))
        }
        _ => Err(unsupported(&format!(
            "pid namespace mode {} in a sandbox of mode {} is",
            mode.as_str_name(),
            of_sandbox.as_str_name()
        ))),
    }
}

/// Without a profile, none.
fn seccomp(security: &LinuxContainerSecurityContext) -> Result<Seccomp, Status> {
    let Some(profile) = &security.seccomp else {
        return former_seccomp(security);
    };
    let invalid = |words: &str| Status::invalid_argument(format!("seccomp: {words}"));
    match ProfileType::try_from(profile.profile_type) {
        Ok(ProfileType::RuntimeDefault) => Ok(Seccomp::RuntimeDefault),
        Ok(ProfileType::Unconfined) => Ok(Seccomp::Unconfined),
        Ok(ProfileType::Localhost) if profile.localhost_ref.starts_with('/') => {
            Ok(Seccomp::Localhost(profile.localhost_ref.clone().into()))
        }
        Ok(ProfileType::Localhost) => Err(invalid("localhost_ref must be an absolute path")),
        Err(_) => Err(invalid("unknown profile_type")),
    }
}

/// The words of before the message.
fn former_seccomp(security: &LinuxContainerSecurityContext) -> Result<Seccomp, Status> {
    #[expect(deprecated, reason = "clients of before still say it so")]
    let words = security.seccomp_profile_path.as_str();
    match words {
        "" | "unconfined" => Ok(Seccomp::Unconfined),
        "runtime/default" | "docker/default" => Ok(Seccomp::RuntimeDefault),
        other => match other.strip_prefix("localhost/") {
            Some(path) if path.starts_with('/') => Ok(Seccomp::Localhost(path.into())),
            _ => Err(Status::invalid_argument(format!(
                "seccomp: invalid profile {other:?}"
            ))),
        },
    }
}

struct User {
    id: Option<u32>,
    name: Option<String>,
    group: Option<u32>,
    groups: Vec<u32>,
}

fn user(security: &LinuxContainerSecurityContext) -> Result<User, Status> {
    let number = |field: &str, value: i64| {
        u32::try_from(value)
            .map_err(|_| Status::invalid_argument(format!("{field} {value} is not an id")))
    };
    let id = security
        .run_as_user
        .map(|user| number("run_as_user", user.value));
    let name = Some(security.run_as_username.clone()).filter(|name| !name.is_empty());
    let group = security
        .run_as_group
        .map(|group| number("run_as_group", group.value));
    if group.is_some() && id.is_none() && name.is_none() {
        return Err(Status::invalid_argument(
            "run_as_group is given without run_as_user or run_as_username",
        ));
    }
    let groups = security.supplemental_groups.iter();
    Ok(User {
        id: id.transpose()?,
        name,
        group: group.transpose()?,
        groups: groups
            .map(|group| number("supplemental_groups", *group))
            .collect::<Result<_, _>>()?,
    })
}

fn mapping(sandbox: &SandboxSpec) -> Vec<IdMapping> {
    let own = sandbox.id_map().map(|map| IdMapping {
        host_id: map.host_id,
        container_id: 0,
        length: map.length,
    });
    own.into_iter().collect()
}

fn mount(
    mount: &CriMount,
    images: &BTreeMap<String, String>,
    sandbox: &SandboxSpec,
) -> Result<Mount, Status> {
    let path = &mount.container_path;
    let invalid = |words: &str| Status::invalid_argument(format!("mount at {path:?}: {words}"));
    if path.is_empty() {
        return Err(invalid("container_path is empty"));
    }
    if let Some(option) = mount.mount_options.first() {
        return Err(unsupported(&format!(
            "mount at {path:?}: {option:?} of mount_options is"
        )));
    }
    // Where the kernel has none there are no labels, and clients ask all the same.
    if mount.selinux_relabel && has_selinux() {
        return Err(unsupported(&format!(
            "mount at {path:?}: selinux_relabel is"
        )));
    }
    if mount.image_sub_path.split('/').any(|part| part == "..") {
        return Err(invalid("image_sub_path leads up"));
    }
    let source = match image_name(mount) {
        Some(_) if !mount.host_path.is_empty() => {
            return Err(invalid("host_path and image are both given"));
        }
        Some(_) if !mount.readonly => {
            return Err(invalid("an image is mounted readonly only"));
        }
        Some(name) => MountSource::Image(ImageMount {
            id: images
                .get(name)
                .ok_or_else(|| image_not_found(name))?
                .clone(),
            sub_path: Some(PathBuf::from(&mount.image_sub_path))
                .filter(|path| !path.as_os_str().is_empty()),
        }),
        None if !mount.image_sub_path.is_empty() => {
            return Err(invalid("image_sub_path is given without an image"));
        }
        None if mount.host_path.is_empty() => return Err(invalid("host_path is empty")),
        None => MountSource::Host(mount.host_path.clone().into()),
    };
    // Every mount has those of its sandbox, whether it says so or not.
    for mappings in [&mount.uid_mappings, &mount.gid_mappings] {
        if !mappings.is_empty() && *mappings != mapping(sandbox) {
            return Err(unsupported(
                "a mount with other ids than its sandbox has is",
            ));
        }
    }
    let propagation = match MountPropagation::try_from(mount.propagation) {
        Ok(MountPropagation::PropagationPrivate) => Propagation::Private,
        Ok(MountPropagation::PropagationHostToContainer) => Propagation::HostToContainer,
        Ok(MountPropagation::PropagationBidirectional) => Propagation::Bidirectional,
        Err(_) => return Err(invalid("unknown propagation")),
    };
    if propagation == Propagation::Bidirectional && matches!(source, MountSource::Image(_)) {
        return Err(invalid("an image has no PROPAGATION_BIDIRECTIONAL"));
    }
    if mount.recursive_read_only && !mount.readonly {
        return Err(invalid("recursive_read_only needs readonly"));
    }
    if mount.recursive_read_only && propagation != Propagation::Private {
        return Err(invalid("recursive_read_only needs PROPAGATION_PRIVATE"));
    }
    Ok(Mount {
        source,
        container_path: path.into(),
        readonly: mount.readonly,
        recursive_readonly: mount.recursive_read_only,
        propagation,
    })
}

/// Directories that are mounted and not there, as other runtimes make them.
pub fn make_missing(mounts: &[Mount]) -> Result<(), Status> {
    let made = |path: &Path| match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir_all(path),
        _ => Ok(()),
    };
    mounts
        .iter()
        .filter_map(Mount::host_path)
        .try_for_each(|path| {
            made(path)
                .map_err(|error| Status::unknown(format!("making {}: {error}", path.display())))
        })
}

#[cfg(test)]
pub mod tests;
