//! What a sandbox is, and that nothing of it stays.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use vetch_runtime::*;

use crate::guard::{Lab, Mounts, wait_for};
use crate::specs::*;

fn inode(path: impl AsRef<Path>) -> u64 {
    fs::metadata(path).unwrap().ino()
}

/// Made, used, stopped, removed: on mounts of either kind nothing stays.
fn a_whole_life(mounts: Mounts) {
    let lab = Lab::enter_with(mounts);
    lab.block_on(async {
        let runtime = lab.runtime().await;
        let made = runtime
            .create_sandbox(sandbox(&lab.logs, "web"))
            .await
            .unwrap();
        assert_eq!(made.state, SandboxState::Ready);
        let netns = made.netns.clone().unwrap();
        let shim = made.shim_pid.unwrap();
        for kind in ["net", "ipc", "uts"] {
            let of_shim = inode(format!("/proc/{shim}/ns/{kind}"));
            assert_ne!(of_shim, inode(format!("/proc/self/ns/{kind}")), "{kind}");
            let bound = netns.parent().unwrap().join(kind);
            assert_eq!(of_shim, inode(bound), "{kind}");
        }
        let (code, said) = outcome(
            &runtime,
            &made,
            shell("hostname; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; ls /sys/class/net"),
        )
        .await;
        assert_eq!((code, said.as_str()), (0, "web\n0\nlo"));
        let id = run(&runtime, &made.id, sleeper()).await;

        runtime.stop_sandbox(&made.id).await.unwrap();
        runtime.stop_sandbox(&made.id).await.unwrap();
        let stopped = runtime.sandbox(&made.id).await.unwrap();
        assert_eq!(
            (stopped.state, stopped.shim_pid),
            (SandboxState::NotReady, None)
        );
        let container = status(&runtime, &id).await;
        assert_eq!(
            (container.state, container.exit_code),
            (ContainerState::Exited, Some(137))
        );
        assert!(fs::read_link(format!("/proc/{shim}/ns/net")).is_err());
        let refused = runtime.create_container(&made.id, sleeper()).await;
        assert!(
            matches!(refused, Err(Error::SandboxNotReady(_))),
            "{refused:?}"
        );

        runtime.remove_sandbox(&made.id).await.unwrap();
        runtime.remove_sandbox(&made.id).await.unwrap();
        assert_eq!(runtime.list().await, []);
        lab.assert_nothing_left();
    });
}

#[test]
fn a_whole_life_on_a_node_of_its_own() {
    a_whole_life(Mounts::Private);
}

#[test]
fn a_whole_life_on_a_machine_with_shared_mounts() {
    a_whole_life(Mounts::Shared);
}

#[test]
fn namespaces_of_the_node_are_shared_when_the_pod_says_so() {
    let lab = Lab::enter();
    lab.block_on(async {
        let runtime = lab.runtime().await;
        let spec = SandboxSpec {
            host_network: true,
            host_ipc: true,
            host_pid: true,
            ..sandbox(&lab.logs, "host")
        };
        let made = runtime.create_sandbox(spec).await.unwrap();
        assert_eq!(made.netns, None);
        let (_, said) = outcome(
            &runtime,
            &made,
            shell("for n in net ipc uts pid; do readlink /proc/self/ns/$n; done"),
        )
        .await;
        let own: Vec<String> = ["net", "ipc", "uts", "pid"]
            .iter()
            .map(|kind| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap())
            .map(|link| link.to_string_lossy().into_owned())
            .collect();
        assert_eq!(said, own.join("\n"));
        // Without a PID namespace only the cgroup knows the daemon it leaves.
        let id = run(&runtime, &made.id, shell("setsid sleep 1000 & exit 0")).await;
        assert_eq!(exited(&runtime, &id).await.exit_code, Some(0));
        runtime.remove_sandbox(&made.id).await.unwrap();
        lab.assert_nothing_left();
    });
}

#[test]
fn containers_share_ipc_and_processes_when_the_pod_says_so() {
    let lab = Lab::enter();
    lab.block_on(async {
        let runtime = lab.runtime().await;
        let spec = SandboxSpec {
            share_process_namespace: true,
            ..sandbox(&lab.logs, "shared")
        };
        let made = runtime.create_sandbox(spec).await.unwrap();
        let first = run(
            &runtime,
            &made.id,
            shell("echo hello > /dev/shm/note; exec sleep 4321"),
        )
        .await;
        let (code, said) = outcome(
            &runtime,
            &made,
            shell(
                "until grep -q hello /dev/shm/note; do :; done
                 until pidof sleep >/dev/null; do :; done
                 cat /proc/1/comm; df -h /dev/shm | grep -o 64.0M",
            ),
        )
        .await;
        assert_eq!((code, said.as_str()), (0, "vetch-init\n64.0M\n64.0M"));
        // What the first process leaves behind goes with its container.
        let parent = run(&runtime, &made.id, shell("sleep 5432 & exit 4")).await;
        assert_eq!(exited(&runtime, &parent).await.exit_code, Some(4));
        let (_, said) = outcome(
            &runtime,
            &made,
            shell("while ps | grep -q '[s]leep 5432'; do :; done; ps | grep -c '[s]leep 4321'"),
        )
        .await;
        assert_eq!(said, "1");
        assert_eq!(
            status(&runtime, &first).await.state,
            ContainerState::Running
        );
        runtime.remove_sandbox(&made.id).await.unwrap();
        lab.assert_nothing_left();
    });
}

#[test]
fn what_fails_half_way_leaves_nothing() {
    let lab = Lab::enter();
    lab.block_on(async {
        let runtime = lab.runtime().await;
        let spec = SandboxSpec {
            sysctls: [("net.no.such".to_owned(), "1".to_owned())].into(),
            ..sandbox(&lab.logs, "bad")
        };
        let error = runtime.create_sandbox(spec).await.unwrap_err().to_string();
        assert!(
            error.ends_with("sysctl net.no.such=1: no such file or directory"),
            "{error}"
        );
        assert_eq!(runtime.list().await, []);

        let broken = RuntimeConfig {
            shim: "/bin/false".into(),
            ..lab.config.clone()
        };
        let other = Runtime::open(broken).await.unwrap();
        let error = other.create_sandbox(sandbox(&lab.logs, "no-shim")).await;
        assert!(matches!(error, Err(Error::ShimStart { .. })), "{error:?}");
        lab.assert_nothing_left();
    });
}

#[test]
fn a_supervisor_that_is_killed_takes_its_pod_along() {
    let lab = Lab::enter();
    lab.block_on(async {
        let runtime = lab.runtime().await;
        let made = runtime
            .create_sandbox(sandbox(&lab.logs, "web"))
            .await
            .unwrap();
        let id = run(&runtime, &made.id, sleeper()).await;
        let done = run(&runtime, &made.id, shell("exit 5")).await;
        exited(&runtime, &done).await;
        let pid = status(&runtime, &id).await.pid.unwrap();
        let shim = i32::try_from(made.shim_pid.unwrap()).unwrap();
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(shim),
            nix::sys::signal::Signal::SIGKILL,
        )
        .unwrap();
        wait_for("the container to die", || {
            !Path::new(&format!("/proc/{pid}/exe")).exists()
        });
        let mut events = runtime.subscribe();
        while runtime.sandbox(&made.id).await.unwrap().state == SandboxState::Ready {
            events.recv().await.unwrap();
        }
        assert_eq!(status(&runtime, &id).await.state, ContainerState::Unknown);
        // What it had recorded stays known.
        assert_eq!(status(&runtime, &done).await.exit_code, Some(5));
        runtime
            .stop_container(&id, Default::default())
            .await
            .unwrap();

        // The next daemon sees the same.
        drop(runtime);
        let runtime = lab.open().await;
        let found = runtime.sandbox(&made.id).await.unwrap();
        assert_eq!(found.state, SandboxState::NotReady);
        assert_eq!(status(&runtime, &id).await.state, ContainerState::Unknown);
        assert_eq!(status(&runtime, &done).await.exit_code, Some(5));
        runtime.remove_sandbox(&made.id).await.unwrap();
        lab.assert_nothing_left();
    });
}
