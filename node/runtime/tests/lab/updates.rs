//! Resources that change while containers run.

use std::fs;

use vetch_runtime::*;

use crate::specs::*;

const NOTE: &str = "example.com/note";

fn sized(cpu: i64, memory: i64) -> Resources {
    Resources {
        cpu_weight: Some(50),
        cpu_max: Some((cpu, 100_000)),
        memory_max: Some(memory),
        ..Resources::default()
    }
}

#[test]
fn an_update_is_kept_for_the_next_daemon() {
    with_sandbox(async |lab, runtime, pod| {
        let spec = ContainerSpec {
            resources: Resources {
                oom_score_adj: Some(500),
                ..sized(20_000, 64 << 20)
            },
            annotations: [("example.com/other".to_owned(), "stays".to_owned())].into(),
            ..sleeper()
        };
        let id = run(runtime, &pod.id, spec).await;
        let pid = status(runtime, &id).await.pid;
        let (whole, own) = (sized(50_000, 128 << 20), sized(30_000, 96 << 20));
        for _ in 0..2 {
            runtime
                .update_sandbox_resources(&pod.id, whole.clone())
                .await
                .unwrap();
            let note = [(NOTE.to_owned(), "grown".to_owned())].into();
            runtime
                .update_container(&id, own.clone(), note)
                .await
                .unwrap();
        }
        let missing = runtime.missing_controllers();
        let has = |name: &str| !missing.iter().any(|missing| missing == name);
        let cgroup = lab
            .config
            .cgroup_root
            .join("kubepods/burstable")
            .join(format!("pod{}", pod.spec.pod_uid));
        let read = |path: &str| fs::read_to_string(cgroup.join(path)).unwrap();
        if has("cpu") {
            assert_eq!(read("cpu.max"), "50000 100000\n");
            assert_eq!(read(&format!("{id}/cpu.max")), "30000 100000\n");
            assert_eq!(read(&format!("{id}/cpu.weight")), "50\n");
        }
        if has("memory") {
            assert_eq!(read("memory.max"), format!("{}\n", 128 << 20));
            assert_eq!(read(&format!("{id}/memory.max")), format!("{}\n", 96 << 20));
        }
        // Who has the controller counts, and only they.
        let counted = runtime.memory_of_container(&id);
        assert_eq!(counted.is_some_and(|bytes| bytes > 0), has("memory"));
        assert_eq!(runtime.memory_of_sandbox(&pod.id).is_some(), has("memory"));

        let next = lab.open().await;
        let found = next.sandbox(&pod.id).await.unwrap();
        assert_eq!(found.spec.resources, whole);
        let container = &found.containers[0];
        assert_eq!((&container.id, container.pid), (&id, pid));
        assert_eq!(container.annotations[NOTE], "grown");
        assert_eq!(container.annotations["example.com/other"], "stays");
    });
}

#[test]
fn what_the_kernel_has_not_is_not_left_out() {
    with_sandbox(async |lab, runtime, pod| {
        let offered = lab.config.cgroup_root.join("cgroup.controllers");
        let offered = fs::read_to_string(offered).unwrap();
        let has = offered.split_whitespace().any(|name| name == "cpuset");
        let spec = ContainerSpec {
            resources: Resources {
                cpuset_cpus: Some("0".into()),
                ..Resources::default()
            },
            ..sleeper()
        };
        match runtime.create_container(&pod.id, spec).await {
            Ok(id) => {
                assert!(has, "{offered}");
                runtime.start_container(&id).await.unwrap();
                let words = ["grep", "Cpus_allowed_list", "/proc/self/status"].map(str::to_owned);
                let limit = std::time::Duration::from_secs(20);
                let output = runtime.exec(&id, words.into(), limit).await.unwrap();
                assert_eq!(output.stdout, b"Cpus_allowed_list:\t0\n");
            }
            Err(refused) => {
                assert!(!has, "{offered}: {refused}");
                assert!(
                    refused.to_string().contains("the controller cpuset"),
                    "{refused}"
                );
            }
        }
    });
}

#[test]
fn what_has_ended_is_not_updated() {
    with_sandbox(async |_, runtime, pod| {
        let id = run(runtime, &pod.id, shell("exit 0")).await;
        exited(runtime, &id).await;
        let refused = runtime
            .update_container(&id, sized(20_000, 64 << 20), Default::default())
            .await
            .unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!("container {id} is exited, it must be created or running")
        );
        let nobody = ContainerId("f".repeat(64));
        assert!(matches!(
            runtime
                .update_container(&nobody, Resources::default(), Default::default())
                .await,
            Err(Error::ContainerNotFound(_))
        ));
    });
}
