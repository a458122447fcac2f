//! Daemons come and go; pods stay.

use std::fs;
use std::time::{Duration, Instant};

use vetch_runtime::*;

use crate::daemon::Daemon;
use crate::guard::{Lab, wait_for};
use crate::specs::*;

#[test]
fn a_pod_outlives_its_daemon() {
    let lab = Lab::enter();
    lab.block_on(async {
        let runtime = lab.runtime().await;
        let made = runtime
            .create_sandbox(sandbox(&lab.logs, "pod"))
            .await
            .unwrap();
        let counter = ContainerSpec {
            log_path: "counter/0.log".into(),
            ..shell("n=0; while :; do echo $n; n=$((n+1)); sleep 0.005; done")
        };
        let counter = run(&runtime, &made.id, counter).await;
        let alone = ContainerSpec {
            log_path: "alone/0.log".into(),
            ..shell("until test -e /dev/shm/go; do sleep 0.01; done; echo last words; exit 6")
        };
        let alone = run(&runtime, &made.id, alone).await;
        let created = runtime
            .create_container(&made.id, shell("exit 8"))
            .await
            .unwrap();
        let before = runtime.sandbox(&made.id).await.unwrap();
        let log = lab.logs.join("pod/counter/0.log");
        let count = || fs::read_to_string(&log).unwrap().lines().count();
        wait_for("the counter", || count() > 3);

        drop(runtime);
        let go = lab
            .config
            .run_dir
            .join("sandboxes")
            .join(&made.id.0)
            .join("shm/go");
        fs::write(go, "").unwrap();
        let state = lab
            .config
            .run_dir
            .join("sandboxes")
            .join(&made.id.0)
            .join("state.json");
        wait_for("an exit nobody is told of", || {
            fs::read_to_string(&state)
                .unwrap()
                .contains("\"exit_code\":6")
        });

        let runtime = lab.open().await;
        let after = runtime.sandbox(&made.id).await.unwrap();
        assert_eq!(after.state, SandboxState::Ready);
        assert_eq!(
            (after.shim_pid, &after.netns),
            (before.shim_pid, &before.netns)
        );
        assert_eq!(after.spec, before.spec);
        let end = status(&runtime, &alone).await;
        assert_eq!(
            (end.state, end.exit_code),
            (ContainerState::Exited, Some(6))
        );
        assert_eq!(text(&lab.logs.join("pod/alone/0.log")), "last words");
        let counted = count();
        wait_for("the counter goes on", || count() > counted);
        let still = status(&runtime, &counter).await;
        let was = before
            .containers
            .iter()
            .find(|container| container.id == counter);
        assert_eq!(Some(&still), was);

        // All that a daemon may want goes on.
        let words = vec!["hostname".to_owned()];
        let output = runtime
            .exec(&counter, words, Duration::from_secs(20))
            .await
            .unwrap();
        assert_eq!(output.stdout, b"pod\n");
        runtime.start_container(&created).await.unwrap();
        assert_eq!(exited(&runtime, &created).await.exit_code, Some(8));
        let another = run(&runtime, &made.id, shell("exit 9")).await;
        assert_eq!(exited(&runtime, &another).await.exit_code, Some(9));
        runtime
            .stop_container(&counter, Duration::ZERO)
            .await
            .unwrap();
        for (number, line) in lines(&log).iter().enumerate() {
            assert_eq!(line.text, number.to_string());
        }
        runtime.remove_sandbox(&made.id).await.unwrap();
        lab.assert_nothing_left();
    });
}

#[test]
fn a_daemon_may_be_killed_at_any_moment() {
    let lab = Lab::enter();
    lab.block_on(async {
        drop(lab.runtime().await);
        // More, and other moments, on request.
        let rounds = std::env::var("VETCH_LAB_ROUNDS").map_or(24, |text| text.parse().unwrap());
        for round in 0..rounds {
            let moment = Duration::from_micros(round * 8_923 % 214_000);
            let promises = Daemon::start(&lab).kill_after(moment);
            let runtime = lab.open().await;
            for (sandbox, container) in &promises {
                let found = runtime.sandbox(sandbox).await;
                let found = found.unwrap_or_else(|| panic!("{sandbox} is lost"));
                assert_eq!(found.state, SandboxState::Ready);
                let Some((id, what)) = container else {
                    continue;
                };
                let now = status(&runtime, id).await;
                match what.as_str() {
                    "sleeper" => assert_eq!(now.state, ContainerState::Running),
                    code => assert_eq!(now.exit_code, Some(code.parse().unwrap())),
                }
            }
            // Whatever it was at, the next one can use it and end it.
            for sandbox in runtime.list().await {
                for container in &sandbox.containers {
                    if container.state == ContainerState::Running {
                        assert_usable(&runtime, &container.id).await;
                    }
                }
                runtime.stop_sandbox(&sandbox.id).await.unwrap();
                runtime.remove_sandbox(&sandbox.id).await.unwrap();
            }
            lab.assert_nothing_left();
        }
    });
}

/// It may have been between fork and exec, and it may end.
async fn assert_usable(runtime: &Runtime, id: &ContainerId) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let words = vec!["true".to_owned()];
        let done = runtime.exec(id, words, Duration::from_secs(20)).await;
        if done.as_ref().is_ok_and(|output| output.exit_code == 0)
            || status(runtime, id).await.state == ContainerState::Exited
        {
            return;
        }
        assert!(Instant::now() < deadline, "{done:?}");
        tokio::task::yield_now().await;
    }
}

#[test]
fn after_a_reboot_only_images_are_there() {
    let lab = Lab::enter();
    lab.block_on(async {
        let runtime = lab.runtime().await;
        let made = runtime
            .create_sandbox(sandbox(&lab.logs, "pod"))
            .await
            .unwrap();
        run(&runtime, &made.id, sleeper()).await;
        drop(runtime);
        // The run directory is a tmpfs: a new one.
        fs::write(lab.config.cgroup_root.join("cgroup.kill"), "1").unwrap();
        wait_for("all to be dead", || lab.shims().is_empty());
        lab.release_cgroups();
        let config = RuntimeConfig {
            run_dir: lab.path("run-after-boot"),
            ..lab.config.clone()
        };
        // Cut while a layer was being unpacked.
        let torn = lab.config.root_dir.join("images/tmp/torn");
        fs::create_dir_all(torn.join("usr")).unwrap();

        let runtime = Runtime::open(config).await.unwrap();
        assert_eq!(runtime.list().await, []);
        assert!(
            runtime
                .images()
                .status(crate::image::BUSYBOX)
                .await
                .is_some()
        );
        for gone in ["containers", "images/pins", "images/tmp"] {
            let left = crate::guard::entries(&lab.config.root_dir.join(gone));
            assert_eq!(left, Vec::<String>::new(), "{gone}");
        }
    });
}
