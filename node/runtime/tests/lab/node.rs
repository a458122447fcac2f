//! A daemon as `up` starts it: in a mount namespace that is bound to a file
//! and outlives it, and in a cgroup namespace, so that the cgroup2 it mounts
//! shows its own subtree only.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use vetch_runtime::*;

use crate::guard::{Lab, entries};
use crate::specs::*;

/// Both namespaces are bound: where controllers are handed on, no process can
/// come into the node's own cgroup again to make another. A mount namespace is
/// bound only in one with a smaller number, and since 6.18 each CPU counts on
/// its own: the one on which the test's own was made will do.
const NAMESPACES: &str = r#"
echo $$ > "$LAB_NODE/cgroup.procs" &&
/usr/bin/unshare --cgroup="$LAB_RUN/cgroup" true || exit
cpu=0
until /usr/bin/taskset -c $cpu /usr/bin/unshare --mount="$LAB_RUN/mnt" --propagation slave true
do
  cpu=$((cpu + 1))
  test $cpu -lt "$(nproc)" || exit
done
"#;

const DAEMON: &str = r#"
echo $$ > "$LAB_NODE/daemon/cgroup.procs" &&
exec /usr/bin/nsenter --cgroup="$LAB_RUN/cgroup" --mount="$LAB_RUN/mnt" sh -c '
  test -e "$LAB_CGROUP/cgroup.procs" || mount -t cgroup2 cgroup2 "$LAB_CGROUP" &&
  exec "$LAB_BINARY" --exact node::daemon_of_a_node --ignored --nocapture
'
"#;

/// `first` leaves a pod, `second` finds it and removes it.
#[test]
fn daemons_of_a_node_follow_each_other() {
    let lab = Lab::enter();
    lab.block_on(async { drop(lab.runtime().await) });
    let node = lab.config.cgroup_root.join("node");
    fs::create_dir_all(node.join("daemon")).unwrap();
    fs::create_dir(lab.path("cgroup")).unwrap();
    let bound = ["cgroup", "mnt"].map(|name| lab.config.run_dir.join(name));
    for path in &bound {
        File::create(path).unwrap();
    }
    let sh = |script: &str, which: &str| {
        Command::new("sh")
            .args(["-c", script])
            .env("LAB_NODE", &node)
            .env("LAB_CGROUP", lab.path("cgroup"))
            .env("LAB_BINARY", std::env::current_exe().unwrap())
            .env("LAB_ROOT", &lab.config.root_dir)
            .env("LAB_RUN", &lab.config.run_dir)
            .env("LAB_SHIM", &lab.config.shim)
            .env("LAB_LOGS", &lab.logs)
            .env("LAB_WHICH", which)
            .output()
            .unwrap()
    };
    let made = sh(NAMESPACES, "");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    for which in ["first", "second"] {
        let daemon = sh(DAEMON, which);
        let said = String::from_utf8_lossy(&daemon.stderr);
        assert!(daemon.status.success(), "{which}: {said}");
        // Nothing but the pod is left between them, and nothing of it here.
        let left = usize::from(which == "first");
        assert_eq!(lab.shims().len(), left);
        assert_eq!(entries(&lab.config.run_dir.join("sandboxes")).len(), left);
    }
    for path in &bound {
        nix::mount::umount(path).unwrap();
    }
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
        registry_hosts_dir: None,
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
