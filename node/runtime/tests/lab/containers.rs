//! From start to end, and what is told of it.

use std::fs;
use std::time::{Duration, Instant};

use vetch_runtime::*;

use crate::specs::*;

#[test]
fn exit_codes_reasons_and_logs() {
    with_sandbox(async |lab, runtime, pod| {
        let script = "echo out; echo err >&2; printf 'no newline'; exit 7";
        let before = jiff::Timestamp::now();
        let id = run(runtime, &pod.id, shell(script)).await;
        let end = exited(runtime, &id).await;
        assert_eq!(end.exit_code, Some(7));
        assert_eq!((end.reason.as_deref(), end.signal), (Some("Error"), None));
        let times = [
            Some(before),
            Some(end.created_at),
            end.started_at,
            end.finished_at,
        ];
        assert!(
            times.is_sorted() && times.iter().all(Option::is_some),
            "{times:?}"
        );

        let log = lab.logs.join("pod/app/0.log");
        let line = |stream: &str, tag: &str, text: &str| Line {
            stream: stream.into(),
            tag: tag.into(),
            text: text.into(),
        };
        let got = lines(&log);
        assert_eq!(got.len(), 3, "{got:?}");
        assert!(got.contains(&line("stdout", "F", "out")), "{got:?}");
        assert!(got.contains(&line("stderr", "F", "err")), "{got:?}");
        assert!(got.contains(&line("stdout", "P", "no newline")), "{got:?}");

        for (script, code, signal, reason) in [
            ("exit 0", 0, None, "Completed"),
            ("kill -9 $$; exit 1", 1, None, "Error"),
            ("sh -c 'kill -9 $$'; exit $?", 137, None, "Error"),
        ] {
            let id = run(runtime, &pod.id, shell(script)).await;
            let end = exited(runtime, &id).await;
            assert_eq!(end.exit_code, Some(code), "{script}");
            assert_eq!(end.signal, signal, "{script}");
            assert_eq!(end.reason.as_deref(), Some(reason), "{script}");
        }
    });
}

#[test]
fn stopping_asks_first_and_then_kills() {
    with_sandbox(async |lab, runtime, pod| {
        let id = run(runtime, &pod.id, sleeper()).await;
        let log = lab.logs.join("pod/app/0.log");
        crate::guard::wait_for("its trap to be set", || text(&log).contains("ready"));
        runtime
            .stop_container(&id, Duration::from_secs(20))
            .await
            .unwrap();
        let end = status(runtime, &id).await;
        assert_eq!((end.exit_code, end.signal), (Some(3), None));
        assert_eq!(text(&log), "ready\nbye");
        // Again is fine.
        runtime
            .stop_container(&id, Duration::from_secs(20))
            .await
            .unwrap();

        let stubborn = ContainerSpec {
            log_path: "app/1.log".into(),
            ..shell("trap '' TERM; echo ready; setsid sleep 1000 & while :; do sleep 1000; done")
        };
        let id = run(runtime, &pod.id, stubborn).await;
        let log = lab.logs.join("pod/app/1.log");
        crate::guard::wait_for("its trap to be set", || text(&log).contains("ready"));
        let grace = Duration::from_millis(300);
        let start = Instant::now();
        runtime.stop_container(&id, grace).await.unwrap();
        assert!(start.elapsed() >= grace);
        let end = status(runtime, &id).await;
        assert_eq!((end.exit_code, end.signal), (Some(137), Some(9)));
        runtime.remove_container(&id).await.unwrap();
        runtime.remove_container(&id).await.unwrap();
        assert_eq!(runtime.sandbox(&pod.id).await.unwrap().containers.len(), 1);

        let by_name = ContainerSpec {
            stop_signal: Some("SIGUSR1".into()),
            log_path: "app/2.log".into(),
            ..shell("trap 'exit 9' USR1; echo ready; while :; do sleep 1000 & wait; done")
        };
        let id = run(runtime, &pod.id, by_name).await;
        let log = lab.logs.join("pod/app/2.log");
        crate::guard::wait_for("its trap to be set", || text(&log).contains("ready"));
        runtime
            .stop_container(&id, Duration::from_secs(20))
            .await
            .unwrap();
        assert_eq!(status(runtime, &id).await.exit_code, Some(9));
    });
}

#[test]
fn what_cannot_run_says_why() {
    with_sandbox(async |lab, runtime, pod| {
        let command = |words: &[&str]| ContainerSpec {
            command: words.iter().map(|word| (*word).to_owned()).collect(),
            args: vec![],
            ..shell("")
        };
        let missing = lab.path("missing");
        let table = [
            (
                command(&["nothing"]),
                "exec: \"nothing\": executable file not found in $PATH",
            ),
            (
                command(&["/no/such"]),
                "exec: \"/no/such\": stat /no/such: no such file or directory",
            ),
            (
                command(&["/etc/passwd"]),
                "exec: \"/etc/passwd\": permission denied",
            ),
            (command(&["/etc"]), "exec: \"/etc\": is a directory"),
            (
                ContainerSpec {
                    working_dir: Some("/etc/passwd".into()),
                    ..shell("")
                },
                "mkdir /etc/passwd: not a directory",
            ),
            (
                ContainerSpec {
                    mounts: vec![bind(&missing, "/x")],
                    ..shell("")
                },
                "no such file or directory",
            ),
            (
                ContainerSpec {
                    mounts: vec![Mount {
                        propagation: Propagation::Bidirectional,
                        ..bind("/tmp".as_ref(), "/x")
                    }],
                    ..shell("")
                },
                "but it is not a shared mount",
            ),
            (
                ContainerSpec {
                    log_path: "/proc/nothing/0.log".into(),
                    ..shell("")
                },
                "opening log /proc/nothing/0.log: no such file or directory",
            ),
        ];
        for (spec, words) in table {
            let id = runtime.create_container(&pod.id, spec).await.unwrap();
            let error = runtime.start_container(&id).await.unwrap_err();
            let Error::Start(message) = &error else {
                panic!("{error:?}");
            };
            assert!(message.contains(words), "{message:?}, not {words:?}");
            let end = status(runtime, &id).await;
            assert_eq!(end.state, ContainerState::Exited, "{words}");
            assert_eq!(
                (end.exit_code, end.reason.as_deref()),
                (Some(128), Some("StartError"))
            );
            assert_eq!(end.message, Some(error.to_string()));
            assert_eq!(end.started_at, None);
            // A container is started once.
            let again = runtime.start_container(&id).await;
            assert!(matches!(again, Err(Error::WrongState { .. })), "{again:?}");
        }
        for (spec, words) in [
            (
                ContainerSpec {
                    image_id: "sha256:12345678".into(),
                    ..shell("")
                },
                "image sha256:12345678 is not in the store",
            ),
            (
                ContainerSpec {
                    stop_signal: Some("SIGFOO".into()),
                    ..shell("")
                },
                "unknown signal \"SIGFOO\"",
            ),
            (
                ContainerSpec {
                    capabilities_add: vec!["FLY".into()],
                    ..shell("")
                },
                "invalid capability \"FLY\"",
            ),
        ] {
            let error = runtime.create_container(&pod.id, spec).await.unwrap_err();
            assert_eq!(error.to_string(), words);
        }
        assert_eq!(runtime.sandbox(&pod.id).await.unwrap().containers.len(), 8);
    });
}

#[test]
fn a_container_that_starts_again_has_a_fresh_file_system() {
    with_sandbox(async |lab, runtime, pod| {
        let descriptors =
            || crate::guard::entries(format!("/proc/{}/fd", pod.shim_pid.unwrap()).as_ref()).len();
        let before = descriptors();
        for attempt in 0..3 {
            let spec = ContainerSpec {
                attempt,
                log_path: format!("app/{attempt}.log").into(),
                ..shell("test ! -e /mark || exit 9; touch /mark; echo $$; exit 1")
            };
            let id = run(runtime, &pod.id, spec).await;
            let end = exited(runtime, &id).await;
            assert_eq!((end.exit_code, end.attempt), (Some(1), attempt));
            assert_eq!(text(&lab.logs.join(format!("pod/app/{attempt}.log"))), "1");
            runtime.remove_container(&id).await.unwrap();
        }
        crate::guard::wait_for("descriptors to be closed", || descriptors() == before);
        // The supervisor forgets them as well.
        let id = run(runtime, &pod.id, sleeper()).await;
        let state = lab
            .config
            .run_dir
            .join("sandboxes")
            .join(&pod.id.0)
            .join("state.json");
        let state: vetch_shim::protocol::State =
            serde_json::from_slice(&fs::read(state).unwrap()).unwrap();
        assert_eq!(state.containers.into_keys().collect::<Vec<_>>(), [id.0]);
    });
}

/// `Runtime::missing_controllers` is the reason where it does not run.
#[test]
#[ignore = "needs the memory controller in cgroup v2, which hybrid hosts lack"]
fn a_container_out_of_memory_is_told_apart() {
    with_sandbox(async |_, runtime, pod| {
        assert!(
            !runtime.missing_controllers().contains(&"memory".to_owned()),
            "run this where the memory controller is on cgroup v2"
        );
        let spec = ContainerSpec {
            resources: Resources {
                memory_max: Some(16 << 20),
                ..Resources::default()
            },
            ..shell("tail /dev/zero; sleep 1000")
        };
        let id = run(runtime, &pod.id, spec).await;
        let end = exited(runtime, &id).await;
        assert_eq!(
            (end.exit_code, end.reason.as_deref()),
            (Some(137), Some("OOMKilled"))
        );
    });
}
