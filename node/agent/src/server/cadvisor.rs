//! `GET /metrics/cadvisor`: cAdvisor's metrics of the containers and links of the node's pods.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use jiff::Timestamp;
use vetch_runtime::metrics::{CONTAINER, Kind, LINK, Row, Sample};
use vetch_runtime::{LinkUsage, Runtime};

use super::prometheus::Text;
use super::{Shared, running};
use crate::node::machine::Machine;

/// Whose a sample is, by the labels of all its metrics.
type Labels = Vec<(&'static str, String)>;

/// What was measured of one thing, and when.
struct Of<T> {
    labels: Labels,
    at: Timestamp,
    found: T,
}

#[derive(Default)]
struct Found {
    containers: Vec<Of<Sample>>,
    links: Vec<Of<LinkUsage>>,
}

pub async fn get(State(shared): State<Shared>) -> Response {
    let found = look(&shared.runtime).await;
    render(&shared.settings.machine, &found).into_response()
}

/// At what runs; what goes meanwhile is left out.
async fn look(runtime: &Runtime) -> Found {
    let mut all = Found::default();
    for sandbox in running::pods(runtime.list().await) {
        let spec = &sandbox.spec;
        let pod = || {
            [
                ("namespace", spec.namespace.clone()),
                ("pod", spec.name.clone()),
            ]
        };
        if let Ok(own) = runtime.sandbox_usage(&sandbox.id).await {
            let at = own.usage.at;
            all.links.extend(own.links.into_iter().map(|link| {
                Of {
                    labels: [("interface", link.name.clone())]
                        .into_iter()
                        .chain(pod())
                        .collect(),
                    at,
                    found: link,
                }
            }));
        }
        for container in running::containers(&sandbox) {
            let Ok(sample) = runtime.container_sample(&container.id).await else {
                continue;
            };
            let own = [
                ("container", container.name.clone()),
                ("id", sample.cgroup.clone()),
                ("image", container.image.clone()),
                ("name", container.id.0.clone()),
            ];
            all.containers.push(Of {
                labels: own.into_iter().chain(pod()).collect(),
                at: sample.usage.usage.at,
                found: sample,
            });
        }
    }
    all
}

fn render(machine: &Machine, found: &Found) -> Text {
    let mut text = Text::default();
    rows(&mut text, CONTAINER, &found.containers);
    rows(&mut text, LINK, &found.links);
    let mut of_machine = |name, help, value: u64| {
        text.family(name, Kind::Gauge, help)
            .sample(&[], value as f64, None);
    };
    of_machine(
        "machine_cpu_cores",
        "Processors that the node may use",
        machine.cpus,
    );
    of_machine(
        "machine_memory_bytes",
        "Memory of the machine",
        machine.memory_bytes,
    );
    text
}

fn rows<T>(text: &mut Text, rows: &[Row<T>], all: &[Of<T>]) {
    for rows in rows.chunk_by(|one, next| one.name == next.name) {
        let mut family = text.family(rows[0].name, rows[0].kind, rows[0].help);
        for of in all {
            for row in rows {
                let Some(value) = (row.value)(&of.found) else {
                    continue;
                };
                let labels = of.labels.iter().map(|(key, value)| (*key, value.as_str()));
                let labels: Vec<(&str, &str)> = labels.chain(row.label).collect();
                family.sample(&labels, value, Some(of.at));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use vetch_runtime::metrics::Disk;
    use vetch_runtime::{ContainerUsage, Counters, DiskUsage, ProcessUsage, Resources};

    use super::*;
    use crate::pods::testing::at;
    use crate::server::stats::testing::{load, memory_of};

    #[test]
    fn containers_links_and_the_machine() {
        let usage = load(20, Some(memory_of(500))).usage;
        let sample = Sample {
            cgroup: "/kubepods/podu/c".into(),
            usage: ContainerUsage {
                usage,
                writable: DiskUsage {
                    bytes: 30,
                    inodes: 1,
                },
            },
            processes: ProcessUsage::default(),
            resources: Resources::default(),
            started_at: Some(at(100)),
            disk: Disk {
                bytes: 1,
                inodes: 2,
                inodes_free: 3,
            },
        };
        let link = LinkUsage {
            name: "eth0".into(),
            rx: Counters {
                bytes: 77,
                ..Counters::default()
            },
            tx: Counters::default(),
        };
        let found = Found {
            containers: vec![Of {
                labels: vec![("container", "app".into()), ("pod", "web".into())],
                at: at(1000),
                found: sample,
            }],
            links: vec![Of {
                labels: vec![("interface", "eth0".into()), ("pod", "web".into())],
                at: at(1000),
                found: link,
            }],
        };
        let machine = Machine {
            cpus: 4,
            memory_bytes: 1 << 30,
            ..Machine::default()
        };
        let text = String::from(render(&machine, &found));
        let lines: Vec<&str> = text.lines().collect();
        let app = r#"container="app",pod="web""#;
        for want in [
            &format!("container_cpu_usage_seconds_total{{{app}}} 20 1000000"),
            &format!("container_memory_working_set_bytes{{{app}}} 499 1000000"),
            &format!(
                r#"container_memory_failures_total{{{app},failure_type="pgfault"}} 5 1000000"#
            ),
            &format!(
                r#"container_memory_failures_total{{{app},failure_type="pgmajfault"}} 1 1000000"#
            ),
            &format!("container_fs_usage_bytes{{{app}}} 30 1000000"),
            &format!("container_start_time_seconds{{{app}}} 100 1000000"),
            r#"container_network_receive_bytes_total{interface="eth0",pod="web"} 77 1000000"#,
            "machine_cpu_cores 4",
            "machine_memory_bytes 1073741824",
        ] {
            assert!(lines.contains(&want), "{want} in\n{text}");
        }
        let headings = lines
            .iter()
            .filter(|line| line.starts_with("# TYPE container_memory_failures_total "));
        assert_eq!(headings.count(), 1);
        // No device was counted.
        assert!(!text.contains("container_fs_reads_total"), "{text}");
    }
}
