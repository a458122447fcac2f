//! The counters of cAdvisor that monitoring knows, for kubelets that ask the runtime for them
//! (KEP-2371).

mod rows;

use vetch_cri_proto::v1::{
    ContainerMetrics, Metric, MetricDescriptor, MetricType, PodSandboxMetrics, UInt64Value,
};
use vetch_runtime::metrics::{CONTAINER, Kind, LINK, Row, Sample};
use vetch_runtime::{ContainerState, ContainerStatus, SandboxState};

use crate::{Cri, nanos};

use rows::CONFIGURED;

/// Labels of every metric; those of a link have its name beside them.
const LABELS: [&str; 2] = ["id", "name"];
const LINK_LABEL: &str = "interface";

pub fn descriptors() -> Vec<MetricDescriptor> {
    let mut all: Vec<MetricDescriptor> = Vec::new();
    let mut describe = |name: &str, help: &str, own: Option<&str>| {
        if all.iter().any(|known| known.name == name) {
            return;
        }
        let labels = LABELS.into_iter().chain(own);
        all.push(MetricDescriptor {
            name: name.into(),
            help: help.into(),
            label_keys: labels.map(str::to_owned).collect(),
        });
    };
    for row in CONTAINER.iter().chain(CONFIGURED) {
        describe(row.name, row.help, row.label.map(|(key, _)| key));
    }
    for row in LINK {
        describe(row.name, row.help, Some(LINK_LABEL));
    }
    all
}

impl Cri {
    /// Of what runs; what goes meanwhile is left out.
    pub async fn sandbox_metrics(&self) -> Vec<PodSandboxMetrics> {
        let mut all = Vec::new();
        for sandbox in self.runtime.list().await {
            if sandbox.state != SandboxState::Ready {
                continue;
            }
            let Ok(own) = self.runtime.sandbox_usage(&sandbox.id).await else {
                continue;
            };
            let mut metrics = Vec::new();
            for link in &own.links {
                let labels = [&sandbox.id.0, &sandbox.spec.name, &link.name];
                metrics.extend(values(LINK, link, nanos(own.usage.at), &labels));
            }
            let mut containers = Vec::new();
            for container in &sandbox.containers {
                let Some(sample) = self.sample(container).await else {
                    continue;
                };
                let at = nanos(sample.usage.usage.at);
                let labels = [&container.id.0, &container.name];
                containers.push(ContainerMetrics {
                    container_id: container.id.0.clone(),
                    metrics: values(CONTAINER, &sample, at, &labels)
                        .chain(values(CONFIGURED, &sample, at, &labels))
                        .collect(),
                });
            }
            all.push(PodSandboxMetrics {
                pod_sandbox_id: sandbox.id.0.clone(),
                metrics,
                container_metrics: containers,
            });
        }
        all
    }

    async fn sample(&self, container: &ContainerStatus) -> Option<Sample> {
        if container.state != ContainerState::Running {
            return None;
        }
        self.runtime.container_sample(&container.id).await.ok()
    }
}

fn values<'a, T>(
    rows: &'a [Row<T>],
    of: &'a T,
    at: i64,
    labels: &'a [&'a String],
) -> impl Iterator<Item = Metric> + 'a {
    rows.iter().filter_map(move |row| {
        // The interface has whole numbers only.
        let value = (row.value)(of)?;
        let own = row.label.map(|(_, value)| value.to_owned());
        Some(Metric {
            name: row.name.into(),
            timestamp: at,
            metric_type: kind(row.kind).into(),
            label_values: labels
                .iter()
                .map(|label| (*label).clone())
                .chain(own)
                .collect(),
            value: Some(UInt64Value {
                value: value as u64,
            }),
        })
    })
}

fn kind(kind: Kind) -> MetricType {
    match kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_described_once_with_all_its_labels() {
        let all = descriptors();
        let mut names: Vec<&str> = all.iter().map(|of| of.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len());
        for row in CONTAINER.iter().chain(CONFIGURED) {
            let of = all.iter().find(|of| of.name == row.name).unwrap();
            let labels = LABELS.len() + usize::from(row.label.is_some());
            assert_eq!(of.label_keys.len(), labels, "{}", row.name);
        }
    }
}
