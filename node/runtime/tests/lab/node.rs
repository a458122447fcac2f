//! A daemon as `up` starts it: in a mount namespace that is bound to a file
//! and outlives it, and in a cgroup namespace, so that the cgroup2 it mounts
//! shows its own subtree only.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use vetch_runtime::*;

use crate::guard::{Lab, entries};
use crate::specs::*;

/// `first` leaves a pod, `second` finds it and removes it.
const DAEMON: &str = r#"
set -e
echo $$ > "$LAB_NODE/cgroup.procs"
exec unshare --cgroup nsenter --mount="$LAB_MOUNTS" sh -c '
  set -e
  mkdir -p "$LAB_CGROUP"
  test -e "$LAB_CGROUP/cgroup.procs" || mount -t cgroup2 cgroup2 "$LAB_CGROUP"
  mkdir -p "$LAB_CGROUP/daemon"
  echo $$ > "$LAB_CGROUP/daemon/cgroup.procs"
  exec "$LAB_BINARY" --exact node::daemon_of_a_node --ignored --nocapture
'
"#;

#[test]
fn daemons_of_a_node_follow_each_other() {
    let lab = Lab::enter();
    lab.block_on(async { drop(lab.runtime().await) });
    let mounts = lab.config.run_dir.join("mnt");
    File::create(&mounts).unwrap();
    let made = Command::new("unshare")
        .arg(format!("--mount={}", mounts.display()))
        .args(["--propagation", "slave", "true"])
        .status()
        .unwrap();
    assert!(made.success());
    for which in ["first", "second"] {
        let daemon = Command::new("sh")
            .args(["-c", DAEMON])
            .env("LAB_NODE", &lab.config.cgroup_root)
            .env("LAB_MOUNTS", &mounts)
            .env("LAB_CGROUP", lab.path("cgroup"))
            .env("LAB_BINARY", std::env::current_exe().unwrap())
            .env("LAB_ROOT", &lab.config.root_dir)
            .env("LAB_RUN", &lab.config.run_dir)
            .env("LAB_SHIM", &lab.config.shim)
            .env("LAB_LOGS", &lab.logs)
            .env("LAB_WHICH", which)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&daemon.stderr);
        assert!(daemon.status.success(), "{which}: {said}");
        // Nothing but the pod is left between them, and nothing of it here.
        let left = usize::from(which == "first");
        assert_eq!(lab.shims().len(), left);
        assert_eq!(entries(&lab.config.run_dir.join("sandboxes")).len(), left);
    }
    nix::mount::umount(&mounts).unwrap();
    lab.assert_nothing_left();
}

#[test]
#[ignore = "a process that another test starts"]
fn daemon_of_a_node() {
    let path = |name: &str| PathBuf::from(std::env::var_os(name).expect(name));
    let config = RuntimeConfig {
        root_dir: path("LAB_ROOT"),
        run_dir: path("LAB_RUN"),
        cgroup_root: path("LAB_CGROUP"),
        shim: path("LAB_SHIM"),
        pull_netns: None,
        insecure_registries: Vec::new(),
    };
    let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap();
    assert!(cgroup.contains("0::/daemon\n"), "{cgroup}");
    let first = std::env::var("LAB_WHICH").unwrap() == "first";
    let tokio = tokio::runtime::Runtime::new().unwrap();
    tokio.block_on(async {
        let runtime = Runtime::open(config).await.unwrap();
        if first {
            let spec = sandbox(&path("LAB_LOGS"), "pod");
            let pod = runtime.create_sandbox(spec).await.unwrap();
            run(&runtime, &pod.id, sleeper()).await;
            return;
        }
        let pod = runtime.list().await.remove(0);
        assert_eq!(pod.state, SandboxState::Ready);
        assert_eq!(pod.containers[0].state, ContainerState::Running);
        // The network code opens this in the daemon's mount namespace.
        let netns = File::open(pod.netns.as_ref().unwrap()).unwrap();
        std::thread::scope(|scope| {
            let enter = || nix::sched::setns(&netns, nix::sched::CloneFlags::CLONE_NEWNET);
            scope.spawn(enter).join().unwrap().unwrap();
        });
        let script = "cat /proc/self/cgroup | grep ^0; grep -c '' /sys/fs/cgroup/cgroup.procs; ls /sys/fs/cgroup | grep -c daemon";
        let (_, said) = outcome(&runtime, &pod, shell(script)).await;
        assert_eq!(said, "0::/\n2\n0");
        let pid = pod.containers[0].pid.unwrap();
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let own = format!("0::/kubepods/burstable/pod{}/{}", pod.spec.pod_uid, pod.containers[0].id);
        assert!(cgroup.lines().any(|line| line == own), "{cgroup}");
        runtime.remove_sandbox(&pod.id).await.unwrap();
    });
}
