//! A container among the processes of another.

use std::fs;
use std::time::Duration;

use vetch_runtime::*;

use crate::specs::*;

fn among(target: &ContainerId, script: &str) -> ContainerSpec {
    ContainerSpec {
        name: "debugger".into(),
        pid_target: Some(target.clone()),
        log_path: "debugger/0.log".into(),
        ..shell(script)
    }
}

/// Its first process reaps nobody.
fn sleep() -> ContainerSpec {
    ContainerSpec {
        command: vec!["sleep".into()],
        ..shell("4321")
    }
}

#[test]
fn it_sees_the_processes_of_its_target_and_leaves_it_alone() {
    with_sandbox(async |_, runtime, pod| {
        let target = run(runtime, &pod.id, sleep()).await;
        let pid = status(runtime, &target).await.pid.unwrap();
        let namespace = fs::read_link(format!("/proc/{pid}/ns/pid")).unwrap();
        let script = "cat /proc/1/comm; readlink /proc/self/ns/pid
                      test $$ != 1 && ps | grep -c '[s]leep 4321'";
        let (_, said) = outcome(runtime, pod, among(&target, script)).await;
        assert_eq!(said, format!("sleep\n{}\n1", namespace.display()));

        // What it leaves behind goes with it, and nothing else does.
        let left = run(runtime, &pod.id, among(&target, "sleep 5432 & exit 4")).await;
        assert_eq!(exited(runtime, &left).await.exit_code, Some(4));
        let script = "while ps | grep -q '[s]leep 5432'; do :; done; cat /proc/1/comm";
        let (_, said) = outcome(runtime, pod, among(&target, script)).await;
        assert_eq!(said, "sleep");
        let state = status(runtime, &target).await.state;
        assert_eq!(state, ContainerState::Running);

        // A process of its own is among them as well.
        let debugger = run(runtime, &pod.id, among(&target, "exec sleep 1000")).await;
        let command = ["cat", "/proc/1/comm"].map(str::to_owned);
        let long = Duration::from_secs(30);
        let output = runtime.exec(&debugger, command.into(), long).await;
        assert_eq!(output.unwrap().stdout, b"sleep\n");

        // The kernel ends it with its target's first process.
        runtime
            .stop_container(&target, Duration::ZERO)
            .await
            .unwrap();
        let end = exited(runtime, &debugger).await;
        assert_eq!((end.exit_code, end.signal), (Some(137), Some(9)));
    });
}

#[test]
fn its_target_has_to_run() {
    with_sandbox(async |_, runtime, pod| {
        let target = run(runtime, &pod.id, sleep()).await;
        let late = among(&target, "true");
        let late = runtime.create_container(&pod.id, late).await.unwrap();
        runtime
            .stop_container(&target, Duration::ZERO)
            .await
            .unwrap();
        let error = runtime.start_container(&late).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to start container: the target container is not running"
        );
        let end = status(runtime, &late).await;
        assert_eq!(end.reason.as_deref(), Some("StartError"));

        let nobody = ContainerId("0".repeat(64));
        for (target, words) in [
            (&target, "container app is not running - in state exited"),
            (&nobody, &*format!("container {nobody} does not exist")),
        ] {
            let made = runtime
                .create_container(&pod.id, among(target, "true"))
                .await;
            let words = format!("invalid target container: {words}");
            assert_eq!(made.unwrap_err().to_string(), words);
        }
    });
}
