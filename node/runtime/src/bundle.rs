//! From a container's spec and its image to what the supervisor runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use vetch_shim::protocol::{
    BindMount, Bundle, ImageTree, MountSource as ShimSource, Propagation as ShimPropagation, User,
};

use crate::Error;
use crate::capability;
use crate::types::{ContainerSpec, ImageMount, ImageStatus, Mount, MountSource, Propagation};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// containerd's defaults.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Where a container's files are.
pub struct Places {
    pub cgroup: PathBuf,
    /// Topmost layer first.
    pub lower: Vec<PathBuf>,
    pub upper: PathBuf,
    pub work: PathBuf,
    pub log: PathBuf,
    pub images: MountedImages,
}

/// Layers of the images that are mounted, by image id; topmost first.
pub type MountedImages = BTreeMap<String, Vec<PathBuf>>;

pub fn decide(
    spec: &ContainerSpec,
    image: &ImageStatus,
    hostname: &str,
    places: Places,
) -> Result<Bundle, Error> {
    let capabilities = capability::mask(
        &spec.capabilities_add,
        &spec.capabilities_drop,
        spec.privileged,
    )?;
    let ambient = capability::ambient(&spec.capabilities_ambient, capabilities)?;
    let paths = |given: &Option<Vec<String>>, usual: &[&str]| match given {
        _ if spec.privileged => Vec::new(),
        Some(given) => given.clone(),
        None => usual.iter().map(|path| (*path).to_owned()).collect(),
    };
    Ok(Bundle {
        cgroup: places.cgroup,
        lower: places.lower,
        upper: places.upper,
        work: places.work,
        args: args(spec, image)?,
        env: env(spec, image, hostname),
        cwd: cwd(spec, image),
        user: User {
            image: spec
                .run_as_user_name
                .as_ref()
                .unwrap_or(&image.user)
                .clone(),
            uid: spec.run_as_user,
            gid: spec.run_as_group,
            groups: spec.supplemental_groups.clone(),
            only_given_groups: spec.only_given_groups,
        },
        mounts: mounts(&spec.mounts, &places.images)?,
        // What it keeps, it has.
        capabilities: capabilities | ambient,
        ambient,
        privileged: spec.privileged,
        // Who finds them knows.
        devices: Vec::new(),
        // Who makes the cgroup knows.
        device_cgroup: false,
        no_new_privs: spec.no_new_privs,
        readonly_rootfs: spec.readonly_rootfs,
        tty: spec.tty,
        stdin: spec.stdin,
        stdin_once: spec.stdin_once,
        oom_score_adj: Some(spec.resources.oom_score_adj.unwrap_or(0)),
        pid_target: spec.pid_target.as_ref().map(|target| target.0.clone()),
        log: places.log,
        masked_paths: paths(&spec.masked_paths, &MASKED),
        readonly_paths: paths(&spec.readonly_paths, &READ_ONLY),
        // Who reads the profile knows.
        seccomp: None,
        apparmor: None,
    })
}

/// A command of the pod's own also does away with the image's CMD.
fn args(spec: &ContainerSpec, image: &ImageStatus) -> Result<Vec<String>, Error> {
    let (head, tail) = match (spec.command.is_empty(), spec.args.is_empty()) {
        (true, true) => (&image.entrypoint, &image.cmd),
        (true, false) => (&image.entrypoint, &spec.args),
        (false, _) => (&spec.command, &spec.args),
    };
    let all: Vec<String> = head.iter().chain(tail).cloned().collect();
    if all.is_empty() {
        return Err(Error::NoCommand);
    }
    Ok(all)
}

fn env(spec: &ContainerSpec, image: &ImageStatus, hostname: &str) -> Vec<(String, String)> {
    let mut env = vec![
        ("PATH".to_owned(), DEFAULT_PATH.to_owned()),
        ("HOSTNAME".to_owned(), hostname.to_owned()),
    ];
    if spec.tty {
        env.push(("TERM".to_owned(), "xterm".to_owned()));
    }
    for (name, value) in image.env.iter().chain(&spec.env) {
        match env.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => old.clone_from(value),
            None => env.push((name.clone(), value.clone())),
        }
    }
    env
}

fn cwd(spec: &ContainerSpec, image: &ImageStatus) -> String {
    let dir = spec
        .working_dir
        .as_deref()
        .filter(|dir| !dir.is_empty())
        .unwrap_or(&image.working_dir);
    // An image may say a relative one, meant from the root.
    if dir.starts_with('/') {
        dir.to_owned()
    } else {
        format!("/{dir}")
    }
}

/// Outer before inner, so that none hides another.
fn mounts(mounts: &[Mount], images: &MountedImages) -> Result<Vec<BindMount>, Error> {
    let made = |mount: &Mount| {
        Ok(BindMount {
            source: match &mount.source {
                MountSource::Host(path) => ShimSource::Path(path.clone()),
                MountSource::Image(image) => ShimSource::Image(tree(image, images)?),
            },
            target: Path::new("/").join(&mount.container_path),
            readonly: mount.readonly,
            recursive_readonly: mount.recursive_readonly,
            propagation: match mount.propagation {
                Propagation::Private => ShimPropagation::Private,
                Propagation::HostToContainer => ShimPropagation::HostToContainer,
                Propagation::Bidirectional => ShimPropagation::Bidirectional,
            },
        })
    };
    let mut all = mounts.iter().map(made).collect::<Result<Vec<_>, Error>>()?;
    all.sort_by_key(|mount| mount.target.components().count());
    Ok(all)
}

fn tree(image: &ImageMount, images: &MountedImages) -> Result<ImageTree, Error> {
    let lower = images
        .get(&image.id)
        .ok_or_else(|| Error::ImageNotFound(image.id.clone()))?;
    Ok(ImageTree {
        lower: lower.clone(),
        sub_path: image.sub_path.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::tests_support::container_spec;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn command_and_args_as_kubernetes_defines_them() {
        let table: [[&[&str]; 3]; 4] = [
            [&[], &[], &["/entry", "cmd"]],
            [&["c"], &[], &["c"]],
            [&[], &["a"], &["/entry", "a"]],
            [&["c"], &["a"], &["c", "a"]],
        ];
        let image = ImageStatus {
            entrypoint: words(&["/entry"]),
            cmd: words(&["cmd"]),
            ..ImageStatus::default()
        };
        for [command, arguments, want] in table {
            let spec = ContainerSpec {
                command: words(command),
                args: words(arguments),
                ..container_spec()
            };
            assert_eq!(
                args(&spec, &image).unwrap(),
                words(want),
                "{command:?} {arguments:?}"
            );
        }
        assert!(matches!(
            args(&container_spec(), &ImageStatus::default()),
            Err(Error::NoCommand)
        ));
    }

    #[test]
    fn environment_later_wins_in_place() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let image = ImageStatus {
            env: vec![pair("PATH", "/bin"), pair("A", "image")],
            ..ImageStatus::default()
        };
        let spec = ContainerSpec {
            env: vec![pair("A", "pod"), pair("B", "$(A)")],
            ..container_spec()
        };
        assert_eq!(
            env(&spec, &image, "h"),
            [
                pair("PATH", "/bin"),
                pair("HOSTNAME", "h"),
                pair("A", "pod"),
                pair("B", "$(A)")
            ]
        );
    }

    #[test]
    fn outer_mounts_come_first() {
        let mount = |path: &str| Mount {
            source: MountSource::Host("/h".into()),
            container_path: path.into(),
            readonly: false,
            recursive_readonly: false,
            propagation: Propagation::Private,
        };
        let image = ImageMount {
            id: "sha256:1".into(),
            sub_path: None,
        };
        let mount = |path: &str| match path {
            "/a" => Mount {
                source: MountSource::Image(image.clone()),
                ..mount(path)
            },
            _ => mount(path),
        };
        let given = ["/a/b/c", "rel", "/a", "/a/b"].map(mount);
        let layers = vec!["/top".into(), "/bottom".into()];
        let images = [(image.id.clone(), layers.clone())].into();
        let got = mounts(&given, &images).unwrap();
        let targets: Vec<_> = got.iter().map(|m| m.target.to_str().unwrap()).collect();
        assert_eq!(targets, ["/rel", "/a", "/a/b", "/a/b/c"]);
        let tree = ImageTree {
            lower: layers,
            sub_path: None,
        };
        assert_eq!(got[1].source, ShimSource::Image(tree));
        let missing = mounts(&given, &MountedImages::new());
        assert!(matches!(missing, Err(Error::ImageNotFound(id)) if id == image.id));
    }
}
