use tonic::Code;
use vetch_cri_proto::v1::{
    Capability, ContainerMetadata, Device, IdMapping, ImageSpec, Int64Value, LinuxContainerConfig,
    LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceOption, NotLinux, SecurityProfile,
    Signal,
};
use vetch_runtime::{IdMap, Owner, QosClass, Resources, UserNamespace};

use super::*;

fn sandbox() -> SandboxSpec {
    SandboxSpec {
        owner: Owner::Cri,
        pod_uid: "u".into(),
        name: "web".into(),
        namespace: "shop".into(),
        attempt: 0,
        hostname: "web".into(),
        host_network: false,
        host_ipc: false,
        host_pid: false,
        share_process_namespace: true,
        user_namespace: None,
        qos: QosClass::BestEffort,
        cgroup_parent: None,
        resources: Resources::default(),
        sysctls: Default::default(),
        labels: Default::default(),
        annotations: Default::default(),
        log_directory: "/l".into(),
    }
}

fn config() -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: "app".into(),
            attempt: 3,
        }),
        image: Some(ImageSpec {
            image: "sha256:1".into(),
            user_specified_image: "busybox".into(),
            ..ImageSpec::default()
        }),
        ..ContainerConfig::default()
    }
}

fn secured(change: impl FnOnce(&mut LinuxContainerSecurityContext)) -> ContainerConfig {
    let mut security = LinuxContainerSecurityContext::default();
    change(&mut security);
    ContainerConfig {
        linux: Some(LinuxContainerConfig {
            security_context: Some(security),
            ..LinuxContainerConfig::default()
        }),
        ..config()
    }
}

fn mounting(change: impl FnOnce(&mut CriMount)) -> ContainerConfig {
    let mut mount = CriMount {
        host_path: "/h".into(),
        container_path: "/c".into(),
        ..CriMount::default()
    };
    change(&mut mount);
    ContainerConfig {
        mounts: vec![mount],
        ..config()
    }
}

/// What a client that says nothing gets.
pub fn plain() -> ContainerSpec {
    made(&config()).unwrap()
}

fn made(config: &ContainerConfig) -> Result<ContainerSpec, Code> {
    spec(config, &images(), &sandbox()).map_err(|refused| refused.code())
}

fn images() -> Images {
    Images {
        own: "sha256:1".into(),
        mounted: [("files".to_owned(), "sha256:2".to_owned())].into(),
    }
}

/// A mount of the image `files`.
fn mounting_image(change: impl FnOnce(&mut CriMount)) -> ContainerConfig {
    mounting(|mount| {
        mount.host_path.clear();
        mount.readonly = true;
        mount.image = Some(ImageSpec {
            image: "files".into(),
            ..ImageSpec::default()
        });
        change(mount);
    })
}

#[test]
fn what_a_client_says() {
    let made = made(&config()).unwrap();
    assert_eq!((made.name.as_str(), made.attempt), ("app", 3));
    assert_eq!(
        (made.image.as_str(), made.image_id.as_str()),
        ("busybox", "sha256:1")
    );
    assert_eq!(made.log_path, Path::new("app/3.log"));
    assert_eq!(made.working_dir, None);
    // Its lists of paths count, also when they are empty.
    assert_eq!(made.masked_paths, Some(vec![]));
}

#[test]
fn who_runs() {
    let id = |value| Some(Int64Value { value });
    let config = secured(|security| {
        security.run_as_user = id(5);
        security.run_as_group = id(6);
        security.supplemental_groups = vec![7];
        security.supplemental_groups_policy = SupplementalGroupsPolicy::Strict.into();
    });
    let spec = made(&config).unwrap();
    assert_eq!((spec.run_as_user, spec.run_as_group), (Some(5), Some(6)));
    assert_eq!(
        (spec.supplemental_groups, spec.only_given_groups),
        (vec![7], true)
    );
    let named = secured(|security| security.run_as_username = "www".into());
    assert_eq!(
        made(&named).unwrap().run_as_user_name.as_deref(),
        Some("www")
    );
    for wrong in [
        secured(|security| security.run_as_group = id(6)),
        secured(|security| security.run_as_user = id(-1)),
        secured(|security| security.supplemental_groups = vec![1 << 40]),
    ] {
        assert_eq!(
            made(&wrong).unwrap_err(),
            Code::InvalidArgument,
            "{wrong:?}"
        );
    }
}

#[test]
fn seccomp_profiles() {
    let with = |kind: ProfileType, path: &str| {
        secured(|security| {
            security.seccomp = Some(SecurityProfile {
                profile_type: kind.into(),
                localhost_ref: path.into(),
            });
        })
    };
    assert_eq!(made(&config()).unwrap().seccomp, Seccomp::Unconfined);
    for (kind, path, want) in [
        (ProfileType::RuntimeDefault, "", Ok(Seccomp::RuntimeDefault)),
        (ProfileType::Unconfined, "", Ok(Seccomp::Unconfined)),
        (
            ProfileType::Localhost,
            "/p.json",
            Ok(Seccomp::Localhost("/p.json".into())),
        ),
        (ProfileType::Localhost, "p.json", Err(Code::InvalidArgument)),
    ] {
        let got = made(&with(kind, path)).map(|spec| spec.seccomp);
        assert_eq!(got, want, "{kind:?} {path}");
    }
}

#[test]
fn mounts() {
    let config = mounting(|mount| {
        mount.readonly = true;
        mount.recursive_read_only = true;
    });
    let mount = made(&config).unwrap().mounts.remove(0);
    assert!(mount.readonly && mount.recursive_readonly);
    for (wrong, code) in [
        (
            mounting(|mount| mount.recursive_read_only = true),
            Code::InvalidArgument,
        ),
        (
            mounting(|mount| {
                mount.readonly = true;
                mount.recursive_read_only = true;
                mount.propagation = MountPropagation::PropagationBidirectional.into();
            }),
            Code::InvalidArgument,
        ),
        (
            mounting(|mount| mount.propagation = 9),
            Code::InvalidArgument,
        ),
        (
            mounting(|mount| mount.container_path.clear()),
            Code::InvalidArgument,
        ),
        (
            mounting(|mount| mount.host_path.clear()),
            Code::InvalidArgument,
        ),
        (
            mounting(|mount| mount.uid_mappings = vec![Default::default()]),
            Code::Unimplemented,
        ),
    ] {
        assert_eq!(made(&wrong).unwrap_err(), code, "{wrong:?}");
    }
}

#[test]
fn mounts_have_the_ids_of_their_sandbox() {
    let map = IdMap {
        host_id: 65536,
        length: 65536,
    };
    let own = sandbox();
    let mapped = SandboxSpec {
        user_namespace: Some(UserNamespace::Mapped(map)),
        ..sandbox()
    };
    let mapping = |host_id| IdMapping {
        host_id,
        container_id: 0,
        length: 65536,
    };
    for (sandbox, ids, taken) in [
        (&own, None, true),
        (&own, Some(65536), false),
        (&mapped, None, true),
        (&mapped, Some(65536), true),
        (&mapped, Some(131_072), false),
    ] {
        let config = mounting(|mount| {
            mount.uid_mappings.extend(ids.map(mapping));
            mount.gid_mappings.extend(ids.map(mapping));
        });
        let made = spec(&config, &images(), sandbox);
        assert_eq!(made.is_ok(), taken, "{ids:?}: {made:?}");
    }
}

#[test]
fn images_are_mounted() {
    let config = mounting_image(|_| ());
    assert_eq!(mounted_images(&config).collect::<Vec<_>>(), ["files"]);
    let mount = made(&config).unwrap().mounts.remove(0);
    let image = ImageMount {
        id: "sha256:2".into(),
        sub_path: None,
    };
    assert_eq!((mount.image(), mount.readonly), (Some(&image), true));
    make_missing(&[mount]).unwrap();
    let part = mounting_image(|mount| mount.image_sub_path = "etc/ssl".into());
    let mount = made(&part).unwrap().mounts.remove(0);
    let sub_path = mount.image().and_then(|image| image.sub_path.clone());
    assert_eq!(sub_path.as_deref(), Some(Path::new("etc/ssl")));
    // One without a name is none.
    let nameless = mounting(|mount| mount.image = Some(ImageSpec::default()));
    assert_eq!(mounted_images(&nameless).count(), 0);
    let mount = made(&nameless).unwrap().mounts.remove(0);
    assert_eq!(mount.host_path(), Some(Path::new("/h")));
    for (wrong, code) in [
        (
            mounting_image(|mount| mount.readonly = false),
            Code::InvalidArgument,
        ),
        (
            mounting_image(|mount| mount.host_path = "/h".into()),
            Code::InvalidArgument,
        ),
        (
            mounting_image(|mount| {
                mount.propagation = MountPropagation::PropagationBidirectional.into();
            }),
            Code::InvalidArgument,
        ),
        (
            mounting_image(|mount| mount.image.as_mut().unwrap().image = "other".into()),
            Code::NotFound,
        ),
        (
            mounting_image(|mount| mount.image_sub_path = "etc/../..".into()),
            Code::InvalidArgument,
        ),
        (
            mounting(|mount| mount.image_sub_path = "etc".into()),
            Code::InvalidArgument,
        ),
        (
            mounting(|mount| mount.mount_options = vec!["noexec".into()]),
            Code::Unimplemented,
        ),
    ] {
        assert_eq!(made(&wrong).unwrap_err(), code, "{wrong:?}");
    }
}

#[test]
fn what_is_not_done_is_refused() {
    let pid = |mode: NamespaceMode| {
        secured(|security| {
            security.namespace_options = Some(NamespaceOption {
                pid: mode.into(),
                target_id: "t".into(),
                ..NamespaceOption::default()
            });
        })
    };
    assert!(made(&pid(NamespaceMode::Pod)).is_ok());
    let alone = SandboxSpec {
        share_process_namespace: false,
        ..sandbox()
    };
    let joined = spec(&pid(NamespaceMode::Target), &images(), &alone).unwrap();
    assert_eq!(joined.pid_target, Some(ContainerId("t".into())));
    for wrong in [
        pid(NamespaceMode::Container),
        pid(NamespaceMode::Node),
        pid(NamespaceMode::Target),
        ContainerConfig {
            windows: Some(NotLinux {}),
            ..config()
        },
        ContainerConfig {
            envs: vec![KeyValue {
                key: "BYTES".into(),
                value: vec![0xff],
            }],
            ..config()
        },
    ] {
        assert_eq!(made(&wrong).unwrap_err(), Code::Unimplemented, "{wrong:?}");
    }
    let nameless = ContainerConfig {
        metadata: None,
        ..config()
    };
    assert_eq!(made(&nameless).unwrap_err(), Code::InvalidArgument);
}

#[test]
fn devices_capabilities_and_signals() {
    let asked = ContainerConfig {
        devices: vec![Device {
            container_path: "/dev/own".into(),
            host_path: "/dev/fuse".into(),
            permissions: "rw".into(),
        }],
        stop_signal: Signal::Sigusr1.into(),
        envs: vec![KeyValue {
            key: "A".into(),
            value: "ü".into(),
        }],
        ..secured(|security| {
            security.capabilities = Some(Capability {
                add_ambient_capabilities: vec!["NET_RAW".into()],
                ..Capability::default()
            });
        })
    };
    let made = made(&asked).unwrap();
    let device = &made.devices[0];
    assert_eq!(device.host_path, Path::new("/dev/fuse"));
    assert!(device.access.read && device.access.write && !device.access.make);
    assert_eq!(made.capabilities_ambient, ["NET_RAW"]);
    assert_eq!(made.stop_signal.as_deref(), Some("SIGUSR1"));
    assert_eq!(made.env, [("A".to_owned(), "ü".to_owned())]);
    let nothing = ContainerConfig {
        devices: vec![Device::default()],
        ..config()
    };
    assert_eq!(
        super::tests::made(&nothing).unwrap_err(),
        Code::InvalidArgument
    );
}

#[test]
fn what_was_said_before_the_messages() {
    #[expect(deprecated, reason = "clients of before still say it so")]
    let former = |words: &str| secured(|security| security.seccomp_profile_path = words.into());
    for (words, want) in [
        ("unconfined", Ok(Seccomp::Unconfined)),
        ("runtime/default", Ok(Seccomp::RuntimeDefault)),
        ("docker/default", Ok(Seccomp::RuntimeDefault)),
        (
            "localhost//p.json",
            Ok(Seccomp::Localhost("/p.json".into())),
        ),
        ("localhost/p.json", Err(Code::InvalidArgument)),
        ("p", Err(Code::InvalidArgument)),
    ] {
        let got = made(&former(words)).map(|spec| spec.seccomp);
        assert_eq!(got, want, "{words}");
    }
}

#[test]
fn a_container_is_in_its_sandbox() {
    let with = |options: NamespaceOption| {
        secured(|security| {
            security.namespace_options = Some(NamespaceOption {
                pid: NamespaceMode::Pod.into(),
                ..options
            });
        })
    };
    let node = i32::from(NamespaceMode::Node);
    let network = with(NamespaceOption {
        network: node,
        ..NamespaceOption::default()
    });
    let ipc = with(NamespaceOption {
        ipc: node,
        ..NamespaceOption::default()
    });
    for asked in [&network, &ipc] {
        assert_eq!(made(asked).unwrap_err(), Code::InvalidArgument);
    }
    let of_node = SandboxSpec {
        host_network: true,
        host_ipc: true,
        ..sandbox()
    };
    for asked in [&network, &ipc] {
        assert!(spec(asked, &images(), &of_node).is_ok(), "{asked:?}");
    }
    let privileged = secured(|security| security.privileged = true);
    let whole = |privileged| PodSandboxConfig {
        linux: Some(LinuxPodSandboxConfig {
            security_context: Some(LinuxSandboxSecurityContext {
                privileged,
                ..LinuxSandboxSecurityContext::default()
            }),
            ..LinuxPodSandboxConfig::default()
        }),
        ..PodSandboxConfig::default()
    };
    assert!(check_sandbox(&privileged, &whole(true)).is_ok());
    assert!(check_sandbox(&config(), &whole(false)).is_ok());
    for wrong in [whole(false), PodSandboxConfig::default()] {
        let refused = check_sandbox(&privileged, &wrong).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
}

#[test]
fn what_is_mounted_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b");
    let config = mounting(|mount| mount.host_path = path.display().to_string());
    let mounts = made(&config).unwrap().mounts;
    make_missing(&mounts).unwrap();
    make_missing(&mounts).unwrap();
    assert!(path.is_dir());
}
