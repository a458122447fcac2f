//! User namespaces: whether the node can make them, and which pod has which ids.
//!
//! As the kubelet has it: a pod has 65536 users and groups, so that every number of
//! 16 bits is one in it, from ranges that start where those of the node's own 16
//! bits end. A range is its sandbox's from the record on until it is removed.

use std::fs;
use std::path::Path;

use crate::Error;
use crate::types::{IdMap, Mount, Propagation, SandboxSpec, UserNamespace};

const LENGTH: u32 = 1 << 16;
/// Not more than ping_group_range takes.
const END: u32 = 1 << 31;
/// idmapped mounts of tmpfs, where secrets are.
const KERNEL: (u32, u32) = (6, 3);

/// Why this node's kernel makes none for pods.
pub fn problem() -> Option<String> {
    let release = rustix::system::uname();
    let limit = fs::read_to_string("/proc/sys/user/max_user_namespaces").ok();
    problem_of(&release.release().to_string_lossy(), limit.as_deref())
}

fn problem_of(release: &str, limit: Option<&str>) -> Option<String> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let version = match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (0, 0),
    };
    let (major, minor) = KERNEL;
    match limit.map(str::trim) {
        _ if version < KERNEL => Some(format!(
            "kernel {release} has no idmapped tmpfs, {major}.{minor} has"
        )),
        None => Some("this kernel is built without user namespaces".into()),
        Some("0") => Some("the sysctl user.max_user_namespaces is 0".into()),
        Some(_) => None,
    }
}

/// What is asked for, with ids that are none of `taken`.
pub fn decide(
    spec: &SandboxSpec,
    taken: impl Iterator<Item = IdMap>,
) -> Result<Option<UserNamespace>, Error> {
    let refused = |words: &str| Err(Error::UserNamespace(words.into()));
    let Some(wanted) = spec.user_namespace else {
        return Ok(None);
    };
    for (shared, name) in [
        (spec.host_network, "network"),
        (spec.host_pid, "PID"),
        (spec.host_ipc, "IPC"),
    ] {
        if shared {
            return refused(&format!(
                "a pod with one has no {name} namespace of the node's"
            ));
        }
    }
    let map = match wanted {
        UserNamespace::Mapped(map) => map,
        UserNamespace::Own => match free(taken) {
            Some(map) => map,
            None => return refused("every range of ids is another pod's"),
        },
    };
    let IdMap { host_id, length } = map;
    if length == 0 || host_id.checked_add(length).is_none() {
        return refused(&format!("{length} ids from {host_id} on are no range"));
    }
    if host_id == 0 {
        return refused("its root cannot be the node's");
    }
    Ok(Some(UserNamespace::Mapped(map)))
}

fn free(taken: impl Iterator<Item = IdMap>) -> Option<IdMap> {
    let taken: Vec<IdMap> = taken.collect();
    let apart = |host_id: u32, other: &IdMap| {
        host_id + LENGTH <= other.host_id || other.host_id.saturating_add(other.length) <= host_id
    };
    (LENGTH..END)
        .step_by(LENGTH as usize)
        .find(|host_id| taken.iter().all(|other| apart(*host_id, other)))
        .map(|host_id| IdMap {
            host_id,
            length: LENGTH,
        })
}

/// A pod's root must not mount on the node.
pub fn check_mounts(mounts: &[Mount]) -> Result<(), Error> {
    let told = |mount: &&Mount| {
        mount.host_path().is_some() && mount.propagation == Propagation::Bidirectional
    };
    match mounts.iter().find(told) {
        Some(mount) => Err(Error::UserNamespace(format!(
            "the mount at {} cannot have the propagation Bidirectional",
            mount.container_path.display()
        ))),
        None => Ok(()),
    }
}

/// The top of a root file system is its root's.
pub fn own(path: &Path, map: IdMap) -> Result<(), Error> {
    let root = Some(map.host_id);
    std::os::unix::fs::chown(path, root, root).map_err(Error::io("changing the owner of", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::tests_support::sandbox_spec;

    fn map(host_id: u32, length: u32) -> IdMap {
        IdMap { host_id, length }
    }

    #[test]
    fn nodes() {
        for (release, limit, fine) in [
            ("6.18.44-fc", Some("96365\n"), true),
            ("6.3.0", Some("1"), true),
            ("7.0", Some("1"), true),
            ("6.2.16-lts", Some("1"), false),
            ("5.15.0", Some("1"), false),
            ("6.18.1", Some("0\n"), false),
            ("6.18.1", None, false),
            ("strange", Some("1"), false),
        ] {
            let problem = problem_of(release, limit);
            assert_eq!(problem.is_none(), fine, "{release} {limit:?}: {problem:?}");
        }
    }

    #[test]
    fn ranges() {
        for (taken, want) in [
            (vec![], Some(65536)),
            (vec![map(65536, 65536)], Some(131_072)),
            (vec![map(131_072, 65536)], Some(65536)),
            (vec![map(65536, 65536), map(196_608, 65536)], Some(131_072)),
            // Of a client's own, across the borders of these.
            (vec![map(1000, 100_000)], Some(131_072)),
            (vec![map(65535, 1)], Some(65536)),
            (vec![map(131_071, 2)], Some(196_608)),
            (vec![map(1, u32::MAX - 1)], None),
        ] {
            let got = free(taken.iter().copied());
            assert_eq!(got, want.map(|id| map(id, LENGTH)), "{taken:?}");
        }
        let all = (LENGTH..END).step_by(LENGTH as usize);
        assert_eq!(free(all.map(|id| map(id, LENGTH))), None);
    }

    #[test]
    fn what_is_refused() {
        type Change = fn(&mut SandboxSpec);
        let mapped = |host_id, length| Some(UserNamespace::Mapped(map(host_id, length)));
        let table: [(Option<UserNamespace>, Change, Result<_, ()>); 9] = [
            (None, |spec| spec.host_network = true, Ok(None)),
            (Some(UserNamespace::Own), |_| (), Ok(mapped(65536, 65536))),
            (mapped(1000, 100_000), |_| (), Ok(mapped(1000, 100_000))),
            (mapped(0, 65536), |_| (), Err(())),
            (mapped(1000, 0), |_| (), Err(())),
            (mapped(u32::MAX, 2), |_| (), Err(())),
            (mapped(1, 2), |spec| spec.host_network = true, Err(())),
            (mapped(1, 2), |spec| spec.host_pid = true, Err(())),
            (mapped(1, 2), |spec| spec.host_ipc = true, Err(())),
        ];
        for (user_namespace, change, want) in table {
            let mut spec = SandboxSpec {
                user_namespace,
                ..sandbox_spec()
            };
            change(&mut spec);
            let got = decide(&spec, std::iter::empty());
            assert_eq!(got.map_err(drop), want, "{spec:?}");
        }
    }
}
