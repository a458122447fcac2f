//! Running a program inside: a cgroup leaf and namespaces.
//!
//! A process of its own does it, because only a single-threaded one may change some namespaces.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use nix::sched::{CloneFlags, setns};

use crate::cgroup::Cgroup;
use crate::cluster::Cluster;
use crate::process;

#[derive(Debug, Default, Args)]
pub struct EnterArgs {
    /// The cgroup to run in; made when it is not there.
    #[arg(long)]
    pub cgroup: PathBuf,
    #[arg(long)]
    pub cgroup_namespace: Option<PathBuf>,
    #[arg(long)]
    pub net: Option<PathBuf>,
    #[arg(long)]
    pub uts: Option<PathBuf>,
    #[arg(long)]
    pub mounts: Option<PathBuf>,
    /// Starts the program in a session of its own that nobody waits for, with its output here.
    #[arg(long)]
    pub detach: Option<PathBuf>,
    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
}

impl EnterArgs {
    /// What xtask runs: itself with these arguments.
    pub fn to_command(&self) -> Command {
        let mut command = process::own_command();
        command.arg("enter").arg("--cgroup").arg(&self.cgroup);
        let paths = [
            ("--cgroup-namespace", &self.cgroup_namespace),
            ("--net", &self.net),
            ("--uts", &self.uts),
            ("--mounts", &self.mounts),
            ("--detach", &self.detach),
        ];
        for (flag, path) in paths {
            if let Some(path) = path {
                command.arg(flag).arg(path);
            }
        }
        command.arg("--").args(&self.command);
        command
    }
}

pub fn run(args: EnterArgs) -> Result<ExitCode> {
    let (program, arguments) = args.command.split_first().context("no program to run")?;
    let directory = std::env::current_dir()?;
    let log = args.detach.as_deref().map(open_log).transpose()?;
    // All are opened first: the paths are the machine's.
    let kinds = [
        (&args.cgroup_namespace, CloneFlags::CLONE_NEWCGROUP),
        (&args.net, CloneFlags::CLONE_NEWNET),
        (&args.uts, CloneFlags::CLONE_NEWUTS),
        (&args.mounts, CloneFlags::CLONE_NEWNS),
    ];
    let mut namespaces = Vec::new();
    for (path, kind) in kinds {
        if let Some(path) = path {
            let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
            namespaces.push((path, file, kind));
        }
    }
    let leaf = Cgroup::at(&args.cgroup);
    leaf.create()?;
    leaf.enter()?;
    for (path, file, kind) in namespaces {
        setns(file, kind).with_context(|| format!("enter {}", path.display()))?;
    }
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory);
    let failed = || format!("run {}", Path::new(program).display());
    match log {
        None => Err(command.exec()).with_context(failed),
        Some(log) => {
            nix::unistd::setsid().context("start a session")?;
            command
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log);
            process::daemon_environment(&mut command);
            // Nobody's child once this process ends.
            command.spawn().with_context(failed)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn open_log(path: &Path) -> Result<File> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("open {}", path.display()))
}

/// `xtask exec`: becomes the command.
pub fn exec_on_node(
    cluster: &Cluster,
    node: &str,
    mounts: bool,
    command: Vec<OsString>,
) -> Result<ExitCode> {
    let state = cluster.state()?;
    if !state.node_names().iter().any(|name| name == node) {
        bail!(
            "cluster {} has no node {node}: it has {}",
            cluster.name,
            state.node_names().join(", ")
        );
    }
    let paths = cluster.paths.node(node);
    if !crate::namespaces::is_bound(&paths.namespace("net")) {
        bail!("node {node} is down: run `cargo xtask up`");
    }
    run(EnterArgs {
        cgroup: paths.cgroup.join("exec"),
        cgroup_namespace: Some(paths.namespace("cgroup")),
        net: Some(paths.namespace("net")),
        uts: Some(paths.namespace("uts")),
        mounts: mounts.then(|| paths.mount_namespace.clone()),
        detach: None,
        command,
    })
}
