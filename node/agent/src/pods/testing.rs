//! Pods, sandboxes and containers for tables.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use vetch_runtime::{
    ContainerId, ContainerState, ContainerStatus, QosClass, Resources, SandboxId, SandboxSpec,
    SandboxState, SandboxStatus,
};

use super::seen::Seen;

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// `web` in `shop`, uid `u`, generation 1.
pub fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop", "uid": "u", "generation": 1},
        "spec": spec,
    }))
    .unwrap()
}

/// `name` with id `name-attempt`, made and started at 100 × attempt seconds,
/// ended one second later with exit code 1 when exited.
pub fn container(name: &str, attempt: u32, state: ContainerState) -> ContainerStatus {
    let made = at(100 * i64::from(attempt));
    let exited = state == ContainerState::Exited;
    ContainerStatus {
        id: ContainerId(format!("{name}-{attempt}")),
        name: name.to_owned(),
        attempt,
        state,
        image: "echo:v1".to_owned(),
        image_id: "sha256:1".to_owned(),
        pid: None,
        created_at: made,
        started_at: (state != ContainerState::Created).then_some(made),
        finished_at: exited.then(|| made + jiff::SignedDuration::from_secs(1)),
        exit_code: exited.then_some(1),
        signal: None,
        reason: exited.then(|| "Error".to_owned()),
        message: None,
        log_path: format!("{name}/{attempt}.log").into(),
        labels: Default::default(),
        annotations: Default::default(),
        user: None,
    }
}

pub fn exited(name: &str, attempt: u32, code: i32) -> ContainerStatus {
    let reason = if code == 0 { "Completed" } else { "Error" };
    ContainerStatus {
        exit_code: Some(code),
        reason: Some(reason.to_owned()),
        ..container(name, attempt, ContainerState::Exited)
    }
}

/// Of that attempt, with id `s<attempt>`.
pub fn sandbox(
    attempt: u32,
    state: SandboxState,
    containers: Vec<ContainerStatus>,
) -> SandboxStatus {
    SandboxStatus {
        id: SandboxId(format!("s{attempt}")),
        spec: SandboxSpec {
            owner: vetch_runtime::Owner::Node,
            pod_uid: "u".to_owned(),
            name: "web".to_owned(),
            namespace: "shop".to_owned(),
            attempt,
            hostname: "web".to_owned(),
            host_network: false,
            host_ipc: false,
            host_pid: false,
            share_process_namespace: false,
            user_namespace: None,
            qos: QosClass::BestEffort,
            cgroup_parent: None,
            resources: Resources::default(),
            sysctls: Default::default(),
            labels: Default::default(),
            annotations: Default::default(),
            log_directory: "/logs".into(),
        },
        state,
        created_at: at(i64::from(attempt)),
        netns: None,
        shim_pid: None,
        containers,
    }
}

/// In one ready sandbox.
pub fn seen(containers: Vec<ContainerStatus>) -> Seen {
    Seen::new(vec![sandbox(0, SandboxState::Ready, containers)])
}
