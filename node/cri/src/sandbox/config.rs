//! From a client's PodSandboxConfig to the sandbox the runtime is asked for.

use std::path::{Component, Path, PathBuf};

use tonic::Status;
use vetch_cri_proto::v1::{
    NamespaceMode, NamespaceOption, PodSandboxConfig, SeLinuxOption,
    UserNamespace as CriUserNamespace,
};
use vetch_runtime::{IdMap, Owner, QosClass, SandboxSpec, UserNamespace};

use crate::error::unsupported;
use crate::resources;

/// This runtime's one handler, beside the empty name.
pub const HANDLER: &str = "vetch";

pub fn check_handler(name: &str) -> Result<(), Status> {
    if name.is_empty() || name == HANDLER {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "no runtime for {name:?} is configured"
    )))
}

/// `logs` is for those that name no log directory.
///
/// # Errors
/// `InvalidArgument` for what cannot be, `Unimplemented` for what is not done here.
pub fn spec(config: &PodSandboxConfig, logs: &Path) -> Result<SandboxSpec, Status> {
    let invalid = |words: &str| Status::invalid_argument(format!("config: {words}"));
    let metadata = config
        .metadata
        .as_ref()
        .ok_or_else(|| invalid("metadata is missing"))?;
    if metadata.name.is_empty() {
        return Err(invalid("metadata.name is empty"));
    }
    // It names a cgroup.
    if !is_file_name(&metadata.uid) {
        return Err(invalid("metadata.uid must be the name of a directory"));
    }
    if config.windows.is_some() {
        return Err(unsupported("windows is"));
    }
    let linux = config.linux.clone().unwrap_or_default();
    // Whom a sandbox's own process would be, and what it might do, is nothing to a sandbox without one.
    let security = linux.security_context.unwrap_or_default();
    check_selinux(security.selinux_options.as_ref())?;
    let namespaces = security.namespace_options.unwrap_or_default();
    let user_namespace = user_namespace(namespaces.userns_options.as_ref())?;
    let host = |mode: i32| mode == NamespaceMode::Node as i32;
    let pid = pid_mode(&namespaces)?;
    let host_network = host(namespaces.network);
    let cgroup_parent = Some(linux.cgroup_parent).filter(|path| !path.is_empty());
    let hostname = match config.hostname.as_str() {
        // As other runtimes do: a pod's name may be none for a host.
        "" => node_name(),
        name => name.to_owned(),
    };
    Ok(SandboxSpec {
        owner: Owner::Cri,
        pod_uid: metadata.uid.clone(),
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        attempt: metadata.attempt,
        hostname,
        host_network,
        host_ipc: host(namespaces.ipc),
        host_pid: pid == NamespaceMode::Node,
        share_process_namespace: pid == NamespaceMode::Pod,
        user_namespace: user_namespace.map(UserNamespace::Mapped),
        qos: QosClass::BestEffort,
        cgroup_parent: cgroup_parent.map(PathBuf::from),
        resources: resources::with_overhead(linux.resources.as_ref(), linux.overhead.as_ref())?,
        sysctls: linux.sysctls.into_iter().collect(),
        labels: config.labels.clone().into_iter().collect(),
        annotations: config.annotations.clone().into_iter().collect(),
        log_directory: match config.log_directory.as_str() {
            "" => logs.join(format!("{}_{}", metadata.uid, metadata.attempt)),
            path => absolute(path).ok_or_else(|| invalid("log_directory is not absolute"))?,
        },
    })
}

/// A label is refused where it would be one; where the kernel has no SELinux, there is none to be had,
/// and clients ask all the same.
pub fn check_selinux(options: Option<&SeLinuxOption>) -> Result<(), Status> {
    let asked = options.is_some_and(|options| *options != SeLinuxOption::default());
    if asked && has_selinux() {
        return Err(unsupported("selinux_options is"));
    }
    Ok(())
}

/// By its file system, which is mounted where it is switched on.
pub fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// The log directory of a sandbox whose client named none.
pub fn own_log_dir<'a>(spec: &'a SandboxSpec, logs: &Path) -> Option<&'a Path> {
    let dir = spec.log_directory.as_path();
    (spec.owner == Owner::Cri && dir.starts_with(logs)).then_some(dir)
}

pub fn pid_mode(namespaces: &NamespaceOption) -> Result<NamespaceMode, Status> {
    NamespaceMode::try_from(namespaces.pid).map_err(|_| {
        Status::invalid_argument(format!("unknown pid namespace mode {}", namespaces.pid))
    })
}

/// The pod's ids are the client's to choose: one range, users and groups alike.
pub fn user_namespace(wanted: Option<&CriUserNamespace>) -> Result<Option<IdMap>, Status> {
    let invalid = |words: &str| Status::invalid_argument(format!("userns_options: {words}"));
    let Some(wanted) = wanted else {
        return Ok(None);
    };
    match NamespaceMode::try_from(wanted.mode) {
        Ok(NamespaceMode::Node) => return Ok(None),
        Ok(NamespaceMode::Pod) => {}
        _ => return Err(invalid("the mode must be POD or NODE")),
    }
    if wanted.uids != wanted.gids {
        return Err(invalid("uids and gids must be the same"));
    }
    let [mapping] = wanted.uids.as_slice() else {
        return Err(invalid("there must be one mapping"));
    };
    if mapping.container_id != 0 {
        return Err(invalid("the mapping must begin with id 0 of the container"));
    }
    Ok(Some(IdMap {
        host_id: mapping.host_id,
        length: mapping.length,
    }))
}

fn is_file_name(text: &str) -> bool {
    let mut parts = Path::new(text).components();
    matches!(
        (parts.next(), parts.next()),
        (Some(Component::Normal(_)), None)
    ) && !text.contains('/')
}

fn absolute(path: &str) -> Option<PathBuf> {
    path.starts_with('/').then(|| path.into())
}

fn node_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use vetch_cri_proto::v1::{
        IdMapping, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, PodSandboxMetadata,
    };

    use super::*;

    fn config() -> PodSandboxConfig {
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: "web".into(),
                uid: "u1".into(),
                namespace: "shop".into(),
                attempt: 2,
            }),
            ..PodSandboxConfig::default()
        }
    }

    fn with_namespaces(options: NamespaceOption) -> PodSandboxConfig {
        PodSandboxConfig {
            linux: Some(LinuxPodSandboxConfig {
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(options),
                    ..LinuxSandboxSecurityContext::default()
                }),
                ..LinuxPodSandboxConfig::default()
            }),
            ..config()
        }
    }

    #[test]
    fn namespaces() {
        use NamespaceMode::{Container, Node, Pod};
        for (network, pid, ipc, want) in [
            (Pod, Container, Pod, [false, false, false, false]),
            (Node, Node, Node, [true, true, true, false]),
            (Pod, Pod, Pod, [false, false, false, true]),
        ] {
            let config = with_namespaces(NamespaceOption {
                network: network as i32,
                pid: pid as i32,
                ipc: ipc as i32,
                ..NamespaceOption::default()
            });
            let spec = spec(&config, Path::new("/l")).unwrap();
            let got = [
                spec.host_network,
                spec.host_pid,
                spec.host_ipc,
                spec.share_process_namespace,
            ];
            assert_eq!(got, want, "{network:?} {pid:?} {ipc:?}");
        }
    }

    #[test]
    fn what_is_not_said_has_a_place() {
        let made = spec(&config(), Path::new("/l")).unwrap();
        assert_eq!(made.hostname, node_name());
        assert_eq!(made.log_directory, Path::new("/l/u1_2"));
        assert_eq!(
            own_log_dir(&made, Path::new("/l")),
            Some(Path::new("/l/u1_2"))
        );
        assert_eq!((made.owner, made.cgroup_parent), (Owner::Cri, None));
        let mut config = config();
        config.log_directory = "/var/log/pods/x".into();
        let made = spec(&config, Path::new("/l")).unwrap();
        assert_eq!(own_log_dir(&made, Path::new("/l")), None);
    }

    fn users(mode: NamespaceMode, uids: Vec<IdMapping>, gids: Vec<IdMapping>) -> PodSandboxConfig {
        with_namespaces(NamespaceOption {
            userns_options: Some(CriUserNamespace {
                mode: mode as i32,
                uids,
                gids,
            }),
            ..NamespaceOption::default()
        })
    }

    #[test]
    fn ids() {
        let mapping = |container_id, host_id| IdMapping {
            container_id,
            host_id,
            length: 100_000,
        };
        let (pod, node) = (NamespaceMode::Pod, NamespaceMode::Node);
        let mapped = |host_id| {
            Some(UserNamespace::Mapped(IdMap {
                host_id,
                length: 100_000,
            }))
        };
        for (mode, uids, gids, want) in [
            (
                pod,
                vec![mapping(0, 1000)],
                vec![mapping(0, 1000)],
                Some(mapped(1000)),
            ),
            (node, vec![], vec![], Some(None)),
            (pod, vec![mapping(0, 1000)], vec![], None),
            (pod, vec![mapping(0, 1000)], vec![mapping(0, 2000)], None),
            (pod, vec![mapping(1, 1000)], vec![mapping(1, 1000)], None),
            (pod, vec![mapping(0, 1); 2], vec![mapping(0, 1); 2], None),
        ] {
            let config = users(mode, uids, gids);
            match (spec(&config, Path::new("/l")), want) {
                (Ok(spec), Some(want)) => assert_eq!(spec.user_namespace, want, "{config:?}"),
                (Err(refused), None) => assert_eq!(refused.code(), Code::InvalidArgument),
                (got, want) => panic!("{config:?}: {got:?}, not {want:?}"),
            }
        }
    }

    #[test]
    fn refusals() {
        let change = |change: fn(&mut PodSandboxConfig)| {
            let mut config = config();
            change(&mut config);
            config
        };
        let users = |mode| users(mode, vec![], vec![]);
        let uid = |uid: &str| {
            let mut config = config();
            config.metadata.as_mut().unwrap().uid = uid.into();
            config
        };
        for (config, code) in [
            (
                change(|config| config.metadata = None),
                Code::InvalidArgument,
            ),
            (uid(""), Code::InvalidArgument),
            (uid(".."), Code::InvalidArgument),
            (uid("a/b"), Code::InvalidArgument),
            (
                change(|config| config.log_directory = "logs".into()),
                Code::InvalidArgument,
            ),
            (users(NamespaceMode::Pod), Code::InvalidArgument),
            (users(NamespaceMode::Container), Code::InvalidArgument),
            (users(NamespaceMode::Target), Code::InvalidArgument),
        ] {
            let refused = spec(&config, Path::new("/l")).unwrap_err();
            assert_eq!(refused.code(), code, "{refused}");
        }
        assert!(spec(&users(NamespaceMode::Node), Path::new("/l")).is_ok());
        assert!(check_handler("vetch").is_ok());
        assert_eq!(
            check_handler("gvisor").unwrap_err().code(),
            Code::InvalidArgument
        );
    }
}
