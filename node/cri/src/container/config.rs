//! From a client's ContainerConfig to the container the runtime is asked for.

mod apparmor;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use k8s_cri::v1::security_profile::ProfileType;
use k8s_cri::v1::{
    ContainerConfig, IdMapping, LinuxContainerSecurityContext, Mount as CriMount, MountPropagation,
    NamespaceMode, SecurityProfile, SupplementalGroupsPolicy,
};
use tonic::Status;
use vetch_runtime::{
    ContainerId, ContainerSpec, ImageMount, Mount, MountSource, Propagation, SandboxSpec, Seccomp,
};

use crate::error::{image_not_found, unsupported};
use crate::resources;
use crate::sandbox::pid_mode;

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
    if !config.devices.is_empty() || !config.cdi_devices.is_empty() {
        return Err(unsupported("devices are"));
    }
    let linux = config.linux.clone().unwrap_or_default();
    let security = linux.security_context.unwrap_or_default();
    let pid_target = pid_target(&security, sandbox)?;
    let apparmor = apparmor::apparmor(&security)?;
    let user = user(&security)?;
    let capabilities = security.capabilities.unwrap_or_default();
    if !capabilities.add_ambient_capabilities.is_empty() {
        return Err(unsupported("add_ambient_capabilities is"));
    }
    let image = config.image.clone().unwrap_or_default();
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
        env: config
            .envs
            .iter()
            .map(|pair| (pair.key.clone(), pair.value.clone()))
            .collect(),
        mounts: config
            .mounts
            .iter()
            .map(|wanted| mount(wanted, &images.mounted, sandbox))
            .collect::<Result<_, _>>()?,
        devices: Vec::new(),
        run_as_user: user.id,
        run_as_user_name: user.name,
        run_as_group: user.group,
        supplemental_groups: user.groups,
        only_given_groups: security.supplemental_groups_policy
            == SupplementalGroupsPolicy::Strict as i32,
        capabilities_add: capabilities.add_capabilities,
        capabilities_drop: capabilities.drop_capabilities,
        privileged: security.privileged,
        no_new_privs: security.no_new_privs,
        readonly_rootfs: security.readonly_rootfs,
        masked_paths: Some(security.masked_paths),
        readonly_paths: Some(security.readonly_paths),
        tty: config.tty,
        seccomp: seccomp(security.seccomp.as_ref())?,
        apparmor,
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        pid_target,
        resources: resources::wanted(linux.resources.as_ref())?,
        labels: config.labels.clone().into_iter().collect(),
        annotations: config.annotations.clone().into_iter().collect(),
        log_path,
        stop_signal: None,
    })
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
fn seccomp(profile: Option<&SecurityProfile>) -> Result<Seccomp, Status> {
    let Some(profile) = profile else {
        return Ok(Seccomp::Unconfined);
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
            sub_path: None,
        }),
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
mod tests;
