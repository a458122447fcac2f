//! Pods and containers in few words.

use std::path::Path;
use std::time::{Duration, Instant};

use vetch_runtime::*;

pub fn sandbox(logs: &Path, name: &str) -> SandboxSpec {
    SandboxSpec {
        owner: Owner::Node,
        pod_uid: format!("uid-{name}"),
        name: name.into(),
        namespace: "default".into(),
        attempt: 0,
        hostname: name.into(),
        host_network: false,
        host_ipc: false,
        host_pid: false,
        share_process_namespace: false,
        user_namespace: None,
        qos: QosClass::Burstable,
        cgroup_parent: None,
        resources: Resources::default(),
        sysctls: Default::default(),
        labels: [("io.kubernetes.pod.name".to_owned(), name.to_owned())].into(),
        annotations: Default::default(),
        log_directory: logs.join(name),
    }
}

/// A lab with one sandbox, which is removed without a trace at the end.
pub fn with_sandbox(test: impl AsyncFnOnce(&crate::guard::Lab, &Runtime, &SandboxStatus)) {
    let lab = crate::guard::Lab::enter();
    lab.block_on(async {
        let runtime = lab.runtime().await;
        let made = runtime
            .create_sandbox(sandbox(&lab.logs, "pod"))
            .await
            .unwrap();
        test(&lab, &runtime, &made).await;
        runtime.remove_sandbox(&made.id).await.unwrap();
        lab.assert_nothing_left();
    });
}

/// A shell that runs `script`.
pub fn shell(script: &str) -> ContainerSpec {
    ContainerSpec {
        name: "app".into(),
        attempt: 0,
        image_id: crate::image::BUSYBOX.into(),
        image: crate::image::BUSYBOX.into(),
        command: vec!["/bin/sh".into(), "-c".into()],
        args: vec![script.into()],
        working_dir: None,
        env: Vec::new(),
        mounts: Vec::new(),
        devices: Vec::new(),
        run_as_user: None,
        run_as_user_name: None,
        run_as_group: None,
        supplemental_groups: Vec::new(),
        only_given_groups: false,
        capabilities_add: Vec::new(),
        capabilities_drop: Vec::new(),
        capabilities_ambient: Vec::new(),
        privileged: false,
        no_new_privs: false,
        readonly_rootfs: false,
        masked_paths: None,
        readonly_paths: None,
        seccomp: Seccomp::Unconfined,
        apparmor: AppArmor::Unconfined,
        tty: false,
        stdin: false,
        stdin_once: false,
        pid_target: None,
        resources: Resources::default(),
        labels: Default::default(),
        annotations: Default::default(),
        log_path: "app/0.log".into(),
        stop_signal: None,
    }
}

/// One that runs until it is asked to stop.
pub fn sleeper() -> ContainerSpec {
    shell("trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 1000 & wait $!; done")
}

pub fn bind(host: &Path, container: &str) -> Mount {
    Mount {
        source: MountSource::Host(host.into()),
        container_path: container.into(),
        readonly: false,
        recursive_readonly: false,
        propagation: Propagation::Private,
    }
}

pub async fn run(runtime: &Runtime, sandbox: &SandboxId, spec: ContainerSpec) -> ContainerId {
    let id = runtime.create_container(sandbox, spec).await.unwrap();
    runtime.start_container(&id).await.unwrap();
    id
}

pub async fn status(runtime: &Runtime, id: &ContainerId) -> ContainerStatus {
    runtime
        .list()
        .await
        .into_iter()
        .flat_map(|sandbox| sandbox.containers)
        .find(|container| container.id == *id)
        .unwrap_or_else(|| panic!("no container {id}"))
}

/// Waits by the runtime's events, as the agent does.
pub async fn exited(runtime: &Runtime, id: &ContainerId) -> ContainerStatus {
    let mut events = runtime.subscribe();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let now = status(runtime, id).await;
        if now.state == ContainerState::Exited {
            return now;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        tokio::time::timeout(left, events.recv())
            .await
            .unwrap_or_else(|_| panic!("waited 20 s for the exit of {now:?}"))
            .unwrap();
    }
}

/// Runs a script to its end: exit code and what it wrote, stream by stream.
pub async fn outcome(
    runtime: &Runtime,
    sandbox: &SandboxStatus,
    mut spec: ContainerSpec,
) -> (i32, String) {
    spec.log_path = format!("{}/0.log", uuid::Uuid::new_v4().simple()).into();
    let log = sandbox.spec.log_directory.join(&spec.log_path);
    let id = run(runtime, &sandbox.id, spec).await;
    let code = exited(runtime, &id).await.exit_code.unwrap();
    (code, text(&log))
}

/// A line of a log in the CRI format.
#[derive(Debug, PartialEq)]
pub struct Line {
    pub stream: String,
    pub tag: String,
    pub text: String,
}

pub fn lines(log: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(log).unwrap();
    text.lines()
        .map(|line| {
            let mut parts = line.splitn(4, ' ');
            let mut next = || {
                parts
                    .next()
                    .unwrap_or_else(|| panic!("{line:?}"))
                    .to_owned()
            };
            let time = next();
            assert!(
                time.parse::<jiff::Timestamp>().is_ok() && time.len() == 30,
                "{line:?}"
            );
            Line {
                stream: next(),
                tag: next(),
                text: next(),
            }
        })
        .collect()
}

/// What was written to either stream.
pub fn text(log: &Path) -> String {
    let lines: Vec<String> = lines(log).into_iter().map(|line| line.text).collect();
    lines.join("\n")
}
