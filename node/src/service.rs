//! `vetch-node service`: frontends and their backends, from the kernel's maps.

use anyhow::{Context as _, Result, bail};
use vetch_proxy::inspect::{self, ConnectLatency, Service, ServiceDetail};

use crate::cli::ServiceCommand;
use crate::table::{self, Table};

pub fn main(command: &ServiceCommand) -> Result<()> {
    match command {
        ServiceCommand::Ls(maps) => {
            let services = inspect::services(&maps.pin_dir).with_context(|| maps.no_node())?;
            table::print(maps.output, &services, || list(&services))
        }
        ServiceCommand::Show { maps, frontend } => {
            let service = inspect::service(&maps.pin_dir, *frontend);
            let Some(service) = service.with_context(|| maps.no_node())? else {
                bail!("no service is at {frontend}: `vetch-node service ls` lists them");
            };
            table::print(maps.output, &service, || show(&service))
        }
    }
}

fn list(services: &[Service]) -> String {
    let mut table = Table::new([
        "FRONTEND",
        "NUMBER",
        "EXPOSED",
        "POLICY",
        "AFFINITY",
        "BALANCE",
        "CLUSTER",
        "LOCAL",
        "CONNECTIONS",
        "REFUSED",
    ]);
    for service in services {
        table.row([
            frontend(service),
            service.service.to_string(),
            exposed(service).to_owned(),
            policy(service).to_owned(),
            affinity(service),
            service.balance.to_owned(),
            service.cluster_backends.to_string(),
            service.local_backends.to_string(),
            service.connections.to_string(),
            service.refused.to_string(),
        ]);
    }
    table.text()
}

fn show(detail: &ServiceDetail) -> String {
    let service = &detail.service;
    let ranges: Vec<String> = detail
        .allowed_ranges
        .iter()
        .map(ToString::to_string)
        .collect();
    let mut head = Table::new(["FRONTEND", &frontend(service)]);
    for (name, value) in [
        ("NUMBER", service.service.to_string()),
        ("EXPOSED", exposed(service).to_owned()),
        (
            "INTERNAL POLICY",
            service.internal_traffic_policy.to_owned(),
        ),
        (
            "EXTERNAL POLICY",
            service.external_traffic_policy.to_owned(),
        ),
        ("SOURCE RANGES", or_dash(ranges.join(","))),
        ("AFFINITY", affinity(service)),
        ("BALANCE", service.balance.to_owned()),
        ("CONNECTIONS", service.connections.to_string()),
        ("REFUSED", service.refused.to_string()),
        ("BYTES IN", service.bytes_in.to_string()),
        ("BYTES OUT", service.bytes_out.to_string()),
        ("CONNECT p50", latency(detail, |took| took.p50_microseconds)),
        ("CONNECT p90", latency(detail, |took| took.p90_microseconds)),
        ("CONNECT p99", latency(detail, |took| took.p99_microseconds)),
        ("ALL FRONTENDS", detail.frontends.join(",")),
    ] {
        head.row([name.to_owned(), value]);
    }
    let mut backends = Table::new(["BACKEND", "CLUSTER", "LOCAL", "LIVE", "STATE"]);
    for backend in &detail.backends {
        let share = |slots: usize| {
            or_dash(if slots == 0 {
                String::new()
            } else {
                slots.to_string()
            })
        };
        backends.row([
            backend.address.to_string(),
            share(backend.cluster_slots),
            share(backend.local_slots),
            or_dash(
                backend
                    .live_connections
                    .map_or_else(String::new, |live| live.to_string()),
            ),
            if backend.draining {
                "draining"
            } else {
                "serving"
            }
            .to_owned(),
        ]);
    }
    format!("{}\n{}", head.text(), backends.text())
}

fn latency(detail: &ServiceDetail, which: impl Fn(&ConnectLatency) -> u64) -> String {
    let took = detail.connect_latency.as_ref();
    or_dash(took.map_or_else(String::new, |took| format!("{}µs", which(took))))
}

fn frontend(service: &Service) -> String {
    format!("{}/{}", service.address, service.protocol)
}

fn exposed(service: &Service) -> &'static str {
    match (service.external, service.source_ranges) {
        (false, _) => "cluster",
        (true, false) => "external",
        (true, true) => "ranges",
    }
}

/// The one that holds for clients from outside, where they come.
fn policy(service: &Service) -> &'static str {
    if service.external {
        service.external_traffic_policy
    } else {
        service.internal_traffic_policy
    }
}

fn affinity(service: &Service) -> String {
    or_dash(
        service
            .affinity_seconds
            .map_or_else(String::new, |seconds| format!("{seconds}s")),
    )
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".into() } else { text }
}

#[cfg(test)]
mod tests {
    use vetch_proxy::inspect::ServiceBackend;

    use super::*;

    fn service() -> Service {
        Service {
            address: "0.0.0.0:30080".parse().unwrap(),
            protocol: "TCP",
            service: 3,
            external: true,
            source_ranges: false,
            internal_traffic_policy: "Cluster",
            external_traffic_policy: "Local",
            affinity_seconds: None,
            balance: "random",
            cluster_backends: 2,
            local_backends: 1,
            connections: 7,
            refused: 0,
            bytes_in: 512,
            bytes_out: 65_536,
        }
    }

    fn words(text: &str) -> Vec<Vec<&str>> {
        text.lines()
            .map(|line| line.split_whitespace().collect())
            .collect()
    }

    #[test]
    fn a_row_a_frontend() {
        let inside = Service {
            address: "10.96.0.1:80".parse().unwrap(),
            external: false,
            affinity_seconds: Some(60),
            ..service()
        };
        let text = list(&[service(), inside]);
        let rows = words(&text);
        assert_eq!(
            rows[1],
            [
                "0.0.0.0:30080/TCP",
                "3",
                "external",
                "Local",
                "-",
                "random",
                "2",
                "1",
                "7",
                "0"
            ]
        );
        assert_eq!(rows[2][2..5], ["cluster", "Cluster", "60s"]);
    }

    #[test]
    fn a_service_and_its_backends() {
        let detail = ServiceDetail {
            service: service(),
            frontends: vec!["0.0.0.0:30080/TCP".into(), "10.96.0.1:80/TCP".into()],
            allowed_ranges: vec![],
            connect_latency: Some(ConnectLatency {
                connections: 7,
                mean_microseconds: 70,
                p50_microseconds: 60,
                p90_microseconds: 110,
                p99_microseconds: 128,
            }),
            backends: vec![
                ServiceBackend {
                    address: "10.1.0.1:8080".parse().unwrap(),
                    cluster_slots: 2,
                    local_slots: 0,
                    draining: false,
                    live_connections: None,
                },
                ServiceBackend {
                    address: "10.1.0.2:8080".parse().unwrap(),
                    cluster_slots: 0,
                    local_slots: 0,
                    draining: true,
                    live_connections: Some(3),
                },
            ],
        };
        let text = show(&detail);
        let rows = words(&text);
        assert_eq!(rows[0], ["FRONTEND", "0.0.0.0:30080/TCP"]);
        for row in [
            ["SOURCE", "RANGES", "-"],
            ["BYTES", "IN", "512"],
            ["BYTES", "OUT", "65536"],
            ["CONNECT", "p50", "60µs"],
            ["CONNECT", "p99", "128µs"],
        ] {
            assert!(rows.contains(&row.to_vec()), "{text}");
        }
        let backends = &rows[rows.len() - 3..];
        assert_eq!(
            backends[0],
            ["BACKEND", "CLUSTER", "LOCAL", "LIVE", "STATE"]
        );
        assert_eq!(backends[1], ["10.1.0.1:8080", "2", "-", "-", "serving"]);
        assert_eq!(backends[2], ["10.1.0.2:8080", "-", "-", "3", "draining"]);
    }
}
