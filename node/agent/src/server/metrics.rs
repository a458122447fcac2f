//! `GET /metrics`: the daemon's own numbers, by the kubelet's names where it has one for the thing.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use jiff::Timestamp;
use vetch_runtime::{ContainerState, Owner, SandboxStatus};

use super::container_logs::text;
use super::process::Process;
use super::prometheus::Kind::{Counter, Gauge};
use super::prometheus::Text;
use super::{Shared, running};
use crate::node::chain;
use crate::node::machine::go_architecture;
use crate::version;

struct Numbers<'a> {
    node_name: &'a str,
    sandboxes: Vec<SandboxStatus>,
    process: Process,
    /// Until the serving certificate ends; below zero when it has.
    certificate_seconds: Option<f64>,
}

pub async fn get(State(shared): State<Shared>) -> Response {
    let process = match Process::read() {
        Ok(process) => process,
        Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, chain(&error)),
    };
    let now = Timestamp::now();
    let ends = shared.serving.ends();
    let numbers = Numbers {
        node_name: &shared.settings.node_name,
        sandboxes: shared.runtime.list().await,
        process,
        certificate_seconds: ends.map(|ends| ends.duration_since(now).as_secs_f64()),
    };
    render(numbers).into_response()
}

fn render(numbers: Numbers<'_>) -> Text {
    let mut text = Text::default();
    let mut one = |name, kind, help, value: Option<f64>| {
        if let Some(value) = value {
            text.family(name, kind, help).sample(&[], value, None);
        }
    };
    let process = &numbers.process;
    one(
        "kubelet_certificate_manager_server_ttl_seconds",
        Gauge,
        "How long the serving certificate is good, in seconds; below zero when it has ended",
        numbers.certificate_seconds,
    );
    one(
        "process_cpu_seconds_total",
        Counter,
        "Processor time that this process used, in seconds",
        Some(process.cpu_seconds),
    );
    one(
        "process_max_fds",
        Gauge,
        "The most descriptors that this process may have open",
        process.max_descriptors.map(|most| most as f64),
    );
    one(
        "process_open_fds",
        Gauge,
        "Descriptors that this process has open",
        Some(process.descriptors as f64),
    );
    one(
        "process_resident_memory_bytes",
        Gauge,
        "Memory of this process",
        Some(process.resident_bytes as f64),
    );
    one(
        "process_start_time_seconds",
        Gauge,
        "When this process was started, in seconds since 1970",
        Some(process.started.as_millisecond() as f64 / 1000.0),
    );
    one(
        "process_virtual_memory_bytes",
        Gauge,
        "Addresses that this process has in use, in bytes",
        Some(process.virtual_bytes as f64),
    );
    text.family("kubelet_node_name", Gauge, "1 for the node's name")
        .sample(&[("node", numbers.node_name)], 1.0, None);
    let platform = format!(
        "{}/{}",
        std::env::consts::OS,
        go_architecture(std::env::consts::ARCH)
    );
    let build = [
        ("git_version", version::KUBELET),
        ("major", "1"),
        ("minor", "36"),
        ("platform", &platform),
    ];
    text.family("kubernetes_build_info", Gauge, "1 for what this is")
        .sample(&build, 1.0, None);
    let mut family = text.family(
        "kubelet_running_containers",
        Gauge,
        "Containers of the node's pods, by their state",
    );
    for (state, count) in by_state(&numbers.sandboxes) {
        family.sample(&[("container_state", state)], f64::from(count), None);
    }
    let pods = running::pods(numbers.sandboxes).len();
    text.family(
        "kubelet_running_pods",
        Gauge,
        "Pods of the node that have a sandbox",
    )
    .sample(&[], pods as f64, None);
    text
}

/// States that none is in are there too: an alert wants the 0.
fn by_state(sandboxes: &[SandboxStatus]) -> BTreeMap<&'static str, u32> {
    use ContainerState::{Created, Exited, Running, Unknown};
    let mut counts: BTreeMap<_, _> = [Created, Exited, Running, Unknown]
        .map(|state| (word(state), 0))
        .into();
    let own = sandboxes.iter().filter(|of| of.spec.owner == Owner::Node);
    for container in own.flat_map(|sandbox| &sandbox.containers) {
        *counts.entry(word(container.state)).or_default() += 1;
    }
    counts
}

fn word(state: ContainerState) -> &'static str {
    match state {
        ContainerState::Created => "created",
        ContainerState::Running => "running",
        ContainerState::Exited => "exited",
        ContainerState::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use vetch_runtime::SandboxState;

    use super::*;
    use crate::pods::testing::{at, container, exited, sandbox};

    #[test]
    fn the_names_that_people_alert_on() {
        let mut clients = sandbox(
            5,
            SandboxState::Ready,
            vec![container("app", 0, ContainerState::Running)],
        );
        clients.spec.owner = Owner::Cri;
        let own = vec![
            exited("init", 0, 0),
            exited("app", 0, 1),
            container("app", 1, ContainerState::Running),
        ];
        let numbers = Numbers {
            node_name: "n1",
            sandboxes: vec![
                sandbox(1, SandboxState::Ready, own),
                sandbox(0, SandboxState::NotReady, vec![]),
                clients,
            ],
            process: Process {
                cpu_seconds: 1.5,
                resident_bytes: 4096,
                virtual_bytes: 8192,
                started: at(100),
                descriptors: 9,
                max_descriptors: Some(1024),
            },
            certificate_seconds: Some(60.0),
        };
        let text = String::from(render(numbers));
        let lines: Vec<&str> = text.lines().collect();
        for want in [
            "kubelet_running_pods 1",
            "kubelet_running_containers{container_state=\"created\"} 0",
            "kubelet_running_containers{container_state=\"exited\"} 2",
            "kubelet_running_containers{container_state=\"running\"} 1",
            "kubelet_running_containers{container_state=\"unknown\"} 0",
            "kubelet_node_name{node=\"n1\"} 1",
            "kubelet_certificate_manager_server_ttl_seconds 60",
            "process_cpu_seconds_total 1.5",
            "process_max_fds 1024",
            "process_open_fds 9",
            "process_resident_memory_bytes 4096",
            "process_start_time_seconds 100",
            "process_virtual_memory_bytes 8192",
            "# TYPE process_cpu_seconds_total counter",
        ] {
            assert!(lines.contains(&want), "{want} in\n{text}");
        }
    }
}
