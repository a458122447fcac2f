//! Where a cluster's files, run-time directories and cgroups are.

use std::path::{Path, PathBuf};

use crate::cluster::Name;

/// Holds one tmpfs a cluster.
pub const RUN: &str = "/run/vetch";
/// The cgroup above the clusters' own.
pub const CGROUP: &str = "vetch";

/// Below a cluster's run-time directory: the network namespace that `up` was run in, through which
/// images are pulled.
pub const MACHINE_NETNS: &str = "machine/ns/net";

/// One of cargo's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// What people start and measure.
    Release,
    /// What is tested: it compiles in half the time, and checks its own assumptions
    /// (`debug_assert`).
    Dev,
}

impl Profile {
    /// Below target; see <https://doc.rust-lang.org/cargo/guide/build-cache.html>.
    pub fn folder(self) -> &'static str {
        match self {
            Profile::Release => "release",
            Profile::Dev => "debug",
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Profile::Release => "release",
            Profile::Dev => "dev",
        }
    }
}

/// The checkout, and which build of it is meant.
#[derive(Clone, Debug)]
pub struct Tree {
    root: PathBuf,
    pub profile: Profile,
}

impl Tree {
    pub fn at(root: impl Into<PathBuf>) -> Tree {
        Tree {
            root: root.into(),
            profile: Profile::Release,
        }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn target(&self) -> PathBuf {
        self.root.join("target")
    }

    /// `target/vetch`, or `target/vetch-NAME` for other names than the default one.
    pub fn data(&self, name: &Name) -> PathBuf {
        if *name == Name::default() {
            return self.target().join("vetch");
        }
        self.target().join(format!("vetch-{name}"))
    }

    /// Held while a command works on the cluster; outside its data, which such a command may remove.
    pub fn lock(&self, name: &Name) -> PathBuf {
        self.target().join(format!("xtask-{name}.lock"))
    }

    pub fn daemon(&self, program: &str) -> PathBuf {
        self.target().join(self.profile.folder()).join(program)
    }

    /// What was built to test, as nextest tells it to itself.
    pub fn tests(&self) -> PathBuf {
        self.target().join("tests.json")
    }

    pub fn shim(&self) -> PathBuf {
        self.target().join("shim/vetch-shim")
    }

    pub fn ebpf_object(&self) -> PathBuf {
        self.target().join("ebpf/vetch-ebpf")
    }

    /// The static build, which runs in images and on nodes alike: always a release build, it is small.
    pub fn echo(&self) -> PathBuf {
        self.target().join(echo_target()).join("release/vetch-echo")
    }

    /// The benchmark's load generator and server, static as well.
    pub fn load(&self) -> PathBuf {
        self.target().join(echo_target()).join("release/vetch-load")
    }

    pub fn load_image(&self) -> PathBuf {
        self.target().join("images/load.tar")
    }

    pub fn echo_image(&self) -> PathBuf {
        self.target().join("images/echo.tar")
    }
}

/// Named to cargo so that flags for the program do not reach build scripts.
pub fn echo_target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// One cluster's places on this machine.
#[derive(Clone, Debug)]
pub struct Paths {
    /// Survives `down`.
    pub data: PathBuf,
    /// A tmpfs: what ends with the cluster.
    pub run: PathBuf,
    /// In the machine's cgroup v2 tree.
    pub cgroup: PathBuf,
}

impl Paths {
    pub fn new(tree: &Tree, name: &Name, cgroup_mount: &Path) -> Paths {
        Paths {
            data: tree.data(name),
            run: Path::new(RUN).join(name.as_str()),
            cgroup: cgroup_mount.join(CGROUP).join(name.as_str()),
        }
    }

    pub fn state(&self) -> PathBuf {
        self.data.join("state.json")
    }

    pub fn description(&self) -> PathBuf {
        self.data.join("cluster.json")
    }

    /// vetch-control writes it into its data directory.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.data.join("admin.kubeconfig")
    }

    pub fn logs(&self) -> PathBuf {
        self.data.join("logs")
    }

    /// Names the checkout whose cluster this is.
    pub fn owner(&self) -> PathBuf {
        self.run.join("owner")
    }

    pub fn machine_netns(&self) -> PathBuf {
        self.run.join(MACHINE_NETNS)
    }

    pub fn hub_netns(&self) -> PathBuf {
        self.run.join("hub/ns/net")
    }

    pub fn node(&self, node: &str) -> NodePaths {
        let run = self.run.join(node);
        NodePaths {
            namespaces: run.join("ns"),
            mount_namespace: run.join("private/mnt"),
            run: run.join("run"),
            root: self.data.join("nodes").join(node),
            imported: self.data.join("images").join(format!("{node}.imported")),
            kubeconfig: self
                .data
                .join("kubeconfigs")
                .join(format!("{node}.kubeconfig")),
            pod_logs: self.logs().join("pods").join(node),
            manifests: self.data.join("manifests").join(node),
            cgroup: self.cgroup.join(node),
        }
    }
}

/// One node's places.
#[derive(Clone, Debug)]
pub struct NodePaths {
    /// `net`, `uts` and `cgroup`, on a shared mount, so that copies of the binds in other mount
    /// namespaces go when these go.
    pub namespaces: PathBuf,
    /// On a private mount: the kernel refuses to bind a mount namespace where it would propagate.
    pub mount_namespace: PathBuf,
    pub run: PathBuf,
    pub root: PathBuf,
    /// Digest of the image archive that the node's store has.
    pub imported: PathBuf,
    pub kubeconfig: PathBuf,
    pub pod_logs: PathBuf,
    /// Of static pods; what people put there stays until `--fresh`.
    pub manifests: PathBuf,
    pub cgroup: PathBuf,
}

impl NodePaths {
    pub fn namespace(&self, kind: &str) -> PathBuf {
        self.namespaces.join(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_cluster_has_the_short_paths_that_readme_names() {
        let tree = Tree::at("/src");
        let paths = |name: &str| Paths::new(&tree, &name.parse().unwrap(), Path::new("/cg"));
        assert_eq!(
            paths("vetch").admin_kubeconfig(),
            Path::new("/src/target/vetch/admin.kubeconfig")
        );
        assert_eq!(
            paths("vtlife").description(),
            Path::new("/src/target/vetch-vtlife/cluster.json")
        );
        assert_eq!(paths("vtlife").cgroup, Path::new("/cg/vetch/vtlife"));
        let node = paths("a").node("node-1");
        assert_eq!(
            node.namespace("net"),
            Path::new("/run/vetch/a/node-1/ns/net")
        );
        assert_eq!(node.cgroup, Path::new("/cg/vetch/a/node-1"));
    }

    #[test]
    fn no_file_of_one_cluster_is_in_anothers_directory() {
        let tree = Tree::at("/src");
        let names = ["vetch", "a", "test"].map(|name| name.parse::<Name>().unwrap());
        for one in &names {
            for other in names.iter().filter(|other| *other != one) {
                assert!(!tree.data(one).starts_with(tree.data(other)));
                assert!(!tree.lock(one).starts_with(tree.data(other)));
            }
        }
    }
}
