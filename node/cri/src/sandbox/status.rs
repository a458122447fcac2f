//! From what the runtime knows of a sandbox to CRI's messages.

use std::collections::HashMap;
use std::net::IpAddr;

use serde_json::json;
use vetch_cri_proto::v1::{
    IdMapping, LinuxPodSandboxStatus, Namespace, NamespaceMode, NamespaceOption, PodIp, PodSandbox,
    PodSandboxMetadata, PodSandboxNetworkStatus, PodSandboxState, PodSandboxStatus, UserNamespace,
};
use vetch_runtime::{IdMap, SandboxSpec, SandboxState, SandboxStatus};

use crate::filter::to_map;
use crate::nanos;

pub fn state(sandbox: &SandboxStatus) -> i32 {
    match sandbox.state {
        SandboxState::Ready => PodSandboxState::SandboxReady.into(),
        SandboxState::NotReady => PodSandboxState::SandboxNotready.into(),
    }
}

pub fn metadata(spec: &SandboxSpec) -> PodSandboxMetadata {
    PodSandboxMetadata {
        name: spec.name.clone(),
        uid: spec.pod_uid.clone(),
        namespace: spec.namespace.clone(),
        attempt: spec.attempt,
    }
}

pub fn listed(sandbox: &SandboxStatus) -> PodSandbox {
    PodSandbox {
        id: sandbox.id.0.clone(),
        metadata: Some(metadata(&sandbox.spec)),
        state: state(sandbox),
        created_at: nanos(sandbox.created_at),
        labels: to_map(&sandbox.spec.labels),
        annotations: to_map(&sandbox.spec.annotations),
        runtime_handler: String::new(),
    }
}

/// Addresses only while it is ready, the first one first.
pub fn whole(sandbox: &SandboxStatus, addresses: &[IpAddr]) -> PodSandboxStatus {
    let ready = sandbox.state == SandboxState::Ready;
    let mut ips = addresses.iter().filter(|_| ready).map(IpAddr::to_string);
    PodSandboxStatus {
        id: sandbox.id.0.clone(),
        metadata: Some(metadata(&sandbox.spec)),
        state: state(sandbox),
        created_at: nanos(sandbox.created_at),
        network: Some(PodSandboxNetworkStatus {
            ip: ips.next().unwrap_or_default(),
            additional_ips: ips.map(|ip| PodIp { ip }).collect(),
        }),
        linux: Some(LinuxPodSandboxStatus {
            namespaces: Some(Namespace {
                options: Some(namespaces(&sandbox.spec)),
            }),
        }),
        labels: to_map(&sandbox.spec.labels),
        annotations: to_map(&sandbox.spec.annotations),
        runtime_handler: String::new(),
    }
}

fn namespaces(spec: &SandboxSpec) -> NamespaceOption {
    let mode =
        |host: bool, own: NamespaceMode| i32::from(if host { NamespaceMode::Node } else { own });
    let pid = if spec.share_process_namespace {
        NamespaceMode::Pod
    } else {
        NamespaceMode::Container
    };
    NamespaceOption {
        network: mode(spec.host_network, NamespaceMode::Pod),
        pid: mode(spec.host_pid, pid),
        ipc: mode(spec.host_ipc, NamespaceMode::Pod),
        target_id: String::new(),
        userns_options: spec.id_map().map(user_namespace),
    }
}

fn user_namespace(map: IdMap) -> UserNamespace {
    let mapping = vec![IdMapping {
        host_id: map.host_id,
        container_id: 0,
        length: map.length,
    }];
    UserNamespace {
        mode: NamespaceMode::Pod.into(),
        uids: mapping.clone(),
        gids: mapping,
    }
}

/// For people: `crictl inspectp`.
pub fn info(sandbox: &SandboxStatus) -> HashMap<String, String> {
    let info = json!({
        "pid": sandbox.shim_pid,
        "netns": sandbox.netns,
        "config": sandbox.spec,
    });
    [("info".to_owned(), info.to_string())].into()
}
